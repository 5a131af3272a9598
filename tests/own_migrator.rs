//! A program with a migrator in Rust: `examples/own_migrator.rs`.

use std::path::PathBuf;

use crate::job::Job;
use crate::support::Project;

/// The example's program. Plain `cargo test` makes it; asked for single tests, cargo makes no examples.
fn example() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/own_migrator");
    let make = "cargo build --example own_migrator --features failpoints";
    assert!(program.exists(), "{} is not there: `{make}`", program.display());
    program
}

/// Somebody who was hired too early, and degrees as people write them.
fn with_degrees() -> Job {
    let job = Job::new(300, &[]);
    job.v1.execute(
        "update \"Teacher\" t set qualification = (array['b.sc', 'BEd.', 'Nce', 'Ph.D.'])[n % 5]
           from (select id, row_number() over (order by id) as n from \"Teacher\") as numbered where numbered.id = t.id;
         update \"Teacher\" set \"hireDate\" = '1920-01-01' where id = (select min(id) from \"Teacher\")",
    );
    job
}

fn with_example(job: Job) -> Job {
    Job { project: job.project.program(example()), ..job }
}

fn degrees(job: &Job) -> String {
    job.v2.one("select string_agg(distinct coalesce(qualification, '-') collate \"C\", ' ') from \"Teacher\"")
}

#[test]
fn it_decides_what_a_definition_cannot_say() {
    let job = with_example(with_degrees());
    let teachers: u64 = job.v1.count("\"Teacher\"");
    let told = job.run(&["migrate", "--dry-run"]).expect(3);
    assert!(told.stdout.contains("hired-too-early"), "{}", told.stdout);
    job.migrate(&[], 3);
    assert_eq!(degrees(&job), "- B.Ed. B.Sc. NCE Ph.D.");
    assert_eq!(job.v2.count("\"Teacher\""), teachers - 1);
    let rejected = "select entity || ' ' || code || ' ' || (key = (select min(key) from v1v2.ledger where entity = 'teachers')) from v1v2.ledger where outcome = 'r'";
    assert_eq!(job.v2.one(rejected), "teachers hired-too-early true");
    job.run(&["validate", "--compare-counts", "--compare-fields"]).expect(0);
    // Repaired in V1, the row comes; nothing else changes.
    job.v1.execute("update \"Teacher\" set \"hireDate\" = '1990-01-01' where \"hireDate\" < '1950-01-01'");
    job.migrate(&[], 0);
    assert_eq!(job.v2.count("\"Teacher\""), teachers);
    job.run(&["validate", "--compare-fields"]).expect(0);
}

/// It counts as a part of the definition.
#[test]
fn a_program_that_brings_one_edits_rows_that_came_without() {
    let job = with_degrees();
    job.migrate(&[], 0);
    assert_eq!(degrees(&job), "- BEd. Nce Ph.D. b.sc");
    let job = with_example(job);
    let told = job.migrate(&[], 3);
    let edited =
        "the definition of teachers was edited since its rows were migrated (new: the migrator in Rust)";
    assert!(told.stderr.contains(edited), "{}", told.stderr);
    // Who was hired too early is refused a change, and stays as it was.
    assert_eq!(degrees(&job), "- B.Ed. B.Sc. NCE Ph.D. b.sc");
    let told = job.migrate(&[], 3);
    assert!(!told.stderr.contains("was edited"), "{}", told.stderr);
}

#[test]
fn an_entity_without_a_definition_is_named() {
    let job = Job::new(10, &[]);
    job.project.write("mine/teachers.toml", "disabled = true\n");
    job.project.write("mine/students.toml", "disabled = true\n");
    let project = Project::between(&job.v1, &job.v2)
        .program(example())
        .env("V1V2_MIGRATORS_DIR", job.project.path().join("mine").to_str().unwrap());
    let refused = project.run(&["check"]).expect(2);
    let told = "this program has a migrator for `teachers`, of which there is no definition";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
}
