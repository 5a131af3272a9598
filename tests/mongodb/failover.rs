//! A replica set in trouble: elections, lost replies, transactions that the server gives up. Whatever happens, V2 holds in
//! the end what an undisturbed run leaves: nothing is lost, nothing is there twice.

use std::sync::LazyLock;

use mongodb::bson::{Document, doc};

use super::Job;
use crate::support::{Database, Digest, MongoDatabase, Mongod, prepared};

/// Many small chunks, so that trouble finds some of them under way.
const CHUNKS: &[&str] = &["migrate", "--force", "--batch-size", "20"];

const PEOPLE: u32 = 400;

/// What an undisturbed run leaves. The same for all tests, since the sample is made from a seed.
static UNDISTURBED: LazyLock<Digest> = LazyLock::new(|| {
    let job = Job::over(sample());
    job.run(CHUNKS).expect(3);
    job.result()
});

fn sample() -> Database {
    prepared::sample(PEOPLE, &["--orphans"])
}

fn on(server: &Mongod) -> Job {
    Job::between(sample(), MongoDatabase::on(server, "v2"))
}

#[track_caller]
fn assert_undisturbed(job: &Job) {
    assert_eq!(job.result(), *UNDISTURBED);
    assert_eq!(job.count("v1v2_lock"), 0);
    assert_eq!(job.count("v1v2_dropped"), 0);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

/// A run whose primary, once some chunks are written, answers commands with trouble so many times.
fn run_with(times: i32, trouble: Document, arguments: &[&str]) {
    let server = Mongod::replica_set(1);
    let job = on(&server);
    let mut running = job.project.spawn(arguments);
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 0));
    server.fail_command(doc! { "times": times }, trouble);
    let outcome = running.wait();
    server.fail_command(doc! {}, doc! {});
    assert_eq!(outcome.code(), Some(3), "{}", outcome.stderr);
    assert_undisturbed(&job);
}

#[test]
fn a_step_down_in_the_middle_of_a_run_loses_and_doubles_nothing() {
    let server = Mongod::replica_set(3);
    let job = on(&server);
    let first = server.wait_for_primary();
    let mut running = job.project.spawn(CHUNKS);
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 40));
    server.step_down(30);
    let ended = running.wait();
    assert_eq!(ended.code(), Some(3), "{}", ended.stderr);
    assert_ne!(server.wait_for_primary(), first);
    assert_undisturbed(&job);
}

#[test]
fn a_primary_that_dies_in_the_middle_of_a_run_loses_and_doubles_nothing() {
    let mut server = Mongod::replica_set(3);
    let job = on(&server);
    let mut running = job.project.spawn(CHUNKS);
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 40));
    let primary = server.wait_for_primary();
    server.kill(primary);
    let ended = running.wait();
    assert_eq!(ended.code(), Some(3), "{}", ended.stderr);
    assert_undisturbed(&job);
}

#[test]
fn a_transient_transaction_error_repeats_the_whole_transaction() {
    let trouble = doc! {
        "failCommands": ["insert"], "errorCode": 251, "errorLabels": ["TransientTransactionError"],
        "appName": "v1v2",
    };
    run_with(5, trouble, CHUNKS);
}

#[test]
fn a_connection_that_is_cut_in_a_transaction_repeats_it() {
    let trouble = doc! { "failCommands": ["insert", "update"], "closeConnection": true, "appName": "v1v2" };
    run_with(4, trouble, CHUNKS);
}

#[test]
fn an_unknown_result_of_a_commit_repeats_the_commit_alone() {
    // The commit takes place; what is lost is the word of the majority.
    let trouble = doc! {
        "failCommands": ["commitTransaction"], "appName": "v1v2",
        "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" },
    };
    run_with(6, trouble, CHUNKS);
}

#[test]
fn a_connection_that_is_cut_at_the_commit_repeats_the_commit() {
    let trouble = doc! { "failCommands": ["commitTransaction"], "closeConnection": true, "appName": "v1v2" };
    run_with(5, trouble, CHUNKS);
}

