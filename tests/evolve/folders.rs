//! Folders: what `new` makes, and that everything that is wrong in any of them is told at once.

use super::{Mongo, Postgres};

#[test]
fn a_new_evolution_is_numbered_and_explains_itself() {
    let mongo = Mongo::new();
    mongo.run(&["new", "Add status"]).expect(0);
    mongo.run(&["new", "second"]).expect(0);
    for file in ["evolution.toml", "up.json", "down.json"] {
        assert!(!mongo.project.read(&format!("evolutions/0001_add_status/{file}")).is_empty());
        assert!(!mongo.project.read(&format!("evolutions/0002_second/{file}")).is_empty());
    }
    // The templates are well-formed as they stand.
    let status = mongo.run(&["status"]).expect(0);
    assert_eq!(status.stdout.matches("pending").count(), 2, "{}", status.stdout);
    mongo.run(&["new", "../x"]).expect(2);

    let postgres = Postgres::new();
    postgres.run(&["new", "third", "--evolutions", "elsewhere"]).expect(0);
    assert!(postgres.project.read("elsewhere/0001_third/up.sql").starts_with("--"));
    postgres.project.write("elsewhere/0001_third/up.sql", "create table t (id int)");
    postgres.project.write("elsewhere/0001_third/down.sql", "-- nobody minds the table");
    postgres.run(&["up", "--force", "--evolutions", "elsewhere"]).expect(0);
    assert_eq!(postgres.states(), ["0001_third|applied|up"]);
    postgres.run(&["down", "--force", "--evolutions", "elsewhere"]).expect(0);
    assert_eq!(postgres.states(), ["0001_third|reverted|down"]);
    assert!(postgres.lines("select * from t").is_empty());
}

/// Once it counts as applied, filling it in would be an edit of what was applied.
#[test]
fn what_nobody_has_filled_in_is_not_applied() {
    let (mongo, postgres) = (Mongo::new(), Postgres::new());
    mongo.evolution("0001_a", "[ { \"command\": { \"create\": \"a\" } } ]", "[]");
    mongo.run(&["new", "later"]).expect(0);
    postgres.evolution("0001_a", "-- a comment is no change\n;\n", "select 1");
    postgres.run(&["new", "later"]).expect(0);
    postgres.project.write("evolutions/0002_later/up.sql", "create table t (id int)");
    for arguments in [&["up", "--force"][..], &["up", "--dry-run"], &["up", "--force", "--safe"]] {
        let told = mongo.run(arguments).expect(2).stderr;
        assert!(told.contains("0002_later/up.json, evolutions/0002_later/down.json; nothing"), "{told}");
        let told = postgres.run(arguments).expect(2).stderr;
        assert!(told.contains("0001_a/up.sql, evolutions/0002_later/down.sql; nothing"), "{told}");
    }
    let status = postgres.run(&["status"]).expect(0).stdout;
    assert_eq!(status.matches("pending, not filled in").count(), 2, "{status}");
    assert!(mongo.v2.collections().is_empty());
    assert!(postgres.lines("select 1 from pg_namespace where nspname = 'v1v2'").is_empty());
    // What stands before it can go ahead.
    mongo.run(&["up", "--force", "--to", "1"]).expect(0);
    assert_eq!(mongo.v2.collections(), ["a", "v1v2_evolutions", "v1v2_lock"]);
}

/// Sent to the server it would wait for rows, for ever.
#[test]
fn a_copy_from_the_terminal_is_a_mistake() {
    let postgres = Postgres::new();
    postgres.evolution(
        "0001_a",
        "create table t (id int);\ncopy t (id) from stdin with (format csv);\n1\n\\.\n",
        "copy t to stdout",
    );
    let running = postgres.project.spawn(&["evolve", "up", "--force"]);
    let told = running.timeout(std::time::Duration::from_secs(20)).wait().expect(2).stderr;
    for text in ["0001_a/up.sql:2:18", "0001_a/down.sql:1:11", "a script has no rows to send"] {
        assert!(told.contains(text), "{text}\n{told}");
    }
    assert!(postgres.lines("select 1 from pg_namespace where nspname = 'v1v2'").is_empty());
}

/// Root may read everything, so as somebody else.
#[test]
fn a_script_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let postgres = Postgres::new();
    postgres.evolution("0001_a", "create table t (id int)", "drop table t");
    postgres.evolution("0002_b", "create table u (id int)", "drop table u");
    let folder = postgres.project.path();
    let allow = |path: &str, mode| {
        std::fs::set_permissions(folder.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow("", 0o755);
    let program = env!("CARGO_BIN_EXE_v1v2");
    let command = |arguments: &[&str]| {
        let mut command = match rustix::process::geteuid().is_root() {
            true => {
                let mut command = std::process::Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]);
                command
            }
            false => std::process::Command::new(program),
        };
        command.args(arguments).current_dir(folder).env("V2_DATABASE_URL", postgres.v2.url());
        command.output().unwrap()
    };
    if !command(&["--version"]).status.success() {
        eprintln!("skipped: nobody may start the program where it is");
        return;
    }
    for (path, mode) in
        [("evolutions/0002_b/up.sql", 0o644), ("evolutions/0002_b", 0o755), ("evolutions", 0o755)]
    {
        allow(path, 0);
        let output = command(&["evolve", "up", "--force"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("error: {path} cannot be read: Permission denied")), "{told}");
        assert!(told.contains("the right to read it"), "{told}");
        allow(path, mode);
    }
    assert!(postgres.lines("select 1 from pg_namespace where nspname = 'v1v2'").is_empty());
}

