//! Evolutions of Postgres: all or nothing, or statement by statement.

use super::Postgres;

#[test]
fn a_failed_one_leaves_nothing_and_says_where_and_what_next() {
    let postgres = Postgres::new();
    postgres.evolution("0001_a", "create table t (id int primary key, name text)", "drop table t");
    postgres.evolution(
        "0002_b",
        "insert into t values (1, 'x');\n\nalter table t\n  add column y int references nowhere (id);",
        "select 1",
    );
    postgres.evolution("0003_c", "insert into t values (3, 'x')", "delete from t");
    let outcome = postgres.run(&["up", "--force"]).expect(1);
    for text in [
        "0002_b/up.sql:3",
        "relation \"nowhere\" does not exist",
        "nothing of 0002_b is in V2",
        "v1v2 evolve up",
    ] {
        assert!(outcome.stderr.contains(text), "{text}\n{}", outcome.stderr);
    }
    assert_eq!(postgres.states(), ["0001_a|applied|up", "0002_b|failed|up"]);
    assert!(postgres.lines("select * from t").is_empty());
    let status = postgres.run(&["status"]).expect(0);
    for text in ["failed", "pending", "\n  next: nothing of it is in V2; run `v1v2 evolve up` again\n"] {
        assert!(status.stdout.contains(text), "{text}\n{}", status.stdout);
    }
    // It was never applied, so mending it needs nobody's leave; and `down` takes back the one before.
    postgres.evolution("0002_b", "insert into t values (2, 'x')", "delete from t where id = 2");
    postgres.up();
    assert_eq!(postgres.lines("select id from t order by id"), ["2", "3"]);
}

#[test]
fn a_syntax_error_has_line_and_caret() {
    let postgres = Postgres::new();
    postgres.evolution("0001_a", "-- Ünïcode before it\nselect 1;\nselect naïve frm pg_class;", "select 1");
    let outcome = postgres.run(&["up", "--force"]).expect(1);
    let pointed = outcome.stderr.contains("0001_a/up.sql:3") && outcome.stderr.contains("here");
    assert!(pointed && outcome.stderr.contains("select naïve frm pg_class"), "{}", outcome.stderr);
}

/// Values stand in the server's DETAIL, and in messages about data.
#[test]
fn an_error_about_data_points_at_the_statement_and_quotes_no_value() {
    let postgres = Postgres::new();
    postgres.v2.execute("create table t (email text); insert into t values ('CANARY'), ('CANARY')");
    postgres.evolution("0001_a", "select 1;\ncreate unique index t_email on t (email);", "select 1");
    let outcome = postgres.run(&["up", "--force"]).expect(1);
    assert!(
        outcome.stderr.contains("0001_a/up.sql:2") && outcome.stderr.contains("this statement"),
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stderr.contains("CANARY"), "{}", outcome.stderr);
    assert!(!postgres.lines("select error from v1v2.evolutions")[0].contains("CANARY"));
}

#[test]
fn a_failed_way_back_leaves_it_applied() {
    let postgres = Postgres::new();
    postgres.evolution("0001_a", "create table t (id int)", "drop table t; drop table nowhere");
    postgres.up();
    let outcome = postgres.run(&["down", "--force"]).expect(1);
    assert!(outcome.stderr.contains("still applied as a whole"), "{}", outcome.stderr);
    assert_eq!(postgres.states(), ["0001_a|applied|up"]);
    assert!(postgres.lines("select * from t").is_empty());
    let status = postgres.run(&["status"]).expect(0);
    for text in ["taking it back failed", "\n  next: remove the cause", "`v1v2 repair`"] {
        assert!(status.stdout.contains(text), "{text}\n{}", status.stdout);
    }
    // What the advice says is what it takes: the mended script is an edit of one that is applied.
    assert!(outcome.stderr.contains("let `v1v2 repair` accept it"), "{}", outcome.stderr);
    postgres.evolution("0001_a", "create table t (id int)", "drop table t");
    postgres.run(&["down", "--force"]).expect(5);
    postgres.project.run(&["repair"]).expect(0);
    postgres.down();
    assert_eq!(postgres.states(), ["0001_a|reverted|down"]);
    assert!(postgres.lines("select 1 from pg_tables where tablename = 't'").is_empty());
}

#[test]
fn what_cannot_be_in_a_transaction_says_where_that_is_said() {
    let postgres = Postgres::new();
    postgres.evolution(
        "0001_a",
        "create table t (id int); create index concurrently i on t (id)",
        "drop table t",
    );
    for arguments in [&["up", "--dry-run"][..], &["up", "--force"]] {
        let told = postgres.run(arguments).expect(1).stderr;
        assert!(told.contains("`transaction = false` in its evolution.toml"), "{told}");
        assert!(postgres.lines("select 1 from pg_tables where tablename = 't'").is_empty());
    }
    postgres.project.write("evolutions/0001_a/evolution.toml", "transaction = false");
    postgres.up();
    assert_eq!(postgres.lines("select indexname from pg_indexes where tablename = 't'"), ["i"]);
}

