//! Entities and tables that refer to each other in a circle.

use crate::job::Job;
use crate::support::foretold::{assert_foretold, sum};
use crate::support::{Database, Digest, Project, circle};

/// The circle, and the program between the databases.
struct World {
    v1: Database,
    v2: Database,
    project: Project,
}

/// 25 is headed by somebody who cannot be migrated (a name that is too long), 13 by somebody whom V2 refuses as a head: with 26,
/// these three lack their members, too. Of two members of 4 one cannot be migrated. Nobody's department is 99, so 303 cannot be
/// migrated, nor can 304, but for the mentor.
const ROWS: &str = "update employee set name = repeat('long', 9) where id in (175, 296);
insert into employee values (303, 'E303', 99, 1), (304, 'E304', 7, 303)";

const TABLES: &str = "
create table department (id integer primary key, name text not null unique, head integer check (head <> 91));
create table employee (id integer primary key, name varchar(20) not null, department integer not null references department,
  mentor integer references employee);
create table membership (department integer not null references department, employee integer not null references employee,
  primary key (department, employee));
alter table department add constraint headed foreign key (head) references employee;
";

const DEPARTMENTS: &str = r#"
entity = "departments"
ids = "keep"
[source]
key = "id"
query = "select * from department"
[[postgres]]
table = "department"
[postgres.columns]
id = { id = true }
name = "name"
head = { entity = "employees", key = "head", later = true }
[[postgres]]
table = "membership"
each = "members"
[postgres.columns]
department = { id = true }
employee = { entity = "employees", key = "each", missing = "skip", later = true }
"#;

const EMPLOYEES: &str = r#"
entity = "employees"
after = ["departments"]
ids = "keep"
[source]
key = "id"
query = "select * from employee"
[[postgres]]
table = "employee"
[postgres.columns]
id = { id = true }
name = "name"
department = { entity = "departments", key = "department" }
mentor = { entity = "employees", key = "mentor", missing = "null", later = true }
"#;

/// What V2 must hold of V1, as one line for each row.
const EXPECTED: &str = "
with people as (select id, name, department,
  case when mentor not in (175, 296, 303) then mentor end as mentor from employee where id not in (175, 296, 303))
select 'd', id, name, case when head not in (175, 9999, 91) then head end from department
union all select 'm', id, null, m from department, unnest(members) m
  where m not in (175, 296) and head is distinct from 175 and head is distinct from 9999 and head is distinct from 91
union all select 'e', id, name || department, mentor from people order by 1, 2, 4";

const HELD: &str = "
select 'd', id, name, head from department union all select 'm', department, null, employee from membership
union all select 'e', id, name || department, mentor from employee order by 1, 2, 4";

const MIGRATE: &[&str] = &["migrate", "--force", "--batch-size", "16"];

impl World {
    fn new() -> Self {
        let (v1, v2) = (circle::v1_with(ROWS), Database::v2());
        let project = Project::between(&v1, &v2)
            .env("V1V2_PASSWORDS", "none")
            .env("V1V2_MIGRATORS_DIR", "mine")
            .env("V1V2_SETUP_DIR", "own");
        project.write("mine/accounts.toml", "builtin = false\n");
        project.write("mine/departments.toml", DEPARTMENTS);
        project.write("mine/employees.toml", EMPLOYEES);
        project.write("own/postgres/schema.sql", TABLES);
        project.write("own/reference/manifest.toml", "");
        project.run(&["setup"]).expect(0);
        Self { v1, v2, project }
    }

    fn migrate(&self, more: &[&str], code: i32) -> crate::support::Outcome {
        self.project.run(&[MIGRATE, more].concat()).expect(code)
    }

