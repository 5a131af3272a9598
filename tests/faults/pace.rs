//! Others use V2 at the same time: a run that is slow on purpose, and one that waits for V2's replicas.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::server::on;
use super::session::Session;
use super::sources::Role;
use super::{SLOW, assert_undisturbed, fresh};
use crate::job::Job;
use crate::support::{Database, Project, Running};

/// How many lines the ledger had at which time, until the program ended.
fn watch(running: &mut Running, v2: &Database) -> Vec<(Duration, u64)> {
    let (start, mut seen) = (Instant::now(), Vec::new());
    running.wait_until(|_| {
        seen.push((start.elapsed(), v2.count("v1v2.ledger")));
        std::thread::sleep(Duration::from_millis(20));
        false
    });
    seen
}

#[test]
fn no_second_sees_more_rows_than_allowed() {
    let job = Job::new(600, &[]);
    let mut running = job.project.spawn(&["migrate", "--force", "--max-rows-per-second", "200"]);
    let seen = watch(&mut running, &job.v2);
    let ended = running.wait().expect(0);
    let total = job.v2.count("v1v2.ledger");
    assert!(total >= 600, "{total}");
    let first = seen.iter().rfind(|(_, count)| *count == 0).unwrap().0;
    let last = seen.iter().find(|(_, count)| *count == total).map_or(ended.took, |(at, _)| *at);
    let least = Duration::from_secs_f64((total as f64 - 50.0) / 200.0 - 0.5);
    assert!(last - first >= least, "{total} rows within {:?}: {seen:?}", last - first);
    for (number, (at, before)) in seen.iter().enumerate() {
        let within = seen[number..].iter().take_while(|(later, _)| *later - *at <= Duration::from_secs(1));
        let most = within.map(|(_, count)| count - before).max().unwrap();
        // Each of the two writers may have been about to commit, and the next chunk's turn may have come.
        assert!(most <= 200 + 3 * 50, "{most} rows in the second after {at:?}: {seen:?}");
    }
    let undisturbed = Job::new(600, &[]);
    undisturbed.migrate(&[], 0);
    assert_eq!(job.result(), undisturbed.result());
}

#[test]
fn rejects_that_are_tried_again_keep_the_pace_and_rows_that_are_done_need_none() {
    let job = fresh();
    job.v1.execute(
        "set session_replication_role = replica; \
         update \"Student\" set \"schoolId\" = 'nowhere' where id in (select id from \"Student\" order by id limit 4)",
    );
    job.migrate(&[], 3);
    let rejected: u32 = job.v2.one("select count(*) from v1v2.ledger where outcome = 'r'").parse().unwrap();
    assert!((4..20).contains(&rejected), "{rejected}");
    let again = job.migrate(&["--retry-rejected", "--max-rows-per-second", "2"], 3);
    assert!(again.took >= Duration::from_secs_f64(f64::from(rejected - 1) / 2.0), "{:?}", again.took);
    job.migrate(&["--max-rows-per-second", "1"], 3);
    let dry = Job::new(300, &[]).run(&["migrate", "--dry-run", "--max-rows-per-second", "1"]).expect(0);
    assert!(dry.took < Duration::from_secs(60), "{:?}", dry.took);
    assert!(dry.stdout.contains("the run itself will take about 5 min"), "{}", dry.stdout);
}

fn with_lag<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [SLOW, &["--max-lag", "1s", "--max-rows-per-second", "60"], more].concat()
}

#[test]
fn a_replica_that_falls_behind_pauses_the_run_until_it_has_caught_up() {
    let primary = Cluster::start();
    let job = on(&primary, fresh());
    let replica = primary.replica("standby");
    let held = Session::open(&replica.url("postgres"));
    let mut running = job.project.spawn(&with_lag(&[]));
    // Not before: on a slow machine the beginning of the run alone, without a row, would be a second behind.
    assert!(running.wait_until(|_| job.v2.count("v1v2.ledger") > 20));
    held.run("select pg_wal_replay_pause()");
    let written = running.standstill(|| job.v2.count("v1v2.ledger"));
    assert!(running.stderr().contains("paused: the replica standby is "), "{}", running.stderr());
    let total = super::UNDISTURBED.0["v1v2.ledger"].rows;
    assert!(written > 0 && written < total, "{written} of {total}");
    held.run("select pg_wal_replay_resume()");
    let ended = running.wait().expect(3);
    assert!(ended.stderr.contains("the replicas have caught up"), "{}", ended.stderr);
    assert_undisturbed(&job, "behind a replica");
    // The replica has it all, too.
    let copy = replica.url(job.v2.name());
    let copied = format!("select {total} = (select count(*) from v1v2.ledger)");
    let reader = Session::open(&copy);
    let start = Instant::now();
    while !reader.is_true(&copied) {
        assert!(start.elapsed() < Duration::from_secs(20), "the replica does not follow");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_replica_that_leaves_is_waited_for_and_the_pause_can_be_interrupted() {
    let primary = Cluster::start();
    let job = on(&primary, fresh());
    let replica = primary.replica("standby");
    let mut running = job.project.spawn(&with_lag(&[]));
    assert!(running.wait_until(|_| job.v2.count("v1v2.ledger") > 20));
    replica.control(&["stop", "--wait", "--mode=fast"]);
    let written = running.standstill(|| job.v2.count("v1v2.ledger"));
    assert!(running.stderr().contains("paused: the replica standby is "), "{}", running.stderr());
    assert!(running.signal("INT"));
    let stopped = running.wait().expect(130);
    assert!(stopped.took < Duration::from_secs(5), "{:?}", stopped.took);
    assert_eq!(job.v2.count("v1v2.ledger"), written);
    // Who is away when a run begins is told about, and not waited for.
    let ended = job.run(&[SLOW, &["--max-lag", "1s"]].concat()).expect(3);
    assert!(ended.stderr.contains("the replica standby of V2"), "{}", ended.stderr);
    assert!(ended.stderr.contains("has no replica: there is nothing to watch"), "{}", ended.stderr);
    assert_undisturbed(&job, "without its replica");
}

#[test]
fn a_role_that_may_not_see_replicas_is_refused_with_the_grant() {
    let job = Job::new(20, &[]);
    let role = Role::new(&job.v2, "writer", "secret");
    role.grant(
        "grant usage on schema public, v1v2 to {role}; \
         grant select, insert, update, delete on all tables in schema public, v1v2 to {role}",
    );
    let project = Project::between(&job.v1, &job.v2)
        .env("V2_DATABASE_URL", &role.url)
        .env("V1V2_PASSWORDS", "none")
        .env("V1V2_MAX_LAG", "10s");
    let run = ["migrate", "--force", "--no-bulk"];
    for arguments in [&run[..], &["migrate", "--dry-run"]] {
        let refused = project.run(arguments).expect(5);
        let grant = format!("GRANT pg_monitor TO {};", role.name);
        assert!(refused.stderr.contains(&grant), "{}", refused.stderr);
    }
    assert_eq!(job.v2.count("v1v2.runs"), 0);
    role.grant("grant pg_monitor to {role}");
    project.run(&run).expect(0);
    let short = project.run(&["migrate", "--force", "--max-lag", "200ms"]).expect(2);
    assert!(short.stderr.contains("--max-lag must be at least 1s"), "{}", short.stderr);
}
