//! Other sessions in V2 that hold locks, deadlock with us, or end ours.

use std::time::{Duration, Instant};

use super::session::Session;
use super::{SLOW, assert_undisturbed, fresh, in_the_middle, until_done};
use crate::job::Job;
use crate::support::proxy::Proxy;
use crate::support::{Outcome, Project, Running};

/// A run of one writer that stands in the middle of a COPY into `UserRole`, which the session keeps locked.
fn stopped_in_copy(job: &Job, more: &[&str]) -> (Running, Session) {
    let blocker = Session::open(job.v2.url());
    blocker.run("begin; lock table \"UserRole\" in share mode");
    let mut running = job.project.spawn(&[SLOW, &["--writers", "1"], more].concat());
    assert!(running.wait_until(|_| copying(job) > 0), "nobody waits:\n{}", running.stderr());
    (running, blocker)
}

/// How many of our sessions wait for a lock in the middle of a COPY.
fn copying(job: &Job) -> u64 {
    job.v2
        .one(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'v1v2' \
             and wait_event_type = 'Lock' and query like 'copy \"%'",
        )
        .parse()
        .unwrap()
}

/// Calls a function on each session of ours that waits in the middle of a COPY.
fn strike(job: &Job, function: &str) {
    job.v2.execute(&format!(
        "select {function}(pid) from pg_stat_activity where datname = current_database() \
         and application_name = 'v1v2' and wait_event_type = 'Lock' and query like 'copy \"%'"
    ));
}

#[test]
fn a_connection_ended_during_copy_is_replaced() {
    let job = fresh();
    let (running, blocker) = stopped_in_copy(&job, &["--no-bulk"]);
    strike(&job, "pg_terminate_backend");
    blocker.end();
    let ended = running.wait().expect(3);
    assert!(ended.stderr.contains("the chunk is tried again"), "{}", ended.stderr);
    assert_undisturbed(&job, "terminated");
}

#[test]
fn a_cancelled_copy_ends_the_run_and_loses_nothing() {
    let job = fresh();
    let (running, blocker) = stopped_in_copy(&job, &["--no-bulk"]);
    strike(&job, "pg_cancel_backend");
    let ended = running.wait().expect(1);
    assert!(ended.stderr.contains("57014"), "{}", ended.stderr);
    blocker.end();
    until_done(&job);
    assert_undisturbed(&job, "cancelled");
}

#[test]
fn a_deadlock_costs_one_more_try() {
    let job = fresh();
    // The one whose patience ends first is the victim: that is to be us.
    let (running, blocker) = stopped_in_copy(&job, &["--no-bulk"]);
    blocker.run("set deadlock_timeout = '10min'");
    let waiting = blocker.run_meanwhile("lock table \"User\" in access exclusive mode; rollback");
    let ended = running.wait().expect(3);
    assert!(ended.stderr.contains("40P01"), "{}", ended.stderr);
    waiting.join().unwrap().unwrap();
    assert_undisturbed(&job, "deadlock");
}

#[test]
fn a_lock_that_is_held_too_long_is_asked_for_again() {
    let Job { v1, v2, project } = fresh();
    let job = Job { v1, v2, project: project.env("V1V2_LOCK_TIMEOUT", "200ms") };
    let (mut running, blocker) = stopped_in_copy(&job, &["--no-bulk"]);
    assert!(running.wait_until(|running| running.stderr().contains("55P03")));
    blocker.end();
    running.wait().expect(3);
    assert_undisturbed(&job, "lock timeout");
}

/// A trigger that fails so many times with an SQLSTATE; a sequence counts, as it is not rolled back.
fn failing(job: &Job, sqlstate: &str, times: u32) {
    job.v2.execute(&format!(
        "create sequence failures; \
         create function fail() returns trigger language plpgsql as $$ begin \
           if nextval('failures') <= {times} then raise exception 'scripted' using errcode = '{sqlstate}'; end if; \
           return null; end $$; \
         create trigger fail after insert on \"UserRole\" for each statement execute function fail()"
    ));
}