    /// V2 holds what V1's rows become, and the logs say why the rest is not there.
    #[track_caller]
    fn assert_whole(&self) {
        circle::assert_same(&self.v1.rows(EXPECTED), &self.v2.rows(HELD));
        let rejected =
            "select string_agg(key || ' ' || code, ', ' order by key) from v1v2.ledger where outcome = 'r'";
        let told = "175 database-22001, 296 database-22001, 303 missing-reference";
        assert_eq!(self.v2.one(rejected), told);
        let lines = "select count(*), count(distinct (entity, key)) from v1v2.ledger";
        let rows = "select (select count(*) from department) + (select count(*) from employee)";
        assert_eq!(self.v2.rows(lines)[0], vec![Some(self.v1.one(rows)); 2]);
        let conflicts =
            "select entity || ' ' || key || ' ' || kind || ' ' || decision from v1v2.conflicts order by 1";
        let conflicts: Vec<String> = self.v2.rows(conflicts).into_iter().flatten().flatten().collect();
        let expected = [
            "departments 13 change_refused kept",
            "departments 25 change_refused kept",
            "departments 26 change_refused kept",
            "departments 4 missing-reference left-out",
            "employees 174 missing-reference null",
            "employees 295 missing-reference null",
            "employees 304 missing-reference null",
        ];
        assert_eq!(conflicts, expected);
        let valid = "select count(*) from pg_constraint where contype = 'f' and convalidated and connamespace = 'public'::regnamespace";
        assert_eq!(self.v2.one(valid), "5");
    }

    /// All of V2 but for the numbers of runs and transactions.
    fn result(&self) -> Digest {
        let mut digest =
            self.v2.digest(&["public", "v1v2"], &["*.txid", "*.earlier", "*.run", "v1v2.entities.first_run"]);
        for own in ["v1v2.runs", "v1v2.lock", "v1v2.dropped", "v1v2.meta", "v1v2.replaced"] {
            digest.remove(own);
        }
        digest
    }

    fn roll_back_all(&self) {
        while self.v2.count("v1v2.ledger") > 0 {
            self.project.roll_back_next(&[]);
        }
        let left = ["department", "employee", "membership", "v1v2.replaced", "v1v2.conflicts"];
        assert_eq!(left.map(|table| self.v2.count(table)), [0; 5]);
    }
}

#[test]
fn a_circle_of_entities_is_filled_in_at_the_end_and_taken_back_whole() {
    let world = World::new();
    world.project.run(&["check"]).expect(0);
    let dry = world.project.run(&["migrate", "--dry-run"]).expect(3);
    assert!(dry.stdout.contains("departments: 3 rows lack"), "{}", dry.stdout);
    assert!(dry.stdout.contains("missing-reference: null"), "{}", dry.stdout);
    let run = world.migrate(&[], 3);
    assert!(run.stdout.contains("departments: 3 rows lack"), "{}", run.stdout);
    world.assert_whole();
    let undisturbed = world.result();

    // The next run writes nothing but tries what was refused again.
    let stamps = "select array_agg((xmin::text, id) order by id)::text from department union all \
                  select array_agg((xmin::text, id) order by id)::text from employee";
    let before = world.v2.rows(stamps);
    let again = world.migrate(&[], 3);
    assert!(again.stdout.contains("departments: 3 rows lack"), "{}", again.stdout);
    assert_eq!((world.v2.rows(stamps), world.result()), (before, undisturbed.clone()));

    world.v1.execute(circle::CHANGES);
    world.migrate(&[], 3);
    world.assert_whole();
    world.project.run(&["rollback", "--force"]).expect(0);
    assert_eq!(world.result(), undisturbed);
    world.migrate(&[], 3);
    world.assert_whole();

    // What was refused is filled in once it can be.
    world.v1.execute("update employee set name = 'short' where id = 175; insert into employee values (9999, 'E9999', 1, 1)");
    world.v2.execute("alter table department drop constraint department_head_check");
    let run = world.migrate(&["--accept-changes"], 3);
    assert!(!run.stdout.contains("rows lack"), "{}", run.stdout);
    let heads = "select id, head from department order by id";
    assert_eq!(world.v2.rows(heads), world.v1.rows(heads));
    // 4 and 174 were decided without the row that came later, as with any other reference.
    assert_eq!(world.v2.one("select count(*) from v1v2.conflicts where kind = 'change_refused'"), "0");
    world.roll_back_all();
}

