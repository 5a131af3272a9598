//! The program's own end, at any moment and in every way.

use std::time::Duration;

use super::session::Session;
use super::{SLOW, assert_undisturbed, fresh, until_done};
use crate::job::Job;

/// A run that stands still in the middle of a chunk, where it writes to this table, until the session is ended.
pub fn standing_still(job: &Job, table: &str) -> (crate::support::Running, Session) {
    let blocker = Session::open(job.v2.url());
    blocker.run(&format!("begin; lock table \"{table}\" in share mode"));
    let mut running = job.project.spawn(SLOW);
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and \
                   application_name = 'v1v2' and wait_event_type = 'Lock'";
    assert!(running.wait_until(|_| job.v2.one(waiting) != "0"));
    (running, blocker)
}

#[test]
fn the_second_interrupt_ends_the_program_at_once() {
    let job = fresh();
    let (mut running, blocker) = standing_still(&job, "Parent");
    assert!(running.signal("INT"));
    assert!(running.wait_until(|running| running.stderr().contains("press Ctrl-C again")));
    std::thread::sleep(Duration::from_millis(100));
    assert!(running.signal("INT"));
    // The lock that its chunk waits for is still held: nobody waited for the chunk.
    let ended = running.timeout(Duration::from_secs(10)).wait().expect(130);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    blocker.end();
    until_done(&job);
    assert_undisturbed(&job, "interrupted twice");
}

/// Whoever started these tests may have told them to outlive the terminal (`nohup`), and with them what they start.
fn ignores_hang_ups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|ignored| u64::from_str_radix(ignored.trim(), 16).is_ok_and(|bits| bits & 1 == 1))
}

#[test]
fn a_hang_up_or_a_plain_kill_loses_nothing() {
    let job = fresh();
    for signal in ["HUP", "TERM"] {
        if signal == "HUP" && ignores_hang_ups() {
            continue;
        }
        let (mut running, blocker) = standing_still(&job, "Parent");
        assert!(running.signal(signal));
        blocker.end();
        let ended = running.wait();
        assert!(ended.signal() == Some(1) || ended.code() == Some(130), "{signal}: {:?}", ended.code());
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    until_done(&job);
    assert_undisturbed(&job, "hung up");
}

/// The answer to COMMIT is on its way, and nobody is there any more to read it.
#[test]
fn a_kill_between_commit_and_its_answer_loses_nothing() {
    let job = fresh();
    let (job, proxy) = super::behind_proxy(job);
    proxy.lose_reply_to_commit(7);
    let mut running = job.project.spawn(SLOW);
    assert!(proxy.wait_fired(1));
    running.signal("KILL");
    running.wait();
    until_done(&job);
    assert_undisturbed(&job, "killed behind COMMIT");
}

#[test]
fn a_killed_rollback_is_completed_by_running_it_again() {
    let job = fresh();
    let content = |job: &Job| {
        let mut digest = job.v2.digest(&["public", "v1v2"], &[]);
        digest.retain(|table, _| !["v1v2.runs", "v1v2.lock", "v1v2.meta"].contains(&table.as_str()));
        digest
    };
    let before = (content(&job), job.structure());
    job.run(SLOW).expect(3);
    let mut kills = 0;
    for table in ["Student", "Parent", "Teacher"] {
        // In the middle of an entity's records.
        let blocker = Session::open(job.v2.url());
        blocker.run(&format!("begin; lock table \"{table}\" in share mode"));
        let mut running = job.project.spawn(&["rollback", "--force"]);
        let waiting = format!(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'v1v2' \
             and wait_event_type = 'Lock' and query like 'delete%\"{table}\"%'"
        );
        if running.wait_until(|_| job.v2.one(&waiting) != "0") {
            assert!(running.signal("KILL"));
            kills += usize::from(running.wait().signal() == Some(9));
        }
        blocker.end();
        // The server notices within moments that the holder of the lock is gone.
        let ours = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'v1v2'";
        while job.v2.one(ours) != "0" {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert_eq!(kills, 3);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!((content(&job), job.structure()), before);
    until_done(&job);
    assert_undisturbed(&job, "rolled back and done again");
}

/// Chunks are bounded in bytes too.
#[test]
fn very_wide_rows_do_not_fill_the_memory() {
    let Job { v1, v2, project } = Job::new(200, &[]);
    v1.execute("update \"Parent\" set occupation = repeat(md5(id), 32768)");
    let wide = v1.count("\"Parent\"");
    let job = Job { v1, v2, project: project.env("V1V2_BATCH_BYTES", "1MiB") };
    let mut running = job.project.spawn(&["migrate", "--force", "--skip-validation"]);
    let status = format!("/proc/{}/status", running.id());
    let mut peak = 0;
    running.wait_until(|_| {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kilobytes) = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()) {
            peak = peak.max(kilobytes);
        }
        false
    });
    running.wait().expect(0);
    assert_eq!(job.v2.one("select sum(length(occupation)) from \"Parent\""), (wide << 20).to_string());
    // All rows together are far more than this.
    assert!(wide > 60, "only {wide} wide rows");
    assert!(peak < wide * 1024 / 2 + 40_000, "{peak} kB for {wide} rows of 1 MB");
}