fn heal(job: &Job) {
    job.v2.execute("drop trigger fail on \"UserRole\"; drop function fail(); drop sequence failures");
}

#[test]
fn failures_that_go_away_by_themselves_are_tried_again() {
    let job = fresh();
    failing(&job, "40001", 3);
    let ended = job.run(SLOW).expect(3);
    assert!(ended.stderr.contains("40001"), "{}", ended.stderr);
    heal(&job);
    assert_undisturbed(&job, "40001");
}

#[test]
fn failures_that_do_not_go_away_end_the_run_after_some_tries() {
    let job = fresh();
    failing(&job, "40001", 1_000);
    let ended = job.run(SLOW).expect(1);
    assert!(ended.stderr.contains("it was tried 8 times"), "{}", ended.stderr);
    assert_eq!(job.v2.one("select state from v1v2.runs order by no desc limit 1"), "failed");
    heal(&job);
    until_done(&job);
    assert_undisturbed(&job, "40001 for ever");
}

const LARGE_CHUNKS: &[&str] = &["migrate", "--force", "--batch-size", "100", "--passwords", "generate"];

/// A V2 in which a row of `UserRole` takes so many milliseconds, and those of one person so many.
fn slow_rows(job: &Job, each: u32, one: u32) {
    let slowest = job
        .v1
        .one("select lower(email) from \"Teacher\" where email ~ '^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+$' order by id limit 1");
    job.v2.execute(&format!(
        "create function slow() returns trigger language plpgsql as $$ begin \
           perform pg_sleep(case when exists (select from \"User\" where id = new.\"userId\" and email = '{slowest}') \
             then {one} else {each} end / 1000.0); return new; end $$; \
         create trigger slow before insert on \"UserRole\" for each row execute function slow()"
    ));
}

fn no_more_slow_rows(job: &Job) {
    job.v2.execute("drop trigger slow on \"UserRole\"; drop function slow()");
}

fn impatient() -> Job {
    let Job { v1, v2, project } = fresh();
    Job { v1, v2, project: project.env("V1V2_STATEMENT_TIMEOUT", "150ms") }
}

#[test]
fn a_row_that_takes_too_long_ends_the_run_and_names_the_setting() {
    let job = impatient();
    slow_rows(&job, 0, 2_000);
    let ended = job.run(LARGE_CHUNKS).expect(1);
    assert!(ended.stderr.contains("57014") && ended.stderr.contains("statement_timeout"), "{}", ended.stderr);
    // Its chunk was halved until it stood alone; the rows before it are in V2.
    assert!(ended.stderr.contains("rows=1\n"), "{}", ended.stderr);
    no_more_slow_rows(&job);
    until_done(&job);
    assert_undisturbed(&job, "statement timeout");
}

#[test]
fn a_chunk_that_takes_too_long_is_halved() {
    let job = impatient();
    slow_rows(&job, 4, 4);
    let ended = job.run(LARGE_CHUNKS).expect(3);
    assert!(ended.stderr.contains("is halved"), "{}", ended.stderr);
    no_more_slow_rows(&job);
    assert_undisturbed(&job, "halved");
}

/// Among the halves some are written the careful way, and what was rejected stays rejected.
#[test]
fn a_chunk_with_refused_rows_can_be_halved_too() {
    let job = impatient();
    slow_rows(&job, 4, 4);
    let refused = job.v1.one("select id from \"Teacher\" order by id offset 3 limit 1");
    let number = job.v1.one(&format!("select \"employeeNo\" from \"Teacher\" where id = '{refused}'"));
    job.v2
        .execute(&format!("alter table \"Teacher\" add constraint odd check (\"employeeNo\" <> '{number}')"));
    let ended = job.run(LARGE_CHUNKS).expect(3);
    assert!(ended.stderr.contains("is halved"), "{}", ended.stderr);
    assert_eq!(
        job.v2.one(&format!("select code from v1v2.ledger where entity = 'teachers' and key = '{refused}'")),
        "database-23514"
    );
    no_more_slow_rows(&job);
    job.v2.execute("alter table \"Teacher\" drop constraint odd");
    // A constraint that is gone is a change of V2, which has to be meant.
    job.run(&[SLOW, &["--retry-rejected"]].concat()).expect(5);
    job.run(&[SLOW, &["--retry-rejected", "--accept-changes"]].concat()).expect(3);
    assert_undisturbed(&job, "halved beside a refused row");
}