#[test]
fn without_a_transaction_it_goes_on_with_the_statement_that_failed() {
    let postgres = Postgres::new();
    let up = "create table t (id int);\ninsert into t values (1);\ncreate index concurrently i on t (id);\ninsert into t values (1/0);\ninsert into t values (4);";
    postgres.evolution("0001_a", up, "drop table t");
    postgres.project.write("evolutions/0001_a/evolution.toml", "transaction = false");
    let outcome = postgres.run(&["up", "--force"]).expect(1);
    assert!(outcome.stderr.contains("0001_a/up.sql:4"), "{}", outcome.stderr);
    assert_eq!(
        postgres.lines("select state, done, begun, transactional from v1v2.evolutions"),
        ["failed|3|t|f"]
    );
    assert_eq!(postgres.lines("select * from t"), ["1"]);
    postgres.run(&["down"]).expect(5);
    postgres.evolution("0001_a", &up.replace("1/0", "2"), "drop table t");
    postgres.up();
    assert_eq!(postgres.lines("select * from t order by id"), ["1", "2", "4"]);
    assert_eq!(postgres.states(), ["0001_a|applied|up"]);
    postgres.down();
    assert_eq!(postgres.states(), ["0001_a|reverted|down"]);
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_of_it() {
    let postgres = Postgres::new();
    postgres.evolution("0001_a", "create table t (id int); select pg_sleep(60)", "drop table t");
    let mut running = postgres.project.spawn(&["evolve", "up", "--force"]);
    let sleeping = "select pid from pg_stat_activity where query like '%pg_sleep(60)' and pid <> pg_backend_pid() and datname = current_database()";
    assert!(running.wait_until(|_| !postgres.lines(sleeping).is_empty()));
    // Meanwhile nobody else gets in, and is told who is there.
    let second = postgres.run(&["up", "--force"]).expect(5);
    assert!(second.stderr.contains(&format!("process {}", running.id())), "{}", second.stderr);
    assert!(running.signal("KILL"));
    running.wait();
    // The server only notices when the statement ends.
    postgres.lines(&sleeping.replace("select pid", "select pg_terminate_backend(pid)"));
    let status = postgres.run(&["status"]).expect(0);
    assert!(status.stdout.contains("nothing of it is in V2"), "{}", status.stdout);
    postgres.evolution("0001_a", "create table t (id int)", "drop table t");
    postgres.up();
    assert_eq!(postgres.states(), ["0001_a|applied|up"]);
}

#[test]
fn in_a_v2_that_was_set_up_it_is_a_run_like_others() {
    let postgres = Postgres::new();
    postgres.project.run(&["setup"]).expect(0);
    postgres.evolution("0001_a", "create table t (id int); select pg_sleep(2)", "drop table t");
    let mut running = postgres.project.spawn(&["evolve", "up", "--force"]);
    let begun = "select 1 from v1v2.runs where command = 'evolve'";
    assert!(running.wait_until(|_| !postgres.lines(begun).is_empty()));
    let second = postgres.project.run(&["repair"]).expect(5);
    assert!(second.stderr.contains("`evolve`"), "{}", second.stderr);
    running.wait().expect(0);
    assert_eq!(postgres.lines("select command, state from v1v2.runs"), ["evolve|done"]);
    // And `setup` brings the table to one that was set up before there were evolutions.
    postgres.v2.execute("drop table v1v2.evolutions");
    postgres.project.run(&["setup"]).expect(0);
    assert!(postgres.lines("select * from v1v2.evolutions").is_empty());
}

#[test]
fn a_script_s_session_settings_end_with_it() {
    let postgres = Postgres::new();
    postgres.evolution(
        "0001_a",
        "create schema other; set search_path to other",
        "drop schema other cascade",
    );
    postgres.evolution("0002_b", "create table t (id int)", "drop table t");
    postgres.up();
    assert_eq!(postgres.lines("select schemaname from pg_tables where tablename = 't'"), ["public"]);
}

#[test]
fn whoever_loses_the_connection_loses_lock_and_transaction() {
    let postgres = Postgres::new();
    let up = "create table t (id int);\ncreate index concurrently i on t (id);\nselect pg_sleep(60)";
    postgres.evolution("0001_a", "create table s (id int); select pg_sleep(60)", "drop table s");
    postgres.evolution("0002_b", up, "drop table t");
    postgres.project.write("evolutions/0002_b/evolution.toml", "transaction = false");
    let sleeping = "from pg_stat_activity where query like '%pg_sleep(60)' and pid <> pg_backend_pid() and datname = current_database()";
    let cut = |state: &str| {
        let mut running = postgres.project.spawn(&["evolve", "up", "--force"]);
        assert!(running.wait_until(|_| !postgres.lines(&format!("select 1 {sleeping}")).is_empty()));
        postgres.lines(&format!("select pg_terminate_backend(pid) {sleeping}"));
        running.wait().expect(1);
        let status = postgres.run(&["status"]).expect(0);
        assert!(status.stdout.contains(state), "{}", status.stdout);
    };
    cut("nothing of it is in V2");
    assert!(postgres.lines("select 1 from pg_tables where tablename = 's'").is_empty());
    postgres.evolution("0001_a", "create table s (id int)", "drop table s");
    cut("2 of its parts are done");
    postgres.evolution("0002_b", &up.replace("(60)", "(0)"), "drop table t");
    postgres.up();
    assert_eq!(postgres.states(), ["0001_a|applied|up", "0002_b|applied|up"]);
}
