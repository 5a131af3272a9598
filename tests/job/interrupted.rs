//! Any moment is a safe moment to die.

use std::time::Duration;

use super::Job;

/// Slow enough to be caught in the middle: many small chunks, and a hash of some cost for each person.
const SLOW: &[&str] = &["--batch-size", "10", "--passwords", "generate"];

/// As [`SLOW`], for two seconds at least, on whatever machine.
const PACED: &[&str] =
    &["migrate", "--force", "--batch-size", "10", "--passwords", "generate", "--max-rows-per-second", "200"];

#[test]
fn a_killed_run_goes_on_and_ends_like_an_undisturbed_one() {
    let job = Job::new(400, &["--orphans"]);
    job.migrate(SLOW, 3);
    let expected = job.result();
    let structure = job.structure();
    let (job, _undisturbed) = job.another_v2();
    let run = [&["migrate", "--force"], SLOW].concat();
    let kills = job.project.kill_at(&run, &[0, 30, 80, 130, 180], || job.v2.count("v1v2.ledger"));
    assert!(kills >= 3, "the run was killed {kills} times");
    job.migrate(SLOW, 3);
    assert_eq!(job.result(), expected);
    assert_eq!(job.structure(), structure);
    assert_eq!(job.v2.count("v1v2.dropped"), 0);
    assert_eq!(job.v2.count("v1v2.lock"), 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn the_first_interrupt_finishes_the_chunk_and_says_how_to_go_on() {
    let job = Job::new(400, &[]);
    let mut running = job.project.spawn(PACED);
    assert!(running.wait_until(|_| job.v2.count("v1v2.ledger") > 0));
    assert!(running.signal("INT"));
    let ended = running.wait().expect(130);
    assert!(ended.stderr.contains("v1v2 migrate --force"), "{}", ended.stderr);
    let done = job.v2.count("v1v2.ledger");
    assert!(done > 0);
    assert_eq!(job.v2.one("select state from v1v2.runs order by no desc limit 1"), "interrupted");
    // What is in V2 is whole: every line's records are there.
    assert_eq!(
        job.v2.one(
            "select count(*) from v1v2.ledger l where account_id is not null \
             and not exists (select from \"UserRole\" r where r.\"userId\" = l.account_id::uuid)"
        ),
        "0"
    );
    job.migrate(SLOW, 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn a_second_run_at_the_same_time_is_refused() {
    let job = Job::new(400, &[]);
    let mut running = job.project.spawn(PACED);
    assert!(running.wait_until(|_| job.v2.count("v1v2.lock") > 0));
    let second = job.migrate(&[], 5);
    assert!(second.stderr.contains("in use by another run"), "{}", second.stderr);
    assert!(running.signal("KILL"));
    running.wait();
    // The server frees the lock as soon as it notices that the holder is gone.
    let mut tries = 0;
    while job.run(&["migrate", "--force"]).code() == Some(5) {
        tries += 1;
        assert!(tries < 50, "the lock of a dead run is never freed");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_run_whose_connections_are_cut_goes_on() {
    let job = Job::new(400, &[]);
    job.migrate(SLOW, 0);
    let expected = job.result();
    let (job, _undisturbed) = job.another_v2();
    let mut running = job.project.spawn(PACED);
    for lines in [20, 120, 240] {
        if !running.wait_until(|_| job.v2.count("v1v2.ledger") > lines) {
            break;
        }
        // The writers' connections, not the one that holds the lock.
        job.v2.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
             and application_name like 'v1v2%' and pid <> (select pid from v1v2.lock)",
        );
    }
    running.wait().expect(0);
    assert_eq!(job.result(), expected);
}
