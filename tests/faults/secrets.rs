//! No password, key or personal data where it does not belong.

use std::path::Path;

use url::Url;

use super::sources::Role;
use super::{SLOW, fresh};
use crate::job::Job;
use crate::support::{Outcome, Project};

/// In every password; no other text of the tests holds it.
const CANARY: &str = "CANARY-7f3a91";

/// Everything that a command said, and every file it left but the key.
#[track_caller]
fn silent_about(project: &Project, outcome: &Outcome, secrets: &[&str]) {
    for secret in secrets {
        assert!(!outcome.stdout.contains(secret), "stdout has {secret}:\n{}", outcome.stdout);
        assert!(!outcome.stderr.contains(secret), "stderr has {secret}:\n{}", outcome.stderr);
        for path in files(project.path()) {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains(secret), "{} has {secret}:\n{text}", path.display());
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A job whose roles, superusers both, have the canary for a password.
fn with_canary<'j>(job: &'j Job) -> (Project, [Role<'j>; 2]) {
    let roles = [&job.v1, &job.v2].map(|database| {
        let role = Role::new(database, "canary", CANARY);
        role.grant("alter role {role} superuser");
        role
    });
    let project = Project::new()
        .env("V1_DATABASE_URL", &roles[0].url)
        .env("V2_DATABASE_URL", &roles[1].url)
        .env("V1V2_HASH_MEMORY_KIB", "8")
        .env("V1V2_HASH_ITERATIONS", "1")
        .env("RUST_BACKTRACE", "1")
        .env("RUST_LOG", "trace");
    (project, roles)
}

#[test]
fn a_password_of_a_database_is_never_told() {
    let job = Job::new(60, &["--orphans"]);
    let (project, roles) = with_canary(&job);
    for arguments in [
        &["settings"][..],
        &["check", "--verbose"],
        &["migrate", "--dry-run", "--verbose"],
        &["migrate", "--force", "--verbose"],
        &["migrate", "--force", "--json", "--retry-rejected"],
        &["status", "--json"],
        &["validate", "--compare-counts"],
        &["rollback", "--force", "--verbose"],
        &["repair"],
    ] {
        let running = project.spawn(arguments);
        // Whoever may list processes sees their arguments.
        let line = std::fs::read(format!("/proc/{}/cmdline", running.id())).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(CANARY));
        let ended = running.wait();
        assert!(matches!(ended.code(), Some(0 | 3)), "{arguments:?}: {:?}\n{}", ended.code(), ended.stderr);
        silent_about(&project, &ended, &[CANARY]);
    }
    let logs = files(project.path()).into_iter().filter(|path| path.to_string_lossy().contains("migration"));
    let bytes: u64 = logs.map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes > 1_000, "there were logs to look at");
    // Nor does V2 remember it.
    for table in ["runs", "meta", "lock", "ledger", "conflicts"] {
        let found = format!("select count(*) from v1v2.{table} as t where t::text like '%{CANARY}%'");
        assert_eq!(job.v2.one(&found), "0");
    }
    drop(roles);
}

#[test]
fn no_error_tells_the_password() {
    let job = Job::new(20, &[]);
    let change = |change: &dyn Fn(&mut Url)| {
        let mut url = Url::parse(job.v2.url()).unwrap();
        url.set_password(Some(CANARY)).unwrap();
        change(&mut url);
        String::from(url)
    };
    for (url, code) in [
        (change(&|_| {}), 1),
        (change(&|url| url.set_username("nobody_at_all").unwrap()), 1),
        (change(&|url| url.set_host(Some("no-such-host.invalid")).unwrap()), 1),
        (change(&|url| url.set_port(Some(1)).unwrap()), 1),
        (change(&|url| url.set_query(Some("sslmode=nonsense"))), 2),
        (change(&|url| url.set_query(Some("sslmode=verify-full&sslrootcert=/nonexistent"))), 1),
        (format!("postgres://me:{CANARY}@"), 2),
        (format!("mysql://me:{CANARY}@localhost/x"), 2),
        (format!("postgres://me:{CANARY}@localhost:port/x"), 2),
        (format!("postgres://me:{CANARY}@[::1/x"), 2),
        (format!("me:{CANARY}@localhost/x"), 2),
    ] {
        let project = Project::new()
            .env("V1_DATABASE_URL", job.v1.url())
            .env("V2_DATABASE_URL", &url)
            .env("RUST_BACKTRACE", "full");
        let shown = url.replace(CANARY, "…");
        for arguments in [&["status"][..], &["migrate", "--force", "--verbose", "--json"]] {
            let ended = project.run(arguments);
            assert_eq!(ended.code(), Some(code), "{shown}: {}", ended.stderr);
            silent_about(&project, &ended, &[CANARY]);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        }
    }
}

