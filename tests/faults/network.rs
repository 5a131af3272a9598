//! The network between the program and the databases: cut, silent, and a reply that never arrives.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{SLOW, assert_undisturbed, behind_proxy, fresh, in_the_middle, seeds, until_done};
use crate::job::Job;
use crate::support::Project;
use crate::support::proxy::{Direction, Proxy};

#[test]
fn connections_cut_in_the_middle_of_anything() {
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let (job, proxy) = behind_proxy(fresh());
        // A run of this size sends some 300 KB to V2 and gets some 100 KB back.
        for _ in 0..6 {
            proxy.cut_after(random.random_range(2_000..250_000), Direction::ToServer);
            proxy.cut_after(random.random_range(2_000..90_000), Direction::FromServer);
        }
        until_done(&job);
        assert!(proxy.fired() >= 4, "seed {seed}: only {} connections were cut", proxy.fired());
        assert_undisturbed(&job, &format!("seed {seed}"));
    }
}

#[test]
fn all_connections_to_v2_cut_at_once() {
    let (job, proxy) = behind_proxy(fresh());
    let running = in_the_middle(&job.project, &job.v2);
    proxy.cut_all();
    // The writers come back; whether the run does depends on what the other connections were doing.
    let ended = running.wait();
    assert!(matches!(ended.code(), Some(1 | 3)), "{:?}\n{}", ended.code(), ended.stderr);
    until_done(&job);
    assert_undisturbed(&job, "all connections cut");
}

#[test]
fn v1_cut_in_the_middle_of_reading() {
    let Job { v1, v2, project } = fresh();
    let proxy = Proxy::to(v1.url());
    let project = project.env("V1_DATABASE_URL", &proxy.url(v1.url()));
    let job = Job { v1, v2, project };
    // The catalog comes first. What a second connection read ahead is read again; what the snapshot's own read is lost.
    let lost = (60_000..160_000).step_by(15_000).any(|bytes| {
        proxy.cut_after(bytes, Direction::FromServer);
        let ended = job.run(SLOW);
        // The snapshot is lost with its connection: the run ends, and never mixes two views of V1.
        assert!(matches!(ended.code(), Some(1 | 3)), "{:?}\n{}", ended.code(), ended.stderr);
        if ended.code() == Some(3) {
            job.run(&["rollback", "--force"]).expect(0);
        }
        ended.code() == Some(1) && ended.stderr.contains("V1 (")
    });
    assert!(lost && proxy.fired() >= 1);
    until_done(&job);
    assert_undisturbed(&job, "V1 cut");
}

#[test]
fn a_lost_reply_to_commit_inserts_nothing_twice() {
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let (job, proxy) = behind_proxy(fresh());
        // Each counts the COMMITs from now; the first one is that of the bulk load's beginning.
        let mut commits: Vec<usize> = (0..4).map(|_| random.random_range(2..30)).collect();
        commits.dedup();
        commits.iter().for_each(|&commit| proxy.lose_reply_to_commit(commit));
        // The writers find out what became of their chunk, so the run needs no second try.
        let ended = job.run(SLOW);
        assert_eq!(ended.code(), Some(3), "seed {seed}, {commits:?}\n{}", ended.stderr);
        assert!(proxy.fired() >= 1, "seed {seed}, {commits:?}");
        assert!(ended.stderr.contains("the chunk is tried again"), "seed {seed}\n{}", ended.stderr);
        assert_undisturbed(&job, &format!("seed {seed}, {commits:?}"));
    }
}

#[test]
fn a_lost_reply_to_the_first_commit_of_a_bulk_load_ends_well_too() {
    let (job, proxy) = behind_proxy(fresh());
    proxy.lose_reply_to_commit(1);
    job.run(SLOW).expect(1);
    assert_eq!(proxy.fired(), 1);
    assert_ne!(job.v2.count("v1v2.dropped"), 0, "V2 knows what it lacks");
    until_done(&job);
    assert_undisturbed(&job, "bulk load");
}

#[test]
fn a_commit_of_an_aborted_transaction_is_a_failure() {
    let (job, proxy) = behind_proxy(fresh());
    proxy.abort_commit(9);
    let ended = job.run(SLOW).expect(1);
    assert_eq!(proxy.fired(), 1);
    assert!(ended.stderr.contains("COMMIT did not commit"), "{}", ended.stderr);
    assert_eq!(job.v2.one("select state from v1v2.runs order by no desc limit 1"), "failed");
    until_done(&job);
    assert_undisturbed(&job, "aborted");
}

#[test]
fn a_silence_that_ends_is_waited_for() {
    let (job, proxy) = behind_proxy(fresh());
    let running = in_the_middle(&job.project, &job.v2);
    proxy.stall();
    std::thread::sleep(Duration::from_millis(1_500));
    proxy.resume();
    running.wait().expect(3);
    assert_undisturbed(&job, "silence");
}

