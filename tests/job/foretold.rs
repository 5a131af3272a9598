//! What a dry run says of rows that are in V2 already: the same as the run that follows it.

use super::Job;
use crate::support::Digest;
use crate::support::foretold::{assert_foretold, sum};
use crate::support::sample::{A_SCHOOL, upheaval};

impl Job {
    /// All that V2 holds, its own notes, sequences and structure included, and which transaction wrote each row.
    fn whole(&self) -> (Digest, [Vec<Vec<Option<String>>>; 2]) {
        let rows = self.v2.rows(
            "select 'sequence', schemaname || sequencename, last_value::text from pg_sequences \
             union all select 'user', id::text, xmin::text from \"User\" \
             union all select 'student', id::text, xmin::text from \"Student\" \
             union all select 'line', entity || key, xmin::text from v1v2.ledger order by 1, 2",
        );
        (self.v2.digest(&["public", "v1v2"], &[]), [self.structure(), rows])
    }

    /// A row's id in V2, or that of its account.
    fn id(&self, column: &str, key: &str) -> String {
        self.v2.one(&format!("select {column} from v1v2.ledger where key = '{key}'"))
    }
}

const KEPT: &[&str] = &["--accept-changes"];
const PRUNED: &[&str] = &["--accept-changes", "--prune"];
const OVERWRITTEN: &[&str] = &["--accept-changes", "--prune", "--on-edited", "overwrite"];

#[test]
fn a_dry_run_foretells_changes_edits_and_removals() {
    let job = Job::new(300, &[]);
    job.v1.execute(A_SCHOOL);
    // Rows that the application has beside ours, in tables of its own and in ours.
    job.v2.execute(
        "create table note (no serial primary key, teacher uuid references \"Teacher\" deferrable initially deferred, \
           student uuid references \"Student\" on delete cascade); \
         alter table \"Parent\" add constraint short check (occupation <> 'Refused')",
    );
    job.migrate(&["--accept-changes"], 0);
    let key = |table: &str, offset: u32| {
        job.v1.one(&format!("select id from \"{table}\" order by id offset {offset} limit 1"))
    };
    // Changed and edited; changed and deleted; gone and edited; gone and referred to; gone, and cascaded from.
    let (changed, deleted) = (key("Teacher", 0), key("Teacher", 1));
    let (gone, cascaded, noted) = (key("Student", 0), key("Student", 1), key("Teacher", 7));
    job.v2.execute(&format!(
        "update \"User\" set city = 'Edited' where id = '{}'; \
         update \"TeacherSubject\" set \"teacherId\" = \"teacherId\" where \"teacherId\" = '{}'; \
         delete from \"TeacherSubject\" where \"teacherId\" = '{2}'; delete from \"Teacher\" where id = '{2}'; \
         update \"Student\" set sex = sex where id = '{3}'; \
         insert into note (student) values ('{4}'); insert into note (teacher) values ('{5}')",
        job.id("account_id", &changed),
        job.id("target_id", &changed),
        job.id("target_id", &deleted),
        job.id("target_id", &gone),
        job.id("target_id", &cascaded),
        job.id("target_id", &noted),
    ));
    upheaval(&job.v1);
    job.v1.execute(&format!("delete from \"Teacher\" where id = '{noted}'"));
    let ways = [(KEPT, 3), (PRUNED, 3), (OVERWRITTEN, 3)];
    let told = assert_foretold(&job.project, || job.whole(), &ways, Some(&[]));
    // All of it was there to be foretold.
    for (told, kind) in [
        (&told[0], "edited_in_v2: kept"),
        (&told[1], "change_refused: kept"),
        (&told[2], "edited_in_v2: overwritten"),
    ] {
        assert!(told["conflicts"][kind].as_u64() > Some(0), "{kind}: {told}");
    }
    assert_eq!([0, 1, 2].map(|way| sum(&told[way], "prunes_refused")), [0, 2, 1]);
    assert_eq!([0, 1, 2].map(|way| sum(&told[way], "changes_refused")), [2, 2, 2]);
    assert!(sum(&told[1], "pruned") > 4, "{}", told[1]);
    // Small chunks decide the same.
    let small = [&["--batch-size", "7", "--writers", "1"], OVERWRITTEN].concat();
    assert_foretold(&job.project, || job.whole(), &[(&small, 3)], Some(&[]));
    let said = job.run(&[&["migrate", "--dry-run"], PRUNED].concat()).expect(3);
    assert!(said.stdout.contains("would be removed from V2, 1 would stay"), "{}", said.stdout);
}