#[cfg(feature = "failpoints")]
#[test]
fn a_run_that_is_killed_before_or_in_the_pass_that_fills_in_goes_on() {
    let world = World::new();
    world.migrate(&["--no-bulk"], 3);
    let undisturbed = world.result();
    world.roll_back_all();
    let in_bulk =
        ["postgres.commit.after@15:abort", "postgres.update.table@1:abort", "postgres.update.table@9:abort"];
    let without =
        ["write.acknowledged@24:abort", "postgres.commit.before@8:fatal", "postgres.update.ledger@2:abort"];
    for (mode, points) in [("--skip-validation", in_bulk), ("--no-bulk", without)] {
        for point in points {
            let ended = world.project.run_with(&[MIGRATE, &[mode]].concat(), "FAILPOINT", point);
            assert!(ended.stderr.contains("fail point"), "{point} was never reached: {}", ended.stderr);
        }
        world.migrate(&[], 3);
        world.assert_whole();
        assert_eq!(world.result(), undisturbed);
        world.roll_back_all();
    }
    // In whatever it is doing.
    let slow = [MIGRATE, &["--max-rows-per-second", "600"]].concat();
    let done = "select (select count(*) from v1v2.ledger) + (select count(*) from v1v2.replaced where table_name like '%ledger%')";
    let kills = world.project.kill_at(&slow, &[200, 350, 400], || world.v2.one(done).parse::<u64>().unwrap());
    assert!(kills >= 2, "the run was killed {kills} times");
    world.migrate(&[], 3);
    world.assert_whole();
    assert_eq!(world.result(), undisturbed);
    world.roll_back_all();
}

#[test]
fn a_part_of_a_circle_waits_for_the_rest() {
    let world = World::new();
    let run = world.migrate(&["--entities", "departments"], 0);
    assert!(run.stdout.contains("departments: 40 rows wait"), "{}", run.stdout);
    let held = "select count(*), count(head), (select count(*) from membership) from department";
    let counts = |of: [&str; 3]| vec![of.map(|count| Some(count.to_owned())).to_vec()];
    assert_eq!(world.v2.rows(held), counts(["40", "0", "0"]));
    let run = world.migrate(&["--filter", "employees: id <= 150"], 0);
    // Heads up to 21, members up to 40, but all departments have a member beyond.
    assert!(run.stdout.contains("departments: 40 rows wait"), "{}", run.stdout);
    assert_eq!(world.v2.rows(held), counts(["40", "0", "0"]));
    world.migrate(&["--retry-rejected"], 3);
    world.assert_whole();
    world.roll_back_all();
}

#[test]
fn what_was_edited_stays_without_what_was_to_be_filled_in() {
    let world = World::new();
    world.migrate(&["--entities", "departments"], 0);
    world.v2.execute("update department set name = 'mine' where id = 2");
    world.migrate(&[], 3);
    assert_eq!(world.v2.one("select concat_ws(' ', name, head) from department where id = 2"), "mine");
    let listed = "select detail from v1v2.conflicts where kind = 'edited_in_v2'";
    assert_eq!(world.v2.rows(listed), [[Some("department".to_owned())]]);
    assert_eq!(world.v2.count("membership where department = 2"), 2);
    world.migrate(&["--on-edited", "overwrite"], 3);
    assert_eq!(world.v2.one("select concat_ws(' ', name, head) from department where id = 2"), "mine");
}

#[test]
fn tables_of_one_entity_may_refer_to_each_other() {
    let world = World::new();
    let tables = "create table user_of (id uuid primary key, name text, main uuid); \
                  create table profile (id uuid primary key, of uuid not null references user_of, unique (of)); \
                  alter table user_of add constraint main foreign key (main) references profile";
    world.v2.execute(tables);
    let file = "entity = \"people\"\n[source]\nkey = \"id\"\nquery = \"select id, name from employee\"\n\
        [[postgres]]\ntable = \"user_of\"\n[postgres.columns]\nid = { id = true }\nname = \"name\"\nmain = { id = \"profile\" }\n\
        [[postgres]]\ntable = \"profile\"\n[postgres.columns]\nid = { id = \"profile\" }\nof = { id = true }\n";
    world.project.write("mine/people.toml", file);
    let refused = world.project.run(&["check"]).expect(2);
    let said = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("user_of → profile → user_of") && said.contains("`later = true`"), "{said}");
    world.project.write(
        "mine/people.toml",
        &file.replace("{ id = \"profile\" }\n[[", "{ id = \"profile\", later = true }\n[["),
    );
    for mode in ["--skip-validation", "--no-bulk"] {
        world.migrate(&["--entities", "people", mode], 0);
        let whole = "select count(*) from user_of u join profile p on p.id = u.main and p.of = u.id";
        assert_eq!((world.v2.one(whole), world.v2.count("profile")), ("304".to_owned(), 304));
        // One is gone: both of its records refer to the other.
        world.v1.execute(
            "create table away as select * from employee where id = 8; delete from employee where id = 8",
        );
        world.migrate(&["--entities", "people", "--prune"], 0);
        assert_eq!((world.v2.one(whole), world.v2.count("profile")), ("303".to_owned(), 303));
        world.project.run(&["rollback", "--force"]).expect(0);
        assert_eq!((world.v2.one(whole), world.v2.count("profile")), ("304".to_owned(), 304));
        world.v1.execute("insert into employee select * from away; drop table away");
        world.v1.execute("update employee set name = name || '!' where id % 4 = 0");
        world.migrate(&["--entities", "people"], 0);
        assert_eq!(world.v2.one(whole), "304");
        world.project.run(&["rollback", "--force"]).expect(0);
        assert_eq!(
            (world.v2.one(whole), world.v2.count("user_of where name like '%!'")),
            ("304".to_owned(), if mode == "--skip-validation" { 0 } else { 76 })
        );
        world.project.roll_back_next(&[]);
        assert_eq!((world.v2.count("user_of"), world.v2.count("profile")), (0, 0));
    }
}

