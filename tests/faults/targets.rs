//! What can be wrong with V2, or be changed in it between runs.

use super::sources::Role;
use super::{PEOPLE, fresh};
use crate::job::Job;
use crate::support::Project;

/// The job with V2 as this role.
fn as_role(job: &Job, role: &Role<'_>) -> Project {
    Project::between(&job.v1, &job.v2).env("V2_DATABASE_URL", &role.url).env("V1V2_PASSWORDS", "none")
}

#[test]
fn every_missing_privilege_is_listed_and_granting_them_is_enough() {
    let job = Job::new(60, &[]);
    let role = Role::new(&job.v2, "writer", "secret");
    role.grant("grant usage on schema public, v1v2 to {role}; grant select, insert, update, delete on all tables in schema v1v2 to {role}");
    let project = as_role(&job, &role);
    let refused = project.run(&["migrate", "--force", "--no-bulk"]).expect(2);
    let grants: Vec<&str> = refused
        .stderr
        .lines()
        .map(|line| line.trim_start_matches([' ', '│', '╰', '─', '▶']).trim_start_matches("help: "))
        .filter(|line| line.starts_with("GRANT "))
        .collect();
    assert!(grants.len() >= 8, "{}", refused.stderr);
    role.grant(&grants.join("\n"));
    // An owner's right, which only the bulk load needs.
    project.run(&["migrate", "--force", "--no-bulk"]).expect(0);
    assert_eq!(job.v2.count("\"Student\""), job.v1.count("\"Student\""));
    assert_eq!(job.v2.one("select state from v1v2.runs"), "done");
}

#[test]
fn missing_privileges_on_the_control_schema_are_listed_too() {
    let job = Job::new(20, &[]);
    let role = Role::new(&job.v2, "writer", "secret");
    role.grant("grant usage on schema public to {role}; grant select, insert, update, delete on all tables in schema public to {role}");
    let refused = as_role(&job, &role).run(&["migrate", "--force"]).expect(2);
    assert!(refused.stderr.contains("GRANT USAGE ON SCHEMA \"v1v2\""), "{}", refused.stderr);
    assert!(refused.stderr.contains("ON \"v1v2\".\"ledger\""), "{}", refused.stderr);
}

#[test]
fn without_the_right_to_alter_tables_a_bulk_load_ends_before_it_writes() {
    let job = Job::new(60, &[]);
    let structure = job.structure();
    let role = Role::new(&job.v2, "writer", "secret");
    role.grant(
        "grant usage on schema public, v1v2 to {role}; \
         grant select, insert, update, delete on all tables in schema public, v1v2 to {role}",
    );
    for command in [&["check"][..], &["migrate", "--force"]] {
        let ended = as_role(&job, &role).run(command).expect(5);
        assert!(ended.stderr.contains("as a bulk load must"), "{}", ended.stderr);
        assert!(ended.stderr.contains("fix: `--no-bulk` (the setting `bulk`)"), "{}", ended.stderr);
    }
    assert_eq!(job.v2.count("v1v2.runs"), 0);
    as_role(&job, &role).env("V1V2_BULK", "false").run(&["check"]).expect(0);
    assert_eq!(job.v2.count("\"User\""), 0);
    assert_eq!(job.structure(), structure);
    as_role(&job, &role).run(&["migrate", "--force", "--no-bulk"]).expect(0);
}

