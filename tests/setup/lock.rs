//! A setup and whatever else changes V2 keep out of each other's way: whoever comes second is refused, and told who is there.

use mongodb::bson::doc;

use crate::faults::session::Session;
use crate::support::{Database, MongoDatabase, Mongod, Project};
use crate::{job, mongodb as into_mongodb};

const SLOW: &[&str] = &["migrate", "--force", "--batch-size", "5", "--max-rows-per-second", "20"];

#[track_caller]
fn is_refused(project: &Project, arguments: &[&str], by: &str) {
    let refused = project.run(arguments).expect(5);
    assert!(refused.stderr.contains("in use by another run: "), "{arguments:?}: {}", refused.stderr);
    assert!(refused.stderr.contains(by), "{arguments:?}: {}", refused.stderr);
}

#[test]
fn a_setup_of_postgres_is_refused_beside_a_run() {
    let job = job::Job::new(60, &[]);
    let mut running = job.project.spawn(SLOW);
    assert!(running.wait_until(|_| job.v2.count("v1v2.ledger") > 0));
    for setup in [&["setup"][..], &["setup", "--clean", "--force"]] {
        is_refused(&job.project, setup, "`migrate` of ");
    }
    assert!(running.signal("KILL"));
    running.wait();
    // What the dead run left does not stand in the way, once the server has noticed.
    let ours = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'v1v2'";
    while job.v2.one(ours) != "0" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    job.run(&["setup"]).expect(0);
    assert_eq!(job.v2.count("v1v2.lock"), 0, "nobody can commit with the dead one's right");
    job.migrate(&[], 0);
}

#[test]
fn a_setup_of_postgres_keeps_others_out() {
    let v2 = Database::v2();
    let project = Project::new().env("V2_DATABASE_URL", v2.url());
    project.write("evolutions/0001_a/up.sql", "create table made (id int)");
    project.write("evolutions/0001_a/down.sql", "drop table made");
    // From nothing, where there is no table yet that could hold a lock; and once more.
    for blocked in ["create schema v1v2", "lock table v1v2.meta in access exclusive mode"] {
        let blocker = Session::open(v2.url());
        blocker.run(&format!("begin; {blocked}"));
        let mut running = project.spawn(&["setup"]);
        let locked = "select count(*) from pg_locks where locktype = 'advisory' and database = \
                      (select oid from pg_database where datname = current_database())";
        assert!(running.wait_until(|_| v2.one(locked) != "0"));
        is_refused(&project, &["setup"], "v1v2 setup, ");
        is_refused(&project, &["evolve", "up", "--force"], "v1v2 setup, ");
        blocker.run("rollback");
        blocker.end();
        running.wait().expect(0);
    }
    assert!(project.run(&["setup"]).expect(0).stdout.contains("nothing was changed"));
}

#[test]
fn a_setup_of_mongodb_is_refused_beside_a_run() {
    let job = into_mongodb::Job::new(60, &[]);
    let mut running = job.project.spawn(SLOW);
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 0));
    for setup in [&["setup"][..], &["setup", "--clean", "--force"]] {
        is_refused(&job.project, setup, "`migrate` of ");
    }
    assert!(running.signal("KILL"));
    running.wait();
    job.run(&["setup"]).expect(0);
    assert_eq!(job.count("v1v2_lock"), 0, "nobody can commit with the dead one's right");
    job.migrate(&[], 0);
}

#[test]
fn a_setup_of_mongodb_keeps_others_out() {
    let server = Mongod::replica_set(1);
    let project = Project::new().env("V2_DATABASE_URL", &server.url("school"));
    project.write("evolutions/0001_a/up.json", r#"[ { "command": { "create": "made" } } ]"#);
    project.write("evolutions/0001_a/down.json", r#"[ { "command": { "drop": "made" } } ]"#);
    // Its first collection takes long; the lock it has by then.
    let wait = doc! { "failCommands": ["create"], "blockConnection": true, "blockTimeMS": 6_000 };
    server.fail_command(doc! { "times": 1 }, wait);
    let v2 = MongoDatabase::on(&server, "school");
    let mut running = project.spawn(&["setup"]);
    assert!(running.wait_until(|_| v2.count("v1v2_lock", doc! {}) > 0));
    is_refused(&project, &["setup"], "`setup` of ");
    is_refused(&project, &["evolve", "up", "--force"], "`setup` of ");
    running.wait().expect(0);
    project.run(&["setup", "--clean", "--force"]).expect(0);
    assert!(project.run(&["setup"]).expect(0).stdout.contains("nothing was changed"));
}
