//! What a dry run says beside what the run that follows it does, whatever database V2 is.

use std::fmt::Debug;

use super::{Outcome, Project};

/// Each of these ways to run is tried dry first, one after the other; then each is taken, and taken back (with these arguments). A dry run must end as
/// the run does, say the same, and leave what `whole` tells of V2 as it is. Returns what the runs said.
#[track_caller]
pub fn assert_foretold<W: PartialEq + Debug>(
    project: &Project,
    whole: impl Fn() -> W,
    ways: &[(&[&str], i32)],
    back: Option<&[&str]>,
) -> Vec<serde_json::Value> {
    let said = |outcome: &Outcome| {
        let mut value = outcome.result("migrate");
        for own in ["run", "duration", "samples"] {
            value.as_object_mut().unwrap().remove(own);
        }
        // Writers work side by side, so these come in any order.
        let rejects = value["first_rejects"].as_array_mut().unwrap();
        rejects.sort_by_cached_key(serde_json::Value::to_string);
        value
    };
    let before = whole();
    let foretold: Vec<_> = ways
        .iter()
        .map(|(way, code)| {
            let dry = project.run(&[&["migrate", "--dry-run", "--json"], *way].concat());
            assert_eq!(whole(), before, "a dry run has written: {way:?}");
            (dry, *code)
        })
        .collect();
    ways.iter()
        .zip(foretold)
        .map(|((way, code), (dry, _))| {
            let run = [&["migrate", "--force", "--json", "--skip-validation"], *way].concat();
            let run = project.run(&run).expect(*code);
            if let Some(back) = back {
                project.run(&[&["rollback", "--force"], back].concat()).expect(0);
            }
            let run = said(&run);
            let dry = dry.expect(*code);
            let text = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap();
            let (dry, real) = (text(&said(&dry)), text(&run));
            let differ: Vec<_> = dry.lines().zip(real.lines()).filter(|(dry, real)| dry != real).collect();
            assert!(dry == real, "{way:?}: {differ:#?}\n{dry}");
            run
        })
        .collect()
}

/// The sum of a count over all entities.
pub fn sum(result: &serde_json::Value, count: &str) -> u64 {
    result["entities"].as_array().unwrap().iter().map(|of| of[count].as_u64().unwrap()).sum()
}