#[test]
fn a_silence_that_does_not_end_is_given_up() {
    let Job { v1, v2, project } = fresh();
    let project = project
        .env("V1V2_CONNECT_TIMEOUT", "500ms")
        .env("FAILPOINT_PAUSE", "20")
        .env("V1V2_LOCK_TIMEOUT", "500ms")
        .env("V1V2_ANSWER_TIMEOUT", "500ms");
    let (job, proxy) = behind_proxy(Job { v1, v2, project });
    let running = in_the_middle(&job.project, &job.v2).timeout(Duration::from_secs(100));
    proxy.stall();
    let ended = running.wait().expect(1);
    assert!(ended.stderr.contains("did not answer"), "{}", ended.stderr);
    proxy.resume();
    until_done(&job);
    assert_undisturbed(&job, "silence");
}

/// The link is back before the run gives up. What the lost sessions held is given back, though the server never heard
/// that they were lost.
#[test]
fn a_silence_that_ends_in_time_costs_one_more_try() {
    let Job { v1, v2, project } = fresh();
    let project = project.env("V1V2_LOCK_TIMEOUT", "500ms").env("V1V2_ANSWER_TIMEOUT", "1s");
    let (job, proxy) = behind_proxy(Job { v1, v2, project });
    let mut running = in_the_middle(&job.project, &job.v2);
    proxy.hold("copy v1v2.ledger");
    assert!(
        running.wait_until(|running| running.stderr().contains("did not answer")),
        "{}",
        running.stderr()
    );
    running.wait().expect(3);
    assert_undisturbed(&job, "silence of one connection");
}

/// A wrong password stays wrong: trying it again could lock the user out.
#[test]
fn a_password_that_is_changed_during_the_run_is_tried_once() {
    let job = fresh();
    let role = super::sources::Role::new(&job.v2, "writer", "secret");
    role.grant("alter role {role} superuser");
    let Job { v1, v2, project } = &job;
    let project = Project::between(v1, v2)
        .env("V2_DATABASE_URL", &role.url)
        .env("V1V2_HASH_MEMORY_KIB", "8")
        .env("V1V2_HASH_ITERATIONS", "1")
        .env("V1V2_KEY_FILE", project.path().join("v1v2.key").to_str().unwrap());
    let running = in_the_middle(&project, v2);
    role.grant("alter role {role} password 'another'");
    v2.execute(&format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}'",
        role.name
    ));
    let ended = running.wait().expect(1);
    assert!(ended.stderr.contains("does not let user"), "{}", ended.stderr);
    assert!(ended.stderr.matches("the chunk is tried again").count() <= 2, "{}", ended.stderr);
    drop(role);
    until_done(&job);
    assert_undisturbed(&job, "password");
}

/// All is written, and then the lock's connection is gone: the run's end is recorded over another one.
#[test]
fn a_lock_that_is_lost_at_the_very_end_is_no_failure() {
    let (job, proxy) = behind_proxy(fresh());
    proxy.hold("validate constraint");
    let running = job.project.spawn(SLOW);
    assert!(proxy.wait_fired(1), "{}", running.stderr());
    job.v2.execute("select pg_terminate_backend(pid) from v1v2.lock");
    proxy.resume();
    running.wait().expect(3);
    assert_eq!(job.v2.one("select state from v1v2.runs"), "done");
    assert_eq!(job.v2.count("v1v2.lock"), 0);
    assert_undisturbed(&job, "the lock's connection");
}

/// The server lets us in and then says nothing more.
#[test]
fn a_server_that_falls_silent_behind_the_login_is_given_up() {
    let Job { v1, v2, project } = Job::new(20, &[]);
    let (job, proxy) = behind_proxy(Job { v1, v2, project: project.env("V1V2_CONNECT_TIMEOUT", "500ms") });
    proxy.hold("set client_encoding");
    let started = Instant::now();
    let ended = job.project.spawn(&["status"]).timeout(Duration::from_secs(20)).wait().expect(1);
    assert!(ended.stderr.contains("did not answer within 0.5 s"), "{}", ended.stderr);
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn nobody_listens_any_more() {
    let job = Job::new(20, &[]);
    let proxy = Proxy::to(job.v2.url());
    let url = proxy.url(job.v2.url());
    drop(proxy);
    let project = Project::new().env("V1_DATABASE_URL", job.v1.url()).env("V2_DATABASE_URL", &url);
    let ended = project.run(&["migrate", "--force"]).expect(1);
    assert!(
        ended.stderr.contains("nothing listens there") && ended.stderr.contains("V2 ("),
        "{}",
        ended.stderr
    );
}