#[test]
fn without_a_folder_it_says_how_to_begin() {
    let outcome = Mongo::new().run(&["up"]).expect(2);
    assert!(outcome.stderr.contains("v1v2 evolve new NAME"), "{}", outcome.stderr);
}

#[test]
fn all_mistakes_of_all_folders_at_once() {
    let mongo = Mongo::new();
    let write = |path: &str, text: &str| mongo.project.write(&format!("evolutions/{path}"), text);
    write("0001_a/up.json", "[ { \"command\": { \"ping\": 1 } } ]");
    write("0001_b/up.json", "[\n  { \"update\": \"c\", }\n]");
    write("0001_b/down.json", "[]");
    write("0003_c/up.json", "[ { \"updat\": \"c\" } ]");
    write(
        "0003_c/down.json",
        "[ { \"update\": \"c\", \"pipline\": [], \"pipeline\": [ { \"$match\": {} } ] } ]",
    );
    write("0004_d/up.json", "[]");
    write("0004_d/down.json", "[]");
    write("0004_d/evolution.toml", "requires = [\"0009_z\"]\nirreversable = true\n");
    write("0005_e/up.json", "[]");
    write("0005_e/down.json", "[]");
    write("0005_e/evolution.toml", "requires = [\"0006_f\"]");
    write("0006_f/up.json", "[]");
    write("0006_f/evolution.toml", "requires = [\"5\"]\nirreversible = true");
    write("0007_g/Up.json", "[]");
    write("add_status/up.json", "[]");
    write("stray.json", "[]");
    write("examples/0001_x/up.json", "nobody looks at this");
    let outcome = mongo.run(&["up", "--force"]).expect(2);
    for text in [
        "0001_a and 0001_b have the same number",
        "0001_a: there is no down.json",
        "line 2, column 20",
        "did you mean `update`?",
        "has no key `pipline`",
        "did you mean `pipeline`?",
        "cannot have the stage `$match`",
        "there is no evolution `0009_z`",
        "did you mean `irreversible`?",
        "require each other",
        "why it cannot be taken back is not said",
        "Up.json: nothing reads this",
        "0007_g: there is no up.json",
        "add_status: the name does not say its place",
        "stray.json: nothing reads a script that stands here",
    ] {
        assert!(outcome.stderr.contains(text), "{text}\n{}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("0001_x"), "{}", outcome.stderr);
    assert!(mongo.v2.collections().is_empty());
}

#[test]
fn a_script_must_not_end_its_transaction() {
    let postgres = Postgres::new();
    postgres.evolution(
        "0001_x",
        "create table t (id int);\ncommit;\ncreate table u (id int);",
        "drop table t; drop table u",
    );
    postgres.evolution("0002_y", "\\echo hello", "select 1");
    let outcome = postgres.run(&["up", "--force"]).expect(2);
    for text in ["must not begin or end", "0001_x/up.sql:2:1", "commands of psql"] {
        assert!(outcome.stderr.contains(text), "{text}\n{}", outcome.stderr);
    }
    assert!(postgres.lines("select 1 from pg_tables where tablename = 't'").is_empty());
}

/// One folder for two databases; what has nothing for this one is left out, and nobody has to wait for it.
#[test]
fn each_database_takes_its_own_scripts() {
    let (mongo, postgres) = (Mongo::new(), Postgres::new());
    for project in [&mongo.project, &postgres.project] {
        for (file, text) in [
            ("0001_both/up.sql", "create table t (id int)"),
            ("0001_both/down.sql", "drop table t"),
            ("0001_both/up.json", "[ { \"command\": { \"create\": \"t\" } } ]"),
            ("0001_both/down.json", "[ { \"command\": { \"drop\": \"t\" } } ]"),
            ("0002_one/up.sql", "insert into t values (1)"),
            ("0002_one/down.sql", "delete from t"),
            ("0003_other/up.json", "[ { \"command\": { \"create\": \"u\" } } ]"),
            ("0003_other/down.json", "[ { \"command\": { \"drop\": \"u\" } } ]"),
            ("0003_other/evolution.toml", "requires = [\"0002_one\"]"),
        ] {
            project.write(&format!("evolutions/{file}"), text);
        }
    }
    mongo.up();
    assert_eq!(mongo.v2.collections(), ["t", "u", "v1v2_evolutions", "v1v2_lock"]);
    postgres.up();
    assert_eq!(postgres.lines("select * from t"), ["1"]);
    assert_eq!(postgres.states(), ["0001_both|applied|up", "0002_one|applied|up"]);
}
