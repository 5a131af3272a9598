//! What is applied when, and what is refused.

use mongodb::bson::doc;

use super::{Mongo, Postgres};

const CREATE: &str = r#"[ { "command": { "create": "NAME" } } ]"#;
const DROP: &str = r#"[ { "command": { "drop": "NAME" } } ]"#;

fn with(names: &[&str]) -> Mongo {
    let mongo = Mongo::new();
    for name in names {
        mongo.evolution(name, &CREATE.replace("NAME", name), &DROP.replace("NAME", name));
    }
    mongo
}

/// The collections that evolutions made.
fn made(mongo: &Mongo) -> Vec<String> {
    mongo.v2.collections().into_iter().filter(|name| !name.starts_with("v1v2")).collect()
}

#[test]
fn up_to_a_number_and_down_to_a_number() {
    let mongo = with(&["0001_a", "0002_b", "0003_c"]);
    mongo.run(&["up", "--force", "--to", "2"]).expect(0);
    assert_eq!(made(&mongo), ["0001_a", "0002_b"]);
    mongo.up();
    let again = mongo.run(&["up"]).expect(0);
    assert!(again.stdout.contains("nothing to apply"), "{}", again.stdout);
    mongo.down();
    assert_eq!(made(&mongo), ["0001_a", "0002_b"], "without --to the last one alone");
    mongo.run(&["down", "--force", "--to", "0"]).expect(0);
    assert!(made(&mongo).is_empty());
    assert!(mongo.run(&["down"]).expect(0).stdout.contains("nothing to take back"));
    mongo.run(&["up", "--to", "9"]).expect(2);
}

#[test]
fn what_is_required_comes_first_and_stays_as_long() {
    let mongo = with(&["0001_a", "0002_b", "0003_c"]);
    mongo.project.write("evolutions/0001_a/evolution.toml", "requires = [\"0003_c\"]");
    mongo.run(&["up", "--force", "--to", "1"]).expect(0);
    assert_eq!(made(&mongo), ["0001_a", "0003_c"]);
    assert_eq!(mongo.record(3).get_i64("serial").unwrap(), 1);
    let refused = mongo.run(&["down", "--to", "1", "--force"]).expect(5);
    assert!(refused.stderr.contains("0001_a requires 0003_c"), "{}", refused.stderr);
    mongo.run(&["down", "--to", "0", "--force"]).expect(0);
    assert!(made(&mongo).is_empty());
}

/// Two people have written evolutions at the same time, and the later number came first.
#[test]
fn one_that_comes_late_is_told_and_applied() {
    let mongo = with(&["0001_a", "0005_e"]);
    mongo.up();
    mongo.evolution("0003_c", &CREATE.replace("NAME", "0003_c"), &DROP.replace("NAME", "0003_c"));
    for (arguments, there) in [(["up", "--dry-run"], 2), (["up", "--force"], 3)] {
        let told = mongo.run(&arguments).expect(0).stderr;
        assert!(told.contains("0003_c comes late: 0005_e, which is applied already"), "{told}");
        assert_eq!(made(&mongo).len(), there);
    }
    // The last one is the one that was applied last.
    mongo.down();
    assert_eq!(made(&mongo), ["0001_a", "0005_e"]);

    // What another one requires comes early on purpose.
    let mongo = with(&["0001_a", "0002_b", "0003_c"]);
    mongo.project.write("evolutions/0001_a/evolution.toml", "requires = [\"0003_c\"]");
    mongo.run(&["up", "--force", "--to", "1"]).expect(0);
    let quiet = mongo.run(&["up", "--force"]).expect(0).stderr;
    assert!(!quiet.contains("comes late"), "{quiet}");
    assert_eq!(made(&mongo), ["0001_a", "0002_b", "0003_c"]);
}

