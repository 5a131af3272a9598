//! Documents that refer to documents of their own collection.

use mongodb::bson::{Bson, doc};

use super::{Job, text};

const PARTS: &str = r#"
entity = "parts"
[source]
key = "id"
query = "select id, whole, kin from part"
[[mongodb]]
collection = "parts"
[mongodb.fields]
_id = { id = true }
number = "id"
whole = { entity = "parts", key = "whole" }
kin = { entity = "parts", key = "kin" }
"#;

/// The documents as V1 would have them, in the order of their numbers.
fn documents(job: &Job) -> Vec<String> {
    let found = job.v2.find("parts", doc! {});
    let number = |id: &Bson| {
        let of = found.iter().find(|part| part.get("_id") == Some(id));
        text(of.unwrap_or_else(|| panic!("{id} leads nowhere")).get("number"))
    };
    let mut lines: Vec<(i64, String)> = found
        .iter()
        .map(|part| {
            let whole = part.get("whole").map(number).unwrap_or_default();
            let kin: Vec<String> = part.get_array("kin").unwrap().iter().map(number).collect();
            let own = text(part.get("number"));
            (own.parse().unwrap(), format!("{own} {whole} {{{}}}", kin.join(",")))
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

#[test]
fn documents_are_written_after_those_of_their_own_collection_that_they_refer_to() {
    let job = Job::new(20, &[]);
    job.v1.execute(
        "create table part (id integer primary key, whole integer, kin integer[]);
         insert into part select n, case when n % 5 <> 0 then n + 1 end, array[n + 7 - n % 7] from generate_series(1, 200) n;
         insert into part values (203, 203, '{}'), (501, 502, '{}'), (502, 501, '{}'), (503, 504, '{1}'), (504, null, '{77777}')",
    );
    job.v2.run(doc! { "create": "parts" });
    job.project.write("mine/parts.toml", PARTS);
    let before = job.whole();
    let migrate = ["--entities", "parts", "--migrators", "mine", "--batch-size", "7"];
    job.migrate(&migrate, 3);
    let rejected = ["501", "502", "503", "504"].map(|key| format!("parts {key} missing-reference"));
    assert_eq!(job.rejected(), rejected);
    let rows = job.v1.rows(
        "select concat_ws(' ', id, coalesce(whole::text, ''), kin::text) from part where id < 501 order by id",
    );
    let expected: Vec<String> = rows.into_iter().map(|mut row| row[0].take().unwrap()).collect();
    assert_eq!(documents(&job), expected);
    job.run(&["validate", "--migrators", "mine"]).expect(0);

    // Somebody edits a part: it stays, and whatever it refers to, by any number of steps.
    job.update("parts", doc! { "number": 196 }, doc! { "$set": { "note": "mine" } });
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    let left =
        ["196 197 {203}", "197 198 {203}", "198 199 {203}", "199 200 {203}", "200  {203}", "203 203 {}"];
    assert_eq!(documents(&job), left);

    // Without it nothing stays.
    job.remove("parts", doc! {});
    job.migrate(&migrate, 3);
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.whole(), before);
}

#[test]
fn what_a_part_that_stays_refers_to_is_not_pruned() {
    let job = Job::new(20, &[]);
    job.v1.execute(
        "create table part (id integer primary key, whole integer, kin integer[]);
         insert into part select n, case when n % 5 <> 0 then n + 1 end, '{}' from generate_series(1, 40) n;
         insert into part select n, n - 1, array[1] from generate_series(41, 1500) n",
    );
    job.v2.run(doc! { "create": "parts" });
    job.project.write("mine/parts.toml", PARTS);
    let migrate = ["--entities", "parts", "--migrators", "mine"];
    job.migrate(&migrate, 0);
    let before = job.whole();
    // Somebody has edited one that is gone from V1 with what it refers to.
    assert_eq!(job.update("parts", doc! { "number": 37 }, doc! { "$set": { "note": "mine" } }), 1);
    let edited = job.whole();
    job.v1.execute("delete from part where id > 30");
    let prune = [&migrate[..], &["--prune", "--skip-validation"]].concat();
    job.migrate(&prune, 3);
    let left = documents(&job);
    assert_eq!(left.len(), 34);
    assert_eq!(left[30..], ["37 38 {}", "38 39 {}", "39 40 {}", "40  {}"]);
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.whole(), edited);
    job.migrate(&[&prune[..], &["--on-edited", "overwrite"]].concat(), 0);
    assert_eq!(documents(&job).len(), 30);
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.whole(), edited);
    assert_ne!(edited, before);
}

/// Wholes have lower keys than their parts here, so in the order of keys they would go first.
#[cfg(feature = "failpoints")]
#[test]
fn a_removal_that_is_killed_never_leaves_a_part_without_its_whole() {
    let job = Job::new(20, &[]);
    job.v1.execute(
        "create table part (id integer primary key, whole integer, kin integer[]);
         insert into part select n, case when n > 1 and n <> 1300 then n - 1 end, array[(n + 1) / 2] from generate_series(1, 2600) n",
    );
    job.v2.run(doc! { "create": "parts" });
    // Level by level it would take 1,300 passes.
    job.project.write(
        "mine/parts.toml",
        &PARTS
            .replace("key = \"whole\"", "key = \"whole\", later = true")
            .replace("key = \"kin\"", "key = \"kin\", later = true"),
    );
    let migrate = ["--entities", "parts", "--migrators", "mine", "--skip-validation"];
    job.migrate(&migrate, 0);
    let before = job.whole();
    job.v1.execute("delete from part");
    job.v1.execute("insert into part values (1, null, '{1}')");
    let prune = [&["migrate", "--force", "--prune"], &migrate[..]].concat();
    for (visit, left) in [(1, 1_600), (2, 600)] {
        let point = format!("mongodb.pruned@{visit}:abort");
        let ended = job.until_free(|| job.project.run_with(&prune, "FAILPOINT", &point));
        assert_eq!(ended.signal(), Some(9), "{}", ended.stderr);
        assert_eq!(documents(&job).len(), left);
        job.until_free(|| job.run(&["rollback", "--force", "--migrators", "mine"])).expect(0);
        assert_eq!(job.whole(), before);
    }
    job.until_free(|| job.run(&prune)).expect(0);
    assert_eq!(documents(&job), ["1  {1}"]);
}