#[test]
fn a_v2_whose_structure_changed_since_the_ledger_began_is_refused() {
    let job = Job::new(60, &[]);
    job.migrate(&["--entities", "schools"], 0);
    job.v2.execute("alter table \"School\" alter column name type varchar(200)");
    let before = job.result();
    let refused = job.migrate(&[], 5);
    job.migrate(&["--dry-run"], 5);
    assert!(
        refused.stderr.contains("School: column name was")
            && refused.stderr.contains("character varying(200)"),
        "{}",
        refused.stderr
    );
    assert_eq!(job.result(), before);
    // Nothing changed in what the next entity writes, and something that nobody writes is not looked at.
    job.v2.execute("alter table \"School\" add column motto text; create index on \"School\" (name)");
    job.migrate(&["--accept-changes"], 0);
    job.migrate(&[], 0);
    job.v2.execute("alter table \"Student\" add constraint odd check (true)");
    let refused = job.migrate(&[], 5);
    assert!(refused.stderr.contains("Student: constraint odd is new: CHECK (true)"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--accept-changes"), "{}", refused.stderr);
}

#[test]
fn a_ledger_of_a_newer_program_is_refused() {
    let job = Job::new(20, &[]);
    job.v2.execute("update v1v2.meta set value = '99' where key = 'control_version'");
    job.run(&["setup"]).expect(5);
    let refused = job.migrate(&[], 5);
    assert!(refused.stderr.contains("version 99"), "{}", refused.stderr);
    job.run(&["status"]).expect(5);
    job.v2.execute("update v1v2.meta set value = '0' where key = 'control_version'");
    let refused = job.migrate(&[], 5);
    assert!(
        refused.stderr.contains("version 0") && refused.stderr.contains("v1v2 setup"),
        "{}",
        refused.stderr
    );
    assert_eq!(job.v2.count("v1v2.runs"), 0);
}

#[test]
fn a_definition_that_was_edited_between_runs_is_pointed_out() {
    let job = Job::new(40, &[]);
    job.migrate(&["--entities", "schools"], 0);
    let schools =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/migrators/schools.toml")).unwrap();
    job.project.write("mine/schools.toml", &schools.replace("query = '''", "query = '''-- edited\n"));
    let ended = job.migrate(&["--migrators", "mine"], 0);
    assert!(ended.stderr.contains("the definition of schools was edited"), "{}", ended.stderr);
}

/// A column that a definition fills and that V2 no longer has is a problem of the definition, found before anything.
#[test]
fn a_column_that_v2_lost_between_runs_stops_the_next_one() {
    let job = Job::new(60, &[]);
    job.migrate(&["--entities", "schools"], 0);
    job.v2.execute("alter table \"Teacher\" rename column qualification to degree");
    let before = job.result();
    let refused = job.migrate(&[], 2);
    assert!(refused.stderr.contains("qualification"), "{}", refused.stderr);
    assert_eq!(job.result(), before);
}

#[test]
fn triggers_on_tables_that_are_written_are_pointed_out() {
    let job = Job::new(20, &[]);
    meddle(&job, "new.name = upper(new.name); return new;");
    let checked = job.run(&["check"]).expect(0);
    assert!(
        checked.stdout.contains("School has triggers (meddle)")
            && checked.stdout.contains("may change what is written"),
        "{}",
        checked.stdout
    );
}

/// A trigger on V2's schools.
fn meddle(job: &Job, body: &str) {
    job.v2.execute(&format!(
        "create function meddle() returns trigger language plpgsql as $$ begin {body} end $$; \
         create trigger meddle before insert on \"School\" for each row execute function meddle()"
    ));
}

#[test]
fn a_trigger_that_changes_rows_is_found_while_writing() {
    let job = Job::new(60, &[]);
    meddle(&job, "new.name = upper(new.name); return new;");
    let ended = job.migrate(&[], 4);
    assert!(ended.stderr.contains("the column name of School is not what was sent"), "{}", ended.stderr);
    assert_eq!(job.v2.count("\"School\""), 0);
}

/// Postgres takes no COPY where row security applies.
#[test]
fn row_security_of_v2_ends_the_run_before_anything_is_written() {
    let job = Job::new(60, &[]);
    let role = Role::new(&job.v2, "writer", "secret");
    role.grant(
        "grant usage on schema public, v1v2 to {role}; \
         grant select, insert, update, delete on all tables in schema public, v1v2 to {role}; \
         alter table \"School\" enable row level security; \
         create policy everything on \"School\" to {role} using (country <> 'NG') with check (true)",
    );
    let ended = as_role(&job, &role).run(&["migrate", "--force", "--no-bulk"]).expect(1);
    assert!(ended.stderr.contains("row-level security"), "{}", ended.stderr);
    drop(role);
    assert_eq!(job.v2.count("v1v2.ledger") + job.v2.count("\"School\"") + job.v2.count("\"User\""), 0);
}

/// A trigger that lets some teachers vanish without a word.
fn swallow(job: &Job) {
    job.v2.execute(
        "create function swallow() returns trigger language plpgsql as $$ begin \
           if new.\"employeeNo\" ~ '[02468]$' then return null; end if; return new; end $$; \
         create trigger swallow before insert on \"Teacher\" for each row execute function swallow()",
    );
}

#[test]
fn a_trigger_that_swallows_rows_is_found_while_writing() {
    let job = Job::new(PEOPLE, &[]);
    swallow(&job);
    let ended = job.migrate(&["--skip-validation"], 1);
    assert!(ended.stderr.contains("rows of a COPY"), "{}", ended.stderr);
    assert_eq!(job.v2.count("\"Teacher\""), 0);
}

/// A chunk with a refused row is written by other means, which must not be more gullible.
fn swallow_beside_a_refused_row() -> Job {
    let job = Job::new(PEOPLE, &[]);
    let some = "select \"employeeNo\" from \"Teacher\" order by id limit 1";
    job.v2.execute(&format!(
        "create function swallow() returns trigger language plpgsql as $$ begin \
           if new.id::text ~ '[02468]$' then return null; end if; return new; end $$; \
         create trigger swallow before insert on \"TeacherSubject\" for each row execute function swallow(); \
         alter table \"Teacher\" add constraint odd check (\"employeeNo\" <> '{}')",
        job.v1.one(some)
    ));
    job
}

#[test]
fn a_trigger_that_swallows_rows_beside_a_refused_row_is_found() {
    let job = swallow_beside_a_refused_row();
    let ended = job.run(&["migrate", "--force"]);
    assert!(matches!(ended.code(), Some(1 | 4)), "{:?}\n{}", ended.code(), ended.stdout);
}

#[test]
fn a_row_that_a_trigger_refuses_costs_only_itself() {
    let job = fresh();
    let refused = job.v1.one("select id from \"School\" order by id limit 1");
    let name = job.v1.one(&format!("select name from \"School\" where id = '{refused}'"));
    meddle(
        &job,
        &format!("if new.name = '{name}' then raise exception 'no: %', new.email; end if; return new;"),
    );
    job.migrate(&[], 3);
    assert_eq!(
        job.v2.one(&format!("select code from v1v2.ledger where entity = 'schools' and key = '{refused}'")),
        "database-P0001"
    );
    assert_eq!(job.v2.count("\"School\""), job.v1.count("\"School\"") - 1);
}
