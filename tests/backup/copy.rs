//! `backup copy`, between servers and on one.

use mongodb::bson::doc;

use super::mongodb::{everything, fill};
use crate::support::{Database, MongoDatabase, Mongod, Project};

fn copy(from: &str, to: &str, more: &[&str], code: i32) -> crate::support::Outcome {
    let project = Project::new().env("V1V2_COPY_FROM", from).env("V1V2_COPY_TO", to);
    project.run(&[&["backup", "copy"], more].concat()).expect(code)
}

#[test]
fn between_two_servers_and_under_another_name() {
    let source = MongoDatabase::new();
    fill(&source);
    let before = everything(&source);
    let server = Mongod::replica_set(1);
    let target = MongoDatabase::on(&server, "copied");
    let done = copy(source.url(), target.url(), &[], 0);
    assert!(done.stderr.contains("many: 25,000"), "progress of each collection: {}", done.stderr);
    assert!(done.stdout.contains("25000"), "{}", done.stdout);
    assert!(everything(&target) == before);
    assert!(everything(&source) == before);
    // What is there is never overwritten.
    let refused = copy(source.url(), target.url(), &["--start-over"], 5);
    assert!(refused.stderr.contains("not empty"), "{}", refused.stderr);

    let beside = MongoDatabase::new();
    copy(source.url(), beside.url(), &[], 0);
    assert!(everything(&beside) == before);
}

#[test]
fn onto_itself_is_refused_however_it_is_spelled() {
    let source = MongoDatabase::new();
    source.insert("a", doc! { "_id": 1 }).unwrap();
    let spelled = [
        source.url().to_owned(),
        source.url().replace("127.0.0.1", "localhost"),
        source.url().replace("replicaSet=v1v2", "directConnection=true"),
        source.url().replace(source.name(), &source.name().to_uppercase()),
    ];
    for other in spelled {
        let refused = copy(source.url(), &other, &[], 5);
        assert!(refused.stderr.contains("same database"), "{}", refused.stderr);
    }
    assert_eq!(source.collections(), ["a"]);
    let postgres = Database::v2();
    let refused = copy(postgres.url(), source.url(), &[], 2);
    assert!(refused.stderr.contains("--from is a URL of Postgres"), "{}", refused.stderr);
}

#[test]
fn an_interrupted_copy_starts_over_when_told() {
    let source = MongoDatabase::new();
    fill(&source);
    let target = MongoDatabase::new();
    let project = Project::new().env("V1V2_COPY_FROM", source.url()).env("V1V2_COPY_TO", target.url());
    let mut running = project.spawn(&["backup", "copy"]);
    assert!(running.wait_until(|_| target.collections().len() > 1));
    assert!(running.signal("KILL"));
    assert_eq!(running.wait().signal(), Some(9));
    let refused = copy(source.url(), target.url(), &[], 5);
    assert!(
        refused.stderr.contains("interrupted copy") && refused.stderr.contains("--start-over"),
        "{}",
        refused.stderr
    );
    copy(source.url(), target.url(), &["--start-over"], 0);
    assert!(everything(&target) == everything(&source));
}

#[test]
fn no_url_is_told() {
    let source = MongoDatabase::new();
    source.insert("a", doc! { "_id": 1 }).unwrap();
    let canary = "CANARY-91d2";
    let url = format!("mongodb://me:{canary}@127.0.0.1:1/x");
    for arguments in
        [&["backup", "copy", "--verbose"][..], &["backup", "copy", "--json"], &["backup", "copy", "--help"]]
    {
        let project = Project::new()
            .env("V1V2_COPY_FROM", source.url())
            .env("V1V2_COPY_TO", &url)
            .env("RUST_LOG", "trace");
        let ended = project.run(arguments);
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains(canary), "{text}");
        }
        let log = std::fs::read_to_string(project.path().join("migration.log")).unwrap_or_default();
        assert!(!log.contains(canary), "{log}");
    }
}