#[test]
fn a_commit_that_nobody_ever_answers_is_looked_up_in_the_ledger() {
    // More often than the writer repeats a commit.
    let trouble = doc! {
        "failCommands": ["commitTransaction"], "appName": "v1v2",
        "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" },
    };
    run_with(34, trouble, CHUNKS);
}

#[test]
fn a_transaction_that_is_too_large_or_too_old_is_split() {
    for code in [257, 290] {
        let trouble = doc! { "failCommands": ["insert"], "errorCode": code, "appName": "v1v2" };
        // The smallest chunk has four rows, which can be halved twice.
        run_with(2, trouble, CHUNKS);
    }
}

#[test]
fn a_server_with_little_memory_is_given_smaller_transactions() {
    let trouble = doc! {
        "failCommands": ["insert"], "errorCode": 112, "errorLabels": ["TransientTransactionError"],
        "appName": "v1v2",
    };
    run_with(9, trouble, CHUNKS);
}

#[test]
fn without_a_primary_two_interrupts_end_the_run_and_it_goes_on_later() {
    let mut server = Mongod::replica_set(3);
    let job = on(&server);
    let mut running = job.project.spawn(CHUNKS);
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 40));
    // Of three members one is left: no majority, so no primary.
    let primary = server.wait_for_primary();
    let other = (primary + 1) % 3;
    server.kill(primary);
    server.kill(other);
    // The first one waits for a chunk that nobody can take now.
    assert!(running.signal("INT"));
    assert!(running.wait_until(|running| running.stderr().contains("press Ctrl-C again")));
    assert!(running.signal("INT"));
    let ended = running.wait().expect(130);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    server.restart(primary);
    server.restart(other);
    server.wait_for_primary();
    job.run(CHUNKS).expect(3);
    assert_undisturbed(&job);
}

#[test]
fn changed_rows_and_their_rollback_get_through_the_same_trouble() {
    let server = Mongod::replica_set(1);
    let job = on(&server);
    job.run(CHUNKS).expect(3);
    let before = job.whole();
    // Rows that were rejected among them: they are tried again.
    let change = "update \"Student\" set \"className\" = 'moved'; update \"Parent\" set occupation = 'moved'";
    job.v1.execute(change);
    let troubles = [
        doc! { "failCommands": ["update"], "errorCode": 251, "errorLabels": ["TransientTransactionError"], "appName": "v1v2" },
        doc! { "failCommands": ["update", "find"], "closeConnection": true, "appName": "v1v2" },
        doc! { "failCommands": ["commitTransaction"], "closeConnection": true, "appName": "v1v2" },
        doc! { "failCommands": ["update"], "errorCode": 290, "appName": "v1v2" },
    ];
    let mut running = job.project.spawn(CHUNKS);
    for trouble in troubles {
        let replaced = job.count("v1v2_replaced");
        assert!(running.wait_until(|_| job.count("v1v2_replaced") > replaced));
        // The smallest chunk has four rows, which can be halved twice.
        server.fail_command(doc! { "times": 2 }, trouble);
    }
    let ended = running.wait();
    server.fail_command(doc! {}, doc! {});
    assert_eq!(ended.code(), Some(3), "{}", ended.stderr);
    let undisturbed = Job::over(sample());
    undisturbed.run(CHUNKS).expect(3);
    undisturbed.v1.execute(change);
    undisturbed.run(CHUNKS).expect(3);
    assert_eq!(job.result(), undisturbed.result());
    for command in ["delete", "commitTransaction"] {
        let mut running = job.project.spawn(&["rollback", "--force"]);
        let replaced = job.count("v1v2_replaced");
        assert!(running.wait_until(|_| job.count("v1v2_replaced") < replaced) || replaced == 0);
        server.fail_command(doc! { "times": 3 }, doc! { "failCommands": [command], "closeConnection": true });
        running.wait();
        server.fail_command(doc! {}, doc! {});
        if job.v2.count("v1v2_runs", doc! { "state": "rolled_back" }) > 0 {
            break;
        }
    }
    assert_eq!(job.whole(), before);
}
