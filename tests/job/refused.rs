//! Bad input: one clear sentence, the fix, the right exit code, and nothing written.

use super::Job;
use crate::support::{Database, Outcome, Project};

/// One sentence that says what and where, and one with the fix.
#[track_caller]
fn one_sentence(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} is missing:\n{}", outcome.stderr);
    }
    assert!(outcome.stderr.contains("fix: "), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
}

#[test]
fn an_unreachable_server() {
    let (v1, v2) = (Database::v1(), Database::v2());
    let project =
        Project::between(&v1, &v2).env("V2_DATABASE_URL", "postgres://somebody:sesame@127.0.0.1:1/nowhere");
    let refused = project.run(&["setup"]).expect(1);
    one_sentence(&refused, &["V2", "127.0.0.1"]);
    assert!(!refused.stderr.contains("sesame"));
}

#[test]
fn a_wrong_password() {
    let (v1, v2) = (Database::v1(), Database::v2());
    let (scheme, rest) = v1.url().split_once("://").unwrap();
    let (user, _) = rest.split_once(':').unwrap();
    let (_, host) = rest.split_once('@').unwrap();
    let url = format!("{scheme}://{user}:sesame@{host}");
    let project = Project::between(&v1, &v2).env("V1_DATABASE_URL", &url);
    let refused = project.run(&["sample", "--people", "10"]).expect(1);
    one_sentence(&refused, &["V1", "password"]);
    assert!(!refused.stderr.contains("sesame"), "{}", refused.stderr);
}

#[test]
fn a_v2_that_was_not_set_up() {
    let (v1, v2) = (Database::v1(), Database::v2());
    let project = Project::between(&v1, &v2);
    project.run(&["sample", "--people", "20"]).expect(0);
    for command in [
        &["check"][..],
        &["migrate", "--force"],
        &["validate", "--compare-counts"],
        &["status"],
        &["rollback", "--force"],
    ] {
        let refused = project.run(command);
        assert!(matches!(refused.code(), Some(2 | 5)), "{command:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("v1v2 setup"), "{command:?}: {}", refused.stderr);
    }
    assert_eq!(v2.digest(&["public", "v1v2"], &[]).len(), 0);
}

#[test]
fn a_missing_table_in_v1() {
    let job = Job::new(20, &[]);
    job.v1.execute("alter table \"_SubjectToTeacher\" rename to gone");
    let refused = job.migrate(&[], 2);
    assert!(
        refused.stderr.contains("teachers.toml") && refused.stderr.contains("_SubjectToTeacher"),
        "{}",
        refused.stderr
    );
    assert_eq!(job.v2.count("v1v2.ledger"), 0);
}

#[test]
fn an_unknown_column_in_a_definition() {
    let job = Job::new(20, &[]);
    job.project.redefine("teachers", |definition| definition.replace("employeeNo ", "employeNo "));
    let refused = job.run(&["check", "--migrators", "mine"]).expect(2);
    assert!(refused.stderr.contains("mine/teachers.toml"), "{}", refused.stderr);
    assert!(refused.stderr.contains("did you mean"), "{}", refused.stderr);
}

#[test]
fn a_v1_that_is_not_empty() {
    let (v1, v2) = (Database::v1(), Database::v2());
    v1.execute("create table precious (id int); insert into precious values (1)");
    let refused = Project::between(&v1, &v2).run(&["sample", "--people", "20"]).expect(5);
    one_sentence(&refused, &["precious"]);
    assert_eq!(v1.count("precious"), 1);
}

#[test]
fn source_and_target_are_the_same() {
    let job = Job::new(20, &[]);
    let project = Project::between(&job.v2, &job.v2);
    let refused = project.run(&["migrate", "--force"]).expect(5);
    one_sentence(&refused, &["V1", "V2"]);
}

#[test]
fn a_ledger_of_another_v1() {
    let job = Job::new(50, &[]);
    job.migrate(&["--entities", "schools"], 0);
    let other = Database::v1();
    let project = Project::between(&other, &job.v2).env("V1V2_PASSWORDS", "none");
    project.run(&["sample", "--people", "50"]).expect(0);
    let before = job.result();
    let refused = project.run(&["migrate", "--force"]).expect(5);
    one_sentence(&refused, &["another V1"]);
    assert_eq!(job.result(), before);
}

#[test]
fn no_answer_without_a_terminal() {
    let job = Job::new(20, &[]);
    let refused = job.run(&["migrate"]).expect(2);
    one_sentence(&refused, &["--force"]);
    assert_eq!(job.v2.count("v1v2.ledger"), 0);
}

#[test]
fn a_key_that_is_not_unique() {
    let job = Job::new(50, &[]);
    let twice = "from \"Teacher\" t cross join generate_series(1, 2) as twice";
    job.project.redefine("teachers", |definition| definition.replace("from \"Teacher\" t", twice));
    let refused = job.run(&["migrate", "--force", "--migrators", "mine"]);
    assert!(matches!(refused.code(), Some(1 | 2)), "{}", refused.stderr);
    assert!(refused.stderr.contains("unique"), "{}", refused.stderr);
    assert_eq!(job.v2.count("\"Teacher\""), 0);
}