/// A value that one row gives up and another one takes, in another chunk; and a definition that was edited.
#[test]
fn a_dry_run_knows_what_earlier_chunks_would_have_left() {
    let job = Job::new(200, &[]);
    job.v2.execute("create unique index one_of_a_kind on \"Student\" (\"className\")");
    job.v1.execute("update \"Student\" set \"className\" = 'class ' || id");
    job.migrate(&["--accept-changes"], 0);
    job.v1.execute(
        "create temporary table numbered as select id, row_number() over (order by id collate \"C\") as no from \"Student\"; \
         update \"Student\" s set \"className\" = coalesce((select 'class ' || before.id from numbered own \
           join numbered before on before.no = own.no - 1 where own.id = s.id), 'first')",
    );
    let small: &[&str] = &["--batch-size", "1", "--writers", "1"];
    assert_foretold(&job.project, || job.whole(), &[(small, 0)], None);
    job.project.redefine("parents", |definition| {
        definition.replacen("occupation = \"occupation\"", "occupation = \"name\"", 1)
    });
    job.v2.execute("alter table \"Parent\" add constraint no check (occupation not like '%a%') not valid");
    let mine: &[&str] = &["--migrators", "mine", "--accept-changes", "--batch-size", "10", "--writers", "1"];
    assert_foretold(&job.project, || job.whole(), &[(mine, 3)], None);
}

/// What is tried leaves no trace, and waits for nobody: not in tables, nor in what their numbers are taken from.
#[test]
fn a_dry_run_holds_no_locks_and_takes_no_numbers() {
    let job = Job::new(200, &[]);
    job.v1.execute(A_SCHOOL);
    job.v2.execute(
        "alter table \"Parent\" add column number serial unique; \
         alter table \"Student\" add column number integer generated always as identity, \
           add column initial text generated always as (left(\"admissionNo\", 1)) stored",
    );
    job.migrate(&["--accept-changes"], 0);
    upheaval(&job.v1);
    let before = job.whole();
    let lock = crate::faults::session::Session::open(job.v2.url());
    lock.run("begin; select from \"User\" for update; select from \"Student\" for update; select from v1v2.ledger for update");
    let dry = job.run(&["migrate", "--dry-run", "--prune", "--json"]).expect(3);
    lock.run("rollback");
    assert_eq!(job.whole(), before);
    let told = dry.result("migrate");
    assert_eq!((sum(&told, "rejected"), sum(&told, "migrated")), (0, 2), "{told}");
}

/// Foreign keys to tables that are not migrated, and what is told of a row that is rejected; by a user who may do no more than a
/// run needs.
#[test]
fn a_dry_run_asks_the_tables_beside_ours_and_needs_no_further_rights() {
    let job = Job::new(300, &[]);
    job.v1.execute(A_SCHOOL);
    job.v2.execute(
        "create table known (name text primary key); insert into known values ('Cook'); \
         create schema own; create table own.desk (no serial, teacher uuid, school uuid references \"School\")",
    );
    job.migrate(&[], 0);
    job.v2.execute(
        "insert into known select distinct occupation from \"Parent\" where occupation is not null on conflict do nothing; \
         alter table \"Parent\" add constraint known foreign key (occupation) references known; \
         alter table \"Student\" add constraint \"short \"\"number\"\"\" check (length(\"admissionNo\") < 20); \
         create unique index \"Student at home\" on \"Student\" (\"className\") where \"className\" like 'at home%'; \
         insert into own.desk (school) select target_id::uuid from v1v2.ledger where key = 'b-closing'",
    );
    let role = format!("dry_{}", job.v2.name());
    job.v2.execute(&format!(
        "create role {role} login password 'secret' ; grant usage on schema v1v2 to {role}; \
         grant all on all tables in schema v1v2 to {role}; grant all on all sequences in schema v1v2 to {role}; \
         grant select, insert, update, delete on all tables in schema public to {role}; \
         grant select on own.desk to {role}"
    ));
    upheaval(&job.v1);
    job.v1.execute(
        "insert into \"Student\" (id, \"schoolId\", \"admissionNo\", name, \"updatedAt\", \"className\", \"gradeLevel\") \
           select 'new-' || n, min(id), case n when 1 then repeat('9', 30) else 'NEW-' || n end, 'New Student', now(), 'at home', 'JSS 1' \
           from \"School\", generate_series(1, 3) n group by n",
    );
    let url = format!("postgres://{role}:secret@{}", job.v2.url().split_once('@').unwrap().1);
    let Job { v1, v2, project } = job;
    let project = project.env("V2_DATABASE_URL", &url);
    let job = Job { v1, v2, project };
    let prune: &[&str] = &["--accept-changes", "--prune"];
    let told = assert_foretold(&job.project, || job.whole(), &[(KEPT, 3)], Some(&[]));
    assert_eq!((sum(&told[0], "rejected"), sum(&told[0], "changes_refused")), (2, 3), "{}", told[0]);
    let reasons = told[0]["first_rejects"].to_string();
    assert!(reasons.contains("(constraint Student at home)"), "{reasons}");
    // What may not be read cannot be asked; then the run may find that it is in use.
    let dry = job.run(&[&["migrate", "--dry-run", "--json"], prune].concat()).expect(3);
    assert_eq!(sum(&dry.result("migrate"), "prunes_refused"), 0);
    job.v2.execute(&format!("grant usage on schema own to {role}"));
    let told = assert_foretold(&job.project, || job.whole(), &[(prune, 3)], Some(&[]));
    assert_eq!(sum(&told[0], "prunes_refused"), 1);
    job.v2.execute(&format!("drop owned by {role}; drop role {role}"));
}
