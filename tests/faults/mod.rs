//! What happens when things go wrong: networks, servers, disks, people who work at the same time, hostile data.
//!
//! The yardstick is always the same: once the same command has been run to its end, V2 must hold what an undisturbed
//! run leaves. `docs/faults.md` lists all faults, with the tests that stand for them.
//!
//! `V1V2_TEST_SEEDS=N` makes the seeded tests try N seeds each instead of two.

mod ahead;
mod circles;
mod cluster;
mod data;
mod disk;
mod hierarchy;
mod locks;
mod network;
mod pace;
mod people;
mod process;
mod secrets;
mod server;
pub mod session;
pub mod sources;
mod targets;
mod terminal;

use std::sync::LazyLock;

use crate::job::Job;
use crate::support::proxy::Proxy;
use crate::support::{Database, Digest, Outcome, Project, Running};

/// So many people that a run has some dozens of chunks.
const PEOPLE: u32 = 300;

/// Many small chunks, and a hash of some cost for each person.
const SLOW: &[&str] = &["migrate", "--force", "--batch-size", "10", "--passwords", "generate"];

/// As [`SLOW`], and for two seconds on any machine.
const PACED: &[&str] =
    &["migrate", "--force", "--batch-size", "10", "--passwords", "generate", "--max-rows-per-second", "150"];

/// A run that has written something, and still has most of its time before it.
#[track_caller]
fn in_the_middle(project: &Project, v2: &Database) -> Running {
    let mut running = project.spawn(PACED);
    let under_way = running.wait_until(|_| v2.count("v1v2.ledger") > 50);
    assert!(under_way, "{}", running.stderr());
    running
}

/// What an undisturbed run leaves in V2: its rows, its indexes and foreign keys. The same for all tests, since the
/// sample is made from a seed.
static UNDISTURBED: LazyLock<(Digest, Vec<Vec<Option<String>>>)> = LazyLock::new(|| {
    let job = Job::new(PEOPLE, &["--orphans"]);
    job.run(SLOW).expect(3);
    (job.result(), job.structure())
});

/// A V1 with some people, some of them orphans (so that a run that is done ends with exit code 3), and an empty V2.
fn fresh() -> Job {
    Job::new(PEOPLE, &["--orphans"])
}

/// The job with a V2 behind a proxy.
fn behind_proxy(job: Job) -> (Job, Proxy) {
    let proxy = Proxy::to(job.v2.url());
    let Job { v1, v2, project } = job;
    let project = project.env("V2_DATABASE_URL", &proxy.url(v2.url()));
    (Job { v1, v2, project }, proxy)
}

/// Runs the same command until it is done.
#[track_caller]
fn until_done(job: &Job) -> Outcome {
    for _ in 0..20 {
        let ended = job.run(SLOW);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        match ended.code() {
            Some(3) => return ended,
            Some(1) => {}
            // The server has not noticed yet that the run before this one is gone.
            Some(5) if ended.stderr.contains("in use by another run") => {
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            _ => return ended.expect(3),
        }
    }
    panic!("20 runs, and not done")
}

/// V2 holds what an undisturbed run leaves, and says so itself.
#[track_caller]
fn assert_undisturbed(job: &Job, what: &str) {
    let (rows, structure) = &*UNDISTURBED;
    assert_eq!(&job.result(), rows, "{what}");
    assert_eq!(&job.structure(), structure, "{what}");
    assert_eq!(job.v2.count("v1v2.dropped"), 0, "{what}");
    assert_eq!(job.v2.one("select count(*) - count(distinct (entity, key)) from v1v2.ledger"), "0", "{what}");
    job.run(&["validate", "--compare-counts"]).expect(0);
}

/// The seeds of a test that tries several; each is named when it fails.
fn seeds() -> impl Iterator<Item = u64> {
    let count = std::env::var("V1V2_TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let first = std::env::var("V1V2_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    first..first + count
}

/// The page for users stands for these tests only as long as they are there.
#[test]
fn the_page_on_faults_names_only_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let page = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let quoted = page.split('`').skip(1).step_by(2);
    let names = quoted.filter_map(|text| match text.strip_prefix("lib:") {
        Some(name) => Some(name),
        None => text.rsplit_once("::").map(|(_, name)| name),
    });
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 80, "found only {names:?}");
    let exists = |name: &str| code.contains(&format!("fn {name}(")) || code.contains(&format!("mod {name};"));
    let gone: Vec<_> = names.into_iter().filter(|name| !exists(name)).collect();
    assert!(gone.is_empty(), "docs/faults.md names what is not there: {gone:?}");
}