/// Ends the session that holds the run's lock.
fn end_the_holder(job: &Job) {
    job.v2.execute("select pg_terminate_backend(pid) from v1v2.lock");
    while job.v2.one("select count(*) from pg_stat_activity a join v1v2.lock l using (pid)") != "0" {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether somebody waits for the lock until the chunks of its last holder have ended.
fn waits_for_the_lock(job: &Job) -> bool {
    job.v2.one(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' \
         and query like '%v1v2.lock%'",
    ) != "0"
}

/// The first run loses its lock in the middle of a chunk, and a second one takes it over.
fn taken_over(job: &Job) -> (Outcome, Outcome) {
    let mut first = in_the_middle(&job.project, &job.v2);
    // From here on the first run stands still.
    let blocker = Session::open(job.v2.url());
    blocker.run("begin; lock table \"UserRole\" in share mode");
    assert!(first.wait_until(|_| copying(job) > 0));
    end_the_holder(job);
    // The second one gets the lock, and waits until the chunk of the first has ended.
    let mut second = job.project.spawn(SLOW);
    assert!(second.wait_until(|_| waits_for_the_lock(job)));
    blocker.end();
    (first.wait(), second.wait())
}

#[test]
fn a_run_that_lost_its_lock_to_another_cannot_commit() {
    let job = fresh();
    let (first, second) = taken_over(&job);
    assert_eq!(first.code(), Some(1), "{}", first.stderr);
    assert!(first.stderr.contains("lost its lock"), "{}", first.stderr);
    assert!(!second.stderr.contains("panicked"), "{}", second.stderr);
}

#[test]
fn a_run_that_takes_the_lock_over_knows_what_is_in_v2() {
    let job = fresh();
    taken_over(&job);
    until_done(&job);
    assert_undisturbed(&job, "fenced off");
}

/// As before, but the second run is held up by V1 when it has looked at V2: time for the first one to write on.
#[test]
fn what_was_committed_while_the_lock_was_taken_over_is_seen() {
    let job = fresh();
    let mut first = in_the_middle(&job.project, &job.v2);
    let blocker = Session::open(job.v2.url());
    blocker.run("begin; lock table \"UserRole\" in share mode");
    assert!(first.wait_until(|_| copying(&job) > 0));
    end_the_holder(&job);
    let proxy = Proxy::to(job.v1.url());
    proxy.hold("copy (select");
    let second = Project::between(&job.v1, &job.v2)
        .env("V1_DATABASE_URL", &proxy.url(job.v1.url()))
        .env("V1V2_HASH_MEMORY_KIB", "8")
        .env("V1V2_HASH_ITERATIONS", "1")
        .env("V1V2_KEY_FILE", job.project.path().join("v1v2.key").to_str().unwrap());
    let mut second = second.spawn(SLOW);
    assert!(second.wait_until(|_| waits_for_the_lock(&job)), "{}", second.stderr());
    blocker.end();
    assert!(proxy.wait_fired(1), "{}", second.stderr());
    // Fenced off, the first one ends; if it were not, it would write on.
    let written = "(select from v1v2.ledger where entity = 'parents') as parents";
    let start = Instant::now();
    first.wait_until(|_| job.v2.count(written) > 30 || start.elapsed() > Duration::from_secs(5));
    proxy.resume();
    first.wait();
    second.wait();
    until_done(&job);
    assert_undisturbed(&job, "taken over");
}

#[test]
fn a_run_whose_lock_is_lost_and_taken_by_nobody_loses_nothing() {
    let job = fresh();
    let running = in_the_middle(&job.project, &job.v2);
    end_the_holder(&job);
    let ended = running.wait();
    assert!(matches!(ended.code(), Some(1 | 3)), "{:?}\n{}", ended.code(), ended.stderr);
    until_done(&job);
    assert_undisturbed(&job, "lock lost");
}
