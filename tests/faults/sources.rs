//! What can be wrong with V1, or happen to it during a run.

use super::process::standing_still;
use super::session::Session;
use super::{SLOW, assert_undisturbed, fresh, until_done};
use crate::job::Job;
use crate::support::Database;
use crate::support::proxy::Proxy;

/// A role on a database's server, dropped with this value.
pub struct Role<'d> {
    database: &'d Database,
    pub name: String,
    pub url: String,
}

impl<'d> Role<'d> {
    /// A role with a password, and the right to connect and nothing else.
    pub fn new(database: &'d Database, kind: &str, password: &str) -> Self {
        let name = format!("{}_{kind}", database.name());
        database.execute(&format!("create role {name} login password '{password}'"));
        let mut url = url::Url::parse(database.url()).unwrap();
        url.set_username(&name).unwrap();
        url.set_password(Some(password)).unwrap();
        Self { database, name, url: url.into() }
    }

    /// A role that may read everything there is in the schema `public`.
    pub fn reader(database: &'d Database, kind: &str) -> Self {
        let role = Self::new(database, kind, "secret");
        role.grant(
            "grant usage on schema public to {role}; grant select on all tables in schema public to {role}",
        );
        role
    }

    /// Runs statements as the superuser, with `{role}` replaced by the role's name.
    pub fn grant(&self, sql: &str) -> &Self {
        self.database.execute(&sql.replace("{role}", &self.name));
        self
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.grant("drop owned by {role}; drop role {role}");
        }
    }
}

#[test]
fn a_source_role_that_may_only_read_is_enough() {
    let Job { v1, v2, project } = fresh();
    let role = Role::reader(&v1, "reader");
    role.grant(
        "alter role {role} set default_transaction_read_only = on; alter role {role} set work_mem = '64kB'",
    );
    let project = project.env("V1_DATABASE_URL", &role.url);
    project.run(&["check"]).expect(0);
    project.run(&["migrate", "--dry-run"]).expect(3);
    project.run(SLOW).expect(3);
    drop(role);
    let project = project.env("V1_DATABASE_URL", v1.url());
    assert_undisturbed(&Job { v1, v2, project }, "read only");
}

#[test]
fn a_policy_that_hides_rows_of_v1_is_an_error() {
    let job = Job::new(60, &[]);
    let role = Role::reader(&job.v1, "hidden");
    role.grant(
        "alter table \"Student\" enable row level security; \
         create policy visible on \"Student\" for select to {role} using (\"admissionNo\" like '%1')",
    );
    let project = crate::support::Project::between(&job.v1, &job.v2)
        .env("V1_DATABASE_URL", &role.url)
        .env("V1V2_PASSWORDS", "none");
    let refused = project.run(&["migrate", "--force"]);
    assert!(matches!(refused.code(), Some(1 | 2)), "{:?}\n{}", refused.code(), refused.stderr);
    assert!(refused.stderr.contains("row-level security"), "{}", refused.stderr);
    assert_eq!(job.v2.count("v1v2.ledger"), 0);
}

#[test]
fn a_table_of_v1_that_stays_locked_ends_the_run_before_anything_is_written() {
    let Job { v1, v2, project } = fresh();
    // The lock comes when the definitions are checked and the snapshot is about to be taken.
    let proxy = Proxy::to(v1.url());
    proxy.hold("repeatable read");
    let project = project.env("V1V2_LOCK_TIMEOUT", "300ms").env("V1_DATABASE_URL", &proxy.url(v1.url()));
    let job = Job { v1, v2, project };
    let running = job.project.spawn(SLOW);
    assert!(proxy.wait_fired(1), "{}", running.stderr());
    let blocker = Session::open(job.v1.url());
    blocker.run("begin; lock table \"Student\" in access exclusive mode");
    proxy.resume();
    let ended = running.wait().expect(1);
    assert!(ended.stderr.contains("V1 (") && ended.stderr.contains("55P03"), "{}", ended.stderr);
    assert_eq!(job.v2.count("v1v2.ledger"), 0);
    blocker.end();
    until_done(&job);
    assert_undisturbed(&job, "locked");
}

#[test]
fn a_lock_on_v1_is_no_mistake_in_a_definition() {
    let Job { v1, v2, project } = Job::new(20, &[]);
    let project = project.env("V1V2_LOCK_TIMEOUT", "300ms");
    let blocker = Session::open(v1.url());
    blocker.run("begin; lock table \"Student\" in access exclusive mode");
    let ended = project.run(&["check"]).expect(1);
    assert!(ended.stderr.contains("stays locked by"), "{}", ended.stderr);
    assert!(ended.stderr.contains("V1 (") && ended.stderr.contains("55P03"), "{}", ended.stderr);
    drop((blocker, v1, v2));
}

#[test]
fn who_blocks_v1_is_named() {
    let Job { v1, v2, project } = fresh();
    let job = Job { v1, v2, project: project.env("V1V2_LOCK_TIMEOUT", "300ms") };
    let blocker = Session::open(job.v1.url());
    blocker.run(
        "set application_name = 'nightly report'; begin; lock table \"Student\" in access exclusive mode",
    );
    let mut running = job.project.spawn(SLOW);
    assert!(
        running.wait_until(|running| running.stderr().contains("nightly report")),
        "{}",
        running.stderr()
    );
    blocker.end();
    running.wait().expect(3);
    assert_undisturbed(&job, "locked");
}