#[test]
fn an_edited_one_is_refused_until_repair_accepts_it() {
    let mongo = with(&["0001_a", "0002_b"]);
    mongo.run(&["up", "--force", "--to", "1"]).expect(0);
    mongo.project.write("evolutions/0001_a/README.md", "One more file.");
    for command in ["up", "down"] {
        let refused = mongo.run(&[command, "--force"]).expect(5);
        assert!(refused.stderr.contains("0001_a was edited"), "{}", refused.stderr);
    }
    let status = mongo.run(&["status"]).expect(0);
    assert!(status.stdout.contains("applied, edited since"), "{}", status.stdout);
    assert_eq!(made(&mongo), ["0001_a"]);
    let repaired = mongo.project.run(&["repair"]).expect(0);
    assert!(repaired.stdout.contains("accepted as it is now: 0001_a"), "{}", repaired.stdout);
    mongo.up();
    assert_eq!(made(&mongo), ["0001_a", "0002_b"]);
    assert!(mongo.project.run(&["repair"]).expect(0).stdout.contains("nothing was missing"));
    // Other line ends are no edit.
    let text = mongo.project.read("evolutions/0001_a/up.json");
    mongo.project.write("evolutions/0001_a/up.json", &format!("{text}\r\n").replace("\r\n", ""));
    assert!(mongo.run(&["up"]).expect(0).stdout.contains("nothing to apply"));
}

#[test]
fn repair_accepts_edits_in_postgres_too_beside_its_other_work() {
    let postgres = Postgres::new();
    postgres.project.run(&["setup"]).expect(0);
    postgres.evolution("0001_a", "create table t (id int)", "drop table t");
    postgres.up();
    postgres.evolution("0001_a", "create table t (id int) ", "drop table t");
    postgres.run(&["up"]).expect(5);
    let repaired = postgres.project.run(&["repair"]).expect(0);
    assert!(repaired.stdout.contains("accepted as it is now: 0001_a"), "{}", repaired.stdout);
    postgres.run(&["up"]).expect(0);
    // A renamed folder is an edit as well.
    std::fs::rename(
        postgres.project.path().join("evolutions/0001_a"),
        postgres.project.path().join("evolutions/0001_b"),
    )
    .unwrap();
    postgres.run(&["up"]).expect(5);
}

#[test]
fn a_dry_run_changes_nothing() {
    let mongo = with(&["0001_a"]);
    mongo.v2.run(doc! { "insert": "c", "documents": [{ "n": 1 }, { "n": 2 }, {}] });
    let update = r#"[ { "update": "c", "filter": { "n": { "$exists": true } }, "pipeline": [ { "$set": { "n": 0 } } ] },
        { "delete": "c", "filter": {} }, { "aggregate": "c", "pipeline": [ { "$match": { "n": 1 } }, { "$out": "d" } ] } ]"#;
    mongo.evolution("0002_b", update, "[]");
    let before = (mongo.v2.collections(), mongo.v2.digest(&[]));
    let outcome = mongo.run(&["up", "--dry-run"]).expect(0);
    for text in [
        "up 0001_a",
        "2 documents match now",
        "3 documents would go now",
        "1 documents would be written",
        "nothing was changed",
    ] {
        assert!(outcome.stdout.contains(text), "{text}\n{}", outcome.stdout);
    }
    assert_eq!((mongo.v2.collections(), mongo.v2.digest(&[])), before);
    // A pipeline that the server does not understand shows before anything is done.
    mongo.evolution("0002_b", &update.replace("\"n\": 0", "\"n\": { \"$nonsense\": 1 }"), "[]");
    let outcome = mongo.run(&["up", "--dry-run"]).expect(1);
    assert!(outcome.stderr.contains("$nonsense"), "{}", outcome.stderr);

    let postgres = Postgres::new();
    postgres.v2.execute("create table t (id int); insert into t values (1), (2)");
    postgres.evolution(
        "0001_a",
        "alter table t add column x int; update t set x = id",
        "alter table t drop column x",
    );
    postgres.evolution("0002_b", "delete from t where x = 1", "select 1");
    postgres.evolution("0003_c", "create index concurrently i on t (x)", "drop index i");
    postgres.project.write("evolutions/0003_c/evolution.toml", "transaction = false");
    postgres.evolution("0004_d", "select 1", "select 1");
    let before = postgres.v2.digest(&["public"], &[]);
    let outcome = postgres.run(&["up", "--dry-run"]).expect(0);
    for text in [
        "2 statements, 2 rows changed",
        "1 statement, 1 row changed",
        "cannot be rolled back",
        "because 0003_c was not",
    ] {
        assert!(outcome.stdout.contains(text), "{text}\n{}", outcome.stdout);
    }
    assert_eq!(postgres.v2.digest(&["public"], &[]), before);
    assert!(postgres.lines("select 1 from pg_namespace where nspname = 'v1v2'").is_empty());
    postgres.evolution("0002_b", "delete from nowhere", "select 1");
    assert!(postgres.run(&["up", "--dry-run"]).expect(1).stderr.contains("0002_b/up.sql:1"));
}

