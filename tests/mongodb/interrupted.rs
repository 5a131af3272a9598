//! Any moment is a safe moment to die.

use std::time::Duration;

use mongodb::bson::doc;

use super::{Job, text};

/// Slow enough to be caught in the middle: each chunk waits for its commit.
const SLOW: &[&str] = &["--batch-size", "1", "--writers", "1", "--passwords", "generate"];

fn slow_run() -> Vec<&'static str> {
    [&["migrate", "--force"], SLOW].concat()
}

#[test]
fn a_killed_run_goes_on_and_ends_like_an_undisturbed_one() {
    let job = Job::new(200, &["--orphans"]).in_bulk();
    job.migrate(SLOW, 3);
    let (expected, structure) = (job.result(), job.structure());
    let (job, _undisturbed) = job.another_v2();
    let kills = job.project.kill_at(&slow_run(), &[0, 15, 40, 70, 100], || job.count("v1v2_ledger"));
    assert!(kills >= 3, "the run was killed {kills} times");
    job.migrate(SLOW, 3);
    assert_eq!(job.result(), expected);
    assert_eq!(job.structure().len(), structure.len(), "all indexes are back");
    assert_eq!(job.count("v1v2_dropped"), 0);
    assert_eq!(job.count("v1v2_lock"), 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn the_first_interrupt_finishes_the_chunk_and_says_how_to_go_on() {
    let job = Job::new(300, &[]);
    let mut running = job.project.spawn(&slow_run());
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 0));
    assert!(running.signal("INT"));
    let ended = running.wait().expect(130);
    assert!(ended.stderr.contains("v1v2 migrate --force"), "{}", ended.stderr);
    assert_eq!(text(job.v2.one("v1v2_runs", doc! {}).get("state")), "interrupted");
    assert_eq!(job.count("v1v2_lock"), 0);
    // What is in V2 is whole: every line's account and role are there, and nothing else.
    let lines = job.v2.find("v1v2_ledger", doc! { "accountId": { "$exists": true } });
    for line in &lines {
        let account = job.v2.one("users", doc! { "_id": line.get("accountId") });
        assert!(!account.get_array("roles").unwrap().is_empty());
    }
    job.run(&["validate"]).expect(0);
    job.migrate(SLOW, 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn a_second_run_is_refused_and_the_lock_of_a_dead_one_is_taken_over_at_once() {
    let job = Job::new(300, &[]);
    let mut running = job.project.spawn(&slow_run());
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 0));
    let run = text(job.v2.one("v1v2_runs", doc! {}).get("_id"));
    for second in [&["migrate", "--force"][..], &["rollback", "--force"]] {
        let refused = job.run(second).expect(5);
        for word in ["in use by another run", "`migrate`", &run] {
            assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
        }
    }
    let status = job.run(&["status"]).expect(0);
    assert!(status.stdout.contains("running now"), "{}", status.stdout);
    assert!(running.signal("KILL"), "the holder was still at work");
    running.wait();
    let next = job.migrate(&["--passwords", "generate"], 0);
    assert!(next.took < Duration::from_secs(20), "{:?}", next.took);
    let first = job.v2.one("v1v2_runs", doc! { "no": 1 });
    assert_eq!(text(first.get("state")), "failed");
    assert_eq!(job.count("v1v2_lock"), 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn a_holder_that_lost_its_lock_cannot_write_any_more() {
    let job = Job::new(300, &[]);
    let mut running = job.project.spawn(&slow_run());
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 0));
    // What somebody does who takes the lock over: first the document, then the fences.
    let theirs = doc! { "$set": { "application": "v1v2 run of somebody else", "holder": "somebody else" } };
    assert_eq!(job.update("v1v2_lock", doc! { "_id": "run" }, theirs), 1);
    assert_eq!(job.remove("v1v2_lock", doc! { "_id": { "$ne": "run" } }), 1);
    let written = job.count("v1v2_ledger");
    assert!(
        written < job.v1.one("select count(*) from \"Student\"").parse::<u64>().unwrap(),
        "caught too late"
    );
    let failed = running.wait().expect(1);
    assert!(failed.stderr.contains("lost its lock"), "{}", failed.stderr);
    assert_eq!(job.count("v1v2_ledger"), written, "nothing was written after the fences went");
    let lock = job.v2.one("v1v2_lock", doc! {});
    assert_eq!(text(lock.get("holder")), "somebody else", "their lock is not ours to give back");
    // They are dead: their heart does not beat, and they have no connection.
    job.migrate(SLOW, 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
    assert_eq!(job.v2.find("v1v2_lock", doc! {}), Vec::<mongodb::bson::Document>::new());
}

#[test]
fn a_user_with_no_more_than_it_needs_takes_over_at_once_too() {
    let job = Job::new(200, &[]);
    let user = job.v2.name().to_owned();
    let role = doc! { "role": "readWrite", "db": &user };
    job.v2.run(doc! { "createUser": &user, "pwd": "sesame", "roles": [role] });
    let (_, rest) = job.v2.url().split_once('@').unwrap();
    let url =
        format!("mongodb://{user}:sesame@{rest}").replace("authSource=admin", &format!("authSource={user}"));
    let job = Job { project: job.project.env("V2_DATABASE_URL", &url), ..job };
    let mut running = job.project.spawn(&slow_run());
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 0));
    assert!(running.signal("KILL"), "the holder was still at work");
    running.wait();
    let next = job.migrate(&["--passwords", "generate"], 0);
    assert!(next.took < Duration::from_secs(20), "{:?}", next.took);
    job.run(&["validate", "--compare-counts"]).expect(0);
    job.run(&["rollback", "--force"]).expect(0);
    job.v2.run(doc! { "dropUser": &user });
}