#[test]
fn people_may_stand_in_a_circle() {
    let job = Job::new(300, &["--orphans"]);
    let read = |name: &str| {
        std::fs::read_to_string(format!("{}/migrators/{name}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let add = |name: &str, (from, column): (&str, &str), fill: &str| {
        let file = read(name).replacen("select ", &format!("select {from}, "), 1);
        let file =
            file.replacen("[postgres.columns]\n", &format!("[postgres.columns]\n{column} = {fill}\n"), 1);
        assert!(file.contains(from) && file.contains(column), "{file}");
        job.project.write(&format!("mine/{name}.toml"), &file);
    };
    let head = "(select max(x.id) from \"Teacher\" x where x.\"schoolId\" = s.id) as head_id";
    add("schools", (head, "headId"), "{ entity = \"teachers\", key = \"head_id\", later = true }");
    let buddy = "(select max(x.id) from \"Teacher\" x where x.id <> t.id) as buddy_id";
    add("teachers", (buddy, "buddyId"), "{ entity = \"teachers\", key = \"buddy_id\", later = true }");
    job.v2.execute(
        "alter table \"School\" add \"headId\" uuid references \"Teacher\"; \
         alter table \"Teacher\" add \"buddyId\" uuid references \"Teacher\"",
    );
    let structure = job.structure();
    let before = job.result();
    // What is decided about people is the same with and without a circle.
    let people = [
        "select to_jsonb(u) - '{passwordHash, createdAt, updatedAt}'::text[] from \"User\" u order by id",
        "select \"userId\", \"roleId\", \"schoolId\" from \"UserRole\" order by 1, 2, 3",
        "select entity, key, kind, decision, other_entity, other_key, detail from v1v2.conflicts order by 1, 2, 3",
        "select entity, key, outcome, account_id, target_id, code from v1v2.ledger order by 1, 2",
    ];
    let look = || people.map(|sql| job.v2.rows(&format!("select md5(x::text) from ({sql}) x")));
    job.migrate(&["--passwords", "generate"], 3);
    let straight = look();
    job.run(&["rollback", "--force"]).expect(0);
    job.migrate(&["--migrators", "mine", "--passwords", "generate"], 3);
    assert!(straight == look());
    let heads = "select count(*) from \"School\" s join \"Teacher\" t on t.id = s.\"headId\" and t.\"schoolId\" = s.id";
    let schools = "select count(distinct \"schoolId\") from \"Teacher\"";
    assert_eq!(job.v2.one(heads), job.v2.one(schools));
    let buddies = "select count(\"buddyId\") from \"Teacher\" where \"buddyId\" <> id";
    assert!(job.v2.count("\"Teacher\"") > 10);
    assert_eq!(job.v2.one(buddies), job.v2.count("\"Teacher\"").to_string());
    assert_eq!(job.structure(), structure);
    job.run(&["validate", "--compare-counts", "--compare-fields", "--migrators", "mine"]).expect(0);
    // Nobody has a password that was not written with the account.
    assert_eq!(job.v2.one("select count(*) from \"User\" where \"passwordHash\" is null"), "0");
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.result(), before);
    assert_eq!(job.structure(), structure);
}

/// 41 and 82 are gone from V1 with their departments, 2 and 3, whose heads they were.
const CIRCLES_GO: &str = "
update employee set mentor = null where mentor in (41, 82); delete from employee where id in (41, 82);
update employee set department = 1 where department in (2, 3); delete from department where id in (2, 3);
update department set head = null where head in (41, 82);
update department set members = array_remove(array_remove(members, 41), 82)";

#[test]
fn circles_that_are_gone_from_v1_are_pruned_whole_and_come_back() {
    let world = World::new();
    world.v1.execute("update department set head = 39 + id where id = 2; update department set head = 82, members = '{82, 5}' where id = 3");
    world.migrate(&[], 3);
    let (before, held) = (world.result(), world.v2.rows(HELD));
    world.v1.execute(CIRCLES_GO);
    world.migrate(&["--prune", "--skip-validation"], 3);
    world.assert_whole();
    let left = "select (select count(*) from employee where id in (41, 82)) + (select count(*) from department where id in (2, 3)) \
                + (select count(*) from membership where department in (2, 3) or employee in (41, 82))";
    assert_eq!(world.v2.one(left), "0");
    world.project.run(&["rollback", "--force"]).expect(0);
    assert_eq!((world.v2.rows(HELD), world.result()), (held.clone(), before.clone()));
    // Nothing of it counts as edited: it goes again, and comes back again.
    world.migrate(&["--prune", "--skip-validation"], 3);
    assert_eq!(world.v2.one(left), "0");
    // Cut short when the departments are back without their heads, and then when the employees are back, too.
    #[cfg(feature = "failpoints")]
    for _ in 0..2 {
        let point = "postgres.restored@1:fatal";
        world.project.run_with(&["rollback", "--force"], "FAILPOINT", point).expect(1);
        assert_ne!(world.v2.rows(HELD), held);
    }
    world.project.run(&["rollback", "--force"]).expect(0);
    assert_eq!((world.v2.rows(HELD), world.result()), (held, before));
    world.roll_back_all();
}

#[test]
fn a_circle_that_somebody_else_holds_stays_whole() {
    let world = World::new();
    world.v1.execute(
        "update department set head = 39 + id where id = 2; update department set head = 82 where id = 3",
    );
    world.migrate(&[], 3);
    let (before, held) = (world.result(), world.v2.rows(HELD));
    // The application's own.
    world.v2.execute("create table room (of integer references department); insert into room values (2)");
    let of_two = "select * from department d left join membership m on m.department = d.id left join employee e on e.id = d.head \
                  where d.id = 2 order by m.employee";
    let two = world.v2.rows(of_two);
    world.v1.execute(CIRCLES_GO);
    world.migrate(&["--prune", "--skip-validation"], 3);
    assert_eq!(world.v2.rows(of_two), two);
    assert_eq!(world.v2.count("department where id = 3") + world.v2.count("employee where id = 82"), 0);
    let refused = "select string_agg(entity || ' ' || key, ', ' order by key) from v1v2.conflicts \
                   where kind = 'change_refused' and key in ('2', '3', '41', '82')";
    assert_eq!(world.v2.one(refused), "departments 2, employees 41");
    world.v2.execute("drop table room");
    world.project.run(&["rollback", "--force"]).expect(0);
    assert_eq!((world.v2.rows(HELD), world.result()), (held, before));
}

#[test]
fn a_dry_run_foretells_what_becomes_of_a_circle() {
    let world = World::new();
    let whole = || world.v2.digest(&["public", "v1v2"], &[]);
    assert_foretold(&world.project, whole, &[(&["--batch-size", "16"], 3)], Some(&[]));
    world.v1.execute(
        "update department set head = 39 + id where id = 2; update department set head = 82 where id = 3",
    );
    world.migrate(&[], 3);
    world.v2.execute("create table room (of integer references department); insert into room values (2)");
    world.v1.execute(CIRCLES_GO);
    world.v1.execute(circle::CHANGES);
    let ways: [(&[&str], i32); 2] = [(&[], 3), (&["--prune", "--batch-size", "5"], 3)];
    let told = assert_foretold(&world.project, whole, &ways, Some(&[]));
    assert_eq!([sum(&told[1], "pruned"), sum(&told[1], "prunes_refused")], [2, 2]);
}