#[test]
fn it_asks_unless_told_not_to() {
    let mongo = with(&["0001_a"]);
    for command in [&["up"][..], &["up", "--to", "1"]] {
        let outcome = mongo.run(command).expect(2);
        assert!(
            outcome.stderr.contains("Apply 0001_a in V2") && outcome.stderr.contains("--force"),
            "{}",
            outcome.stderr
        );
    }
    assert!(made(&mongo).is_empty());
    assert_eq!(mongo.v2.count("v1v2_lock", doc! {}), 0);
}

#[test]
fn events_and_who_and_when() {
    let mongo = with(&["0001_a", "0002_b"]);
    mongo.project.write("evolutions/0001_a/evolution.toml", "description = \"makes a\"");
    let outcome = mongo.run(&["up", "--force", "--json", "--to", "1"]).expect(0);
    let value = outcome.result("evolve");
    assert_eq!((value["command"].as_str(), value["done"][0]["name"].as_str()), (Some("up"), Some("0001_a")));
    let outcome = mongo.run(&["status", "--json"]).expect(0);
    let value = outcome.result("evolve");
    let first = &value["evolutions"][0];
    assert_eq!((first["state"].as_str(), first["description"].as_str()), (Some("applied"), Some("makes a")));
    assert!(first["by"].as_str().unwrap().contains("process") && first["seconds"].is_number(), "{first}");
    assert!(first["started"].as_str().unwrap().starts_with("20"), "{first}");
    assert_eq!(value["evolutions"][1]["state"].as_str(), Some("pending"));
    let record = mongo.record(1);
    assert_eq!(record.get_str("toolVersion").unwrap(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_the_folder_lost_is_told_and_can_only_be_taken_back_by_its_own_script() {
    let mongo = with(&["0001_a", "0002_b"]);
    mongo.up();
    std::fs::remove_dir_all(mongo.project.path().join("evolutions/0002_b")).unwrap();
    let status = mongo.run(&["status"]).expect(0);
    assert!(status.stdout.contains("not in the folder"), "{}", status.stdout);
    mongo.run(&["up"]).expect(0);
    let refused = mongo.run(&["down", "--force"]).expect(5);
    assert!(refused.stderr.contains("0002_b was applied"), "{}", refused.stderr);
}

#[test]
fn setup_finds_its_place_beside_evolutions() {
    let mongo = with(&["0001_a"]);
    mongo.up();
    mongo.project.run(&["setup"]).expect(0);
    assert_eq!(mongo.record(1).get_str("state").unwrap(), "applied");
    mongo.down();

    let postgres = Postgres::new();
    postgres.evolution("0001_a", "create table t (id int)", "drop table t");
    postgres.up();
    postgres.project.run(&["setup"]).expect(0);
    assert_eq!(postgres.states(), ["0001_a|applied|up"]);
    postgres.down();
    assert_eq!(postgres.states(), ["0001_a|reverted|down"]);
}