#[test]
fn a_panic_tells_only_where_it_happened() {
    // The program has no way to panic on demand; that its hook is in force shows in a reader that leaves (tests/cli.rs),
    // and its text is one place: whoever changes it must see this.
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/mod.rs")).unwrap();
    let hook = source.split("fn report_panic").nth(1).unwrap();
    assert!(source.contains("set_hook(Box::new(report_panic))") && !hook.contains("payload"));
}

/// Values of the rows that the databases complain about.
fn person(job: &Job) -> [String; 3] {
    let row = job
        .v1
        .rows(
            "select id, name, lower(email) from \"Teacher\" where email ~ '^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+$' \
             and name ~ '^[A-Z][a-z]+ [A-Z][a-z]+$' order by id limit 1",
        )
        .remove(0);
    row.into_iter().map(Option::unwrap).collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn values_of_rows_that_the_database_refuses_are_not_told() {
    let job = fresh();
    let [id, name, email] = person(&job);
    for violation in [
        format!("alter table \"User\" add constraint narrow check (email <> '{email}')"),
        "create unique index one_each on \"Teacher\" (qualification)".to_owned(),
        "alter table \"Teacher\" alter column qualification type varchar(3)".to_owned(),
    ] {
        job.v2.execute(&violation);
    }
    let ended = job.run(&[SLOW, &["--verbose"]].concat()).expect(3);
    assert!(!ended.stderr.contains("panicked"));
    assert_eq!(
        job.v2.one(&format!("select code from v1v2.ledger where key = '{id}' and outcome = 'r'")).get(..9),
        Some("database-")
    );
    silent_about(&job.project, &ended, &[&email, &name]);
    assert_eq!(
        job.v2.one(&format!(
            "select count(*) from v1v2.ledger where reason like '%{email}%' or reason like '%{name}%'"
        )),
        "0"
    );
}

#[test]
fn what_a_trigger_says_about_a_row_is_not_told() {
    let job = fresh();
    let [_, _, email] = person(&job);
    job.v2.execute(&format!(
        "create function refuse() returns trigger language plpgsql as $$ begin \
           if new.email = '{email}' then raise exception 'no place for %', new.email; end if; return new; end $$; \
         create trigger refuse before insert on \"User\" for each row execute function refuse()"
    ));
    let ended = job.run(SLOW);
    silent_about(&job.project, &ended, &[&email]);
    assert_eq!(job.v2.one("select count(*) from v1v2.runs where error like '%@%'"), "0");
}

#[test]
fn a_filter_can_do_nothing_but_choose() {
    let job = Job::new(20, &[]);
    for filter in [
        "true; drop table \"School\"",
        "true) or (select true",
        "id = (select pg_terminate_backend(pg_backend_pid())::text)",
        "pg_sleep(60) is null",
        "lo_import('/etc/passwd') > 0",
        "set_config('statement_timeout', '1', false) = '1'",
        "dblink('host=evil', 'select 1') is null",
        "pg_read_file('/etc/passwd') is null",
        "id = any(array(select password from \"Teacher\"))",
        "nextval('s') > 0",
        "xpath_table('a','b','c','d','e') is null",
        "operator(pg_catalog.+)(1) is null",
        "$$x$$ = 'x' \\; select 1",
        "id = '\0'",
    ] {
        if filter.contains('\0') {
            continue; // No argument can hold it.
        }
        let refused = job.migrate(&["--filter", &format!("schools:{filter}")], 2);
        assert!(refused.stderr.contains("fix: "), "{filter}: {}", refused.stderr);
    }
    assert_eq!(job.v2.count("v1v2.runs"), 0);
    // What is allowed runs in a read-only transaction all the same.
    job.migrate(&["--entities", "schools", "--filter", "schools:lower(name) <> '' or name ~ '^(a+)+$'"], 0);
}