/// May read, over two connections: a second one reads ahead where it can, and a later run would like to have three.
fn limited(v1: &Database) -> Role<'_> {
    let role = Role::reader(v1, "limited");
    role.grant("alter role {role} connection limit 2");
    role
}

#[test]
fn a_first_run_with_few_connections_ends_like_any_other() {
    let Job { v1, v2, project } = fresh();
    let role = limited(&v1);
    let project = project.env("V1_DATABASE_URL", &role.url);
    project.run(SLOW).expect(3);
    drop(role);
    let project = project.env("V1_DATABASE_URL", v1.url());
    assert_undisturbed(&Job { v1, v2, project }, "few connections");
}

#[test]
fn a_source_role_with_few_connections_is_enough() {
    let Job { v1, v2, project } = fresh();
    let role = limited(&v1);
    let project = project.env("V1_DATABASE_URL", &role.url);
    project.run(SLOW).expect(3);
    let change = "update \"Student\" set \"className\" = 'Z' where id in (select id from \"Student\" order by id limit 3)";
    v1.execute(change);
    // The orphans are rejected again, and nothing else is.
    project.run(SLOW).expect(3);
    assert_eq!(v2.count("\"Student\" where \"className\" = 'Z'"), 3);
    assert_eq!(
        v2.one("select string_agg(distinct code, ', ') from v1v2.ledger where outcome = 'r'"),
        "missing-reference"
    );
}

/// Whoever waits for a table that the run reads would keep away the connection that reads ahead, and the run them.
#[test]
fn somebody_who_waits_for_a_table_of_v1_does_not_stop_the_run() {
    let Job { v1, v2, project } = fresh();
    let proxy = Proxy::to(v1.url());
    proxy.hold("set transaction snapshot");
    let project = project.env("V1_DATABASE_URL", &proxy.url(v1.url()));
    let job = Job { v1, v2, project };
    // Whoever waits gets the table once the run is over, and keeps it.
    let running = job.project.spawn(&[SLOW, &["--skip-validation"]].concat());
    assert!(proxy.wait_fired(1), "{}", running.stderr());
    let other = Session::open(job.v1.url());
    let waiting = other.run_meanwhile("begin; lock table \"Student\" in access exclusive mode");
    let queued = "select count(*) from pg_locks where not granted and relation = '\"Student\"'::regclass";
    while job.v1.one(queued) == "0" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    proxy.resume();
    running.wait().expect(3);
    waiting.join().unwrap().unwrap();
    other.end();
    assert_undisturbed(&job, "somebody waits");
}

/// TRUNCATE empties a table for snapshots that are older, too: once the run has its own, it has to wait.
#[test]
fn nobody_empties_a_table_under_the_snapshot() {
    let Job { v1, v2, project } = fresh();
    let proxy = Proxy::to(v1.url());
    // The lock is granted, and nothing was read yet.
    proxy.hold("select current_database");
    let project = project.env("V1_DATABASE_URL", &proxy.url(v1.url()));
    let job = Job { v1, v2, project };
    let running = job.project.spawn(SLOW);
    assert!(proxy.wait_fired(1), "{}", running.stderr());
    let other = Session::open(job.v1.url());
    let refused =
        other.run_meanwhile("set lock_timeout = '300ms'; truncate \"_ParentToStudent\"").join().unwrap();
    assert!(refused.is_err_and(|error| error.to_string().contains("lock timeout")));
    proxy.resume();
    running.wait().expect(3);
    assert_undisturbed(&job, "truncate");
}

#[test]
fn the_snapshot_is_lost_with_its_session_and_taken_anew_by_the_next_run() {
    let job = fresh();
    // The reader waits for the writers, who wait for this lock.
    let (running, blocker) = standing_still(&job, "School");
    job.v1.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
         and application_name = 'v1v2'",
    );
    blocker.end();
    let ended = running.wait().expect(1);
    assert!(ended.stderr.contains("V1 ("), "{}", ended.stderr);
    until_done(&job);
    assert_undisturbed(&job, "snapshot lost");
}

#[test]
fn the_ledger_of_another_cluster_is_refused() {
    let job = Job::new(40, &[]);
    job.migrate(&["--entities", "schools"], 0);
    // As if V1 were a restored copy somewhere else, under the same name.
    job.v2.execute("update v1v2.runs set source_system = '7' where source_system is not null");
    let before = job.result();
    let refused = job.migrate(&[], 5);
    assert!(
        refused.stderr.contains("another V1") && refused.stderr.contains("cluster 7"),
        "{}",
        refused.stderr
    );
    assert_eq!(job.result(), before);
}

#[test]
fn empty_tables_are_a_success_with_a_full_report() {
    let job = Job::new(20, &[]);
    job.v1.execute("truncate \"School\", \"Teacher\", \"Parent\", \"Student\", \"Subject\" cascade");
    let done = job.migrate(&[], 0);
    for entity in ["schools", "teachers", "parents", "students"] {
        assert!(done.stdout.contains(entity), "{}", done.stdout);
    }
    assert_eq!(job.v2.count("v1v2.ledger"), 0);
    assert_eq!(job.v2.one("select string_agg(state, ',') from v1v2.runs"), "done");
    job.run(&["validate", "--compare-counts"]).expect(0);
}
