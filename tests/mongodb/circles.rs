//! Collections that refer to each other in a circle.

use mongodb::bson::{Bson, Document, doc};

use super::{Job, text};
use crate::support::circle;
use crate::support::foretold::{assert_foretold, sum};

/// 25 is headed by somebody who cannot be migrated, for a department that is not there.
const ROWS: &str = "update employee set department = 99 where id in (175, 296);
insert into employee values (304, 'E304', 7, 175)";

const DEPARTMENTS: &str = r#"
entity = "departments"
[source]
key = "id"
query = "select * from department"
[[mongodb]]
collection = "departments"
[mongodb.fields]
_id = { id = true }
number = "id"
name = "name"
"staff.head" = { entity = "employees", key = "head", later = true }
"staff.all" = { entity = "employees", key = "members", missing = "skip", later = true }
[[mongodb.embed]]
field = "staff.each"
each = "members"
[mongodb.embed.fields]
who = { entity = "employees", key = "each", missing = "skip", later = true }
[[mongodb]]
collection = "memberships"
each = "members"
[mongodb.fields]
_id = { id = "membership" }
department = { id = true }
who = { entity = "employees", key = "each", missing = "skip", later = true }
"#;

const EMPLOYEES: &str = r#"
entity = "employees"
after = ["departments"]
[source]
key = "id"
query = "select * from employee"
[[mongodb]]
collection = "employees"
[mongodb.fields]
_id = { id = true }
number = "id"
name = "name"
department = { entity = "departments", key = "department" }
mentor = { entity = "employees", key = "mentor", missing = "null", null = true, later = true }
"#;

/// What V2 must hold, one line for each document, by V1's keys.
const EXPECTED: &str = "
with d as (select *, coalesce(head in (175, 9999), false) as refused, array(select m from unnest(members) m where m not in (175, 296)) as who
  from department)
select line from (
  select concat_ws(' ', 'd', id, name, case when not refused then head end, case when not refused then concat(who::text, ' ', who::text) else ' {}' end)
    as line from d
  union all select concat_ws(' ', 'm', id, m) from d, unnest(who) m where not refused
  union all select concat_ws(' ', 'e', id, name, department, coalesce((case when mentor not in (175, 296) then mentor end)::text, 'null'))
    from employee where id not in (175, 296)) as lines order by line collate \"C\"";

const MIGRATE: &[&str] = &["--entities", "departments,employees", "--migrators", "mine", "--batch-size", "7"];

fn world() -> Job {
    let job = Job::over(circle::v1_with(ROWS));
    for name in ["departments", "employees", "memberships"] {
        job.v2.run(doc! { "create": name });
    }
    job.project.write("mine/accounts.toml", "builtin = false\n");
    job.project.write("mine/departments.toml", DEPARTMENTS);
    job.project.write("mine/employees.toml", EMPLOYEES);
    job
}

/// V2's documents with V1's keys in the place of ids; an id that leads nowhere fails.
fn held(job: &Job) -> Vec<String> {
    let all = |collection: &str| job.v2.find(collection, doc! {});
    let (departments, employees) = (all("departments"), all("employees"));
    let number = |of: &[Document], id: &Bson| {
        let of = of.iter().find(|of| of.get("_id") == Some(id));
        text(of.unwrap_or_else(|| panic!("{id} leads nowhere")).get("number"))
    };
    let list = |of: &[Bson]| {
        format!("{{{}}}", of.iter().map(|id| number(&employees, id)).collect::<Vec<_>>().join(","))
    };
    let mut lines = Vec::new();
    for department in &departments {
        let staff = department.get_document("staff").unwrap();
        let head = staff.get("head").map(|head| format!(" {}", number(&employees, head))).unwrap_or_default();
        let whole = staff.get_array("all").map(|all| list(all)).unwrap_or_default();
        let each = staff.get_array("each").unwrap().iter();
        let each: Vec<Bson> = each.map(|of| of.as_document().unwrap().get("who").unwrap().clone()).collect();
        let (no, name) = (text(department.get("number")), text(department.get("name")));
        lines.push(format!("d {no} {name}{head} {whole} {}", list(&each)));
    }
    for membership in all("memberships") {
        let department = number(&departments, membership.get("department").unwrap());
        lines.push(format!("m {department} {}", number(&employees, membership.get("who").unwrap())));
    }
    for employee in &employees {
        let mentor = match employee.get("mentor").unwrap() {
            Bson::Null => "null".to_owned(),
            id => number(&employees, id),
        };
        let department = number(&departments, employee.get("department").unwrap());
        let (no, name) = (text(employee.get("number")), text(employee.get("name")));
        lines.push(format!("e {no} {name} {department} {mentor}"));
    }
    lines.sort();
    lines
}

#[track_caller]
fn assert_whole(job: &Job) {
    let expected: Vec<String> =
        job.v1.rows(EXPECTED).into_iter().map(|mut row| row[0].take().unwrap()).collect();
    circle::assert_same(&expected, &held(job));
    assert_eq!(job.rejected(), ["employees 175 missing-reference", "employees 296 missing-reference"]);
    let told = |kind: &str| {
        let found = job.v2.find("v1v2_conflicts", doc! { "_id.kind": kind });
        let key = |of: &Document| text(of.get_document("_id").unwrap().get("k"));
        let mut keys: Vec<String> = found.iter().map(key).collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(
        (told("change_refused"), told("missing-reference")),
        ("25 26".to_owned(), "174 295 304 4".to_owned())
    );
}

fn roll_back_all(job: &Job) {
    while job.count("v1v2_ledger") > 0 {
        job.project.roll_back_next(&["--migrators", "mine"]);
    }
}

#[test]
fn a_circle_of_collections_is_filled_in_at_the_end_and_taken_back_whole() {
    let job = world();
    let before = job.whole();
    let dry = job.run(&[&["migrate", "--dry-run"], MIGRATE].concat()).expect(3);
    assert!(dry.stdout.contains("departments: 2 rows lack"), "{}", dry.stdout);
    let run = job.migrate(MIGRATE, 3);
    assert!(run.stdout.contains("departments: 2 rows lack"), "{}", run.stdout);
    assert_whole(&job);
    let undisturbed = job.whole();
    let result = job.result();
    job.migrate(MIGRATE, 3);
    assert_eq!(job.result(), result);

    job.v1.execute(circle::CHANGES);
    job.migrate(MIGRATE, 3);
    assert_whole(&job);
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(held(&job).len(), 40 + 301 + 75);
    // The run in between tried 25 and 26 again, and has its lines in the log of conflicts.
    assert_eq!(job.result(), result);
    roll_back_all(&job);
    assert_eq!(job.whole(), before);

    job.migrate(MIGRATE, 3);
    assert_whole(&job);
    assert_ne!(job.whole(), undisturbed);
    roll_back_all(&job);
    assert_eq!(job.whole(), before);
}

#[cfg(feature = "failpoints")]
#[test]
fn a_run_that_is_killed_before_or_in_the_pass_that_fills_in_goes_on() {
    let job = world();
    job.migrate(MIGRATE, 3);
    let undisturbed = job.result();
    for bulk in [false, true] {
        let job = if bulk { world().in_bulk() } else { world() };
        for point in [
            "write.acknowledged@20:abort",
            "write.acknowledged@40:abort",
            "write.converted@3:abort",
            "write.acknowledged@9:abort",
        ] {
            let migrate = [&["migrate", "--force"], MIGRATE].concat();
            let ended = job.until_free(|| job.project.run_with(&migrate, "FAILPOINT", point));
            assert!(ended.stderr.contains("fail point"), "{point} was never reached: {}", ended.stderr);
        }
        job.until_free(|| job.run(&[&["migrate", "--force"], MIGRATE].concat())).expect(3);
        assert_whole(&job);
        assert_eq!(job.result(), undisturbed);
        roll_back_all(&job);
        assert_eq!(
            ["departments", "employees", "memberships", "v1v2_replaced"].map(|of| job.count(of)),
            [0; 4]
        );
    }
}

/// 41 and 82 are gone from V1 with their departments, 2 and 3, whose heads they were.
const CIRCLES_GO: &str = "
update employee set mentor = null where mentor in (41, 82); delete from employee where id in (41, 82);
update employee set department = 1 where department in (2, 3); delete from department where id in (2, 3);
update department set head = null where head in (41, 82);
update department set members = array_remove(array_remove(members, 41), 82)";

#[test]
fn circles_that_are_gone_from_v1_are_pruned_whole_and_come_back() {
    let job = world();
    job.v1.execute(
        "update department set head = 41 where id = 2; update department set head = 82, members = '{82, 5}' where id = 3",
    );
    job.migrate(MIGRATE, 3);
    let before = job.whole();
    let [departments, employees] = ["departments", "employees"].map(|of| job.count(of));
    job.v1.execute(CIRCLES_GO);
    job.migrate(&[MIGRATE, &["--prune", "--skip-validation"]].concat(), 3);
    assert_eq!([job.count("departments"), job.count("employees")], [departments - 2, employees - 2]);
    assert_whole(&job);
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.whole(), before);
    // Somebody edits a department: it stays, with the head whom it needs; the other circle goes.
    assert_eq!(job.update("departments", doc! { "number": 2 }, doc! { "$set": { "note": "mine" } }), 1);
    let edited = job.whole();
    job.migrate(&[MIGRATE, &["--prune", "--skip-validation"]].concat(), 3);
    let left = |of: &str, number: i32| job.v2.count(of, doc! { "number": number });
    assert_eq!([left("departments", 2), left("employees", 41)], [1, 1]);
    assert_eq!([left("departments", 3), left("employees", 82)], [0, 0]);
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.whole(), edited);
}

/// So many rows in circles that no transaction takes them all: ten employees go round, each with the department that they head.
#[cfg(feature = "failpoints")]
const MANY: &str = "
insert into department select n, 'D' || n, 10000 + n, array[10000 + n] from generate_series(1001, 1900) n;
insert into employee select 10000 + n, 'E' || n, n, 10000 + case when n % 10 = 0 then n - 9 else n + 1 end from generate_series(1001, 1900) n";

#[cfg(feature = "failpoints")]
#[test]
fn a_removal_of_circles_that_is_killed_leaves_each_of_them_whole_or_none_of_it() {
    let job = world();
    job.v1.execute(MANY);
    let plain = ["migrate", "--force", "--entities", "departments,employees", "--migrators", "mine"];
    let prune = [&plain[..], &["--prune", "--skip-validation"]].concat();
    job.run(&prune).expect(3);
    let before = job.whole();
    let back = ["rollback", "--force", "--migrators", "mine"];
    let killed = |point: &str| {
        let ended = job.until_free(|| job.project.run_with(&prune, "FAILPOINT", point));
        assert_eq!(ended.signal(), Some(9), "{point}: {}", ended.stderr);
        // Every id leads somewhere.
        held(&job).len()
    };
    job.v1.execute("delete from employee where id > 10000; delete from department where id > 1000");
    job.run(&prune).expect(3);
    let (undisturbed, rows) = (job.result(), held(&job).len());
    job.run(&back).expect(0);
    assert_eq!(job.whole(), before);
    for (point, left) in [
        ("mongodb.prune.kept@1:abort", 2_700),
        ("mongodb.prune.documents@2:abort", 1_200),
        ("mongodb.prune.commit@2:abort", 1_200),
        ("mongodb.pruned@1:abort", 1_200),
    ] {
        // The killed run is taken back.
        assert_eq!(killed(point), rows + left, "{point}");
        job.until_free(|| job.run(&back)).expect(0);
        assert_eq!(job.whole(), before, "{point}");
        // A plain run leaves what is gone from V1 alone, and tells of it; nothing leads nowhere.
        killed(point);
        let told = job.until_free(|| job.run(&plain)).expect(4);
        assert!(told.stderr.contains("lines of rows that V1 no longer has"), "{}", told.stderr);
        assert!(!told.stderr.contains("orphans"), "{}", told.stderr);
        assert_eq!(held(&job).len(), rows + left, "{point}");
        // The same command again ends like an undisturbed one.
        job.until_free(|| job.run(&prune)).expect(3);
        assert_whole(&job);
        assert_eq!(job.result(), undisturbed, "{point}");
        while job.whole() != before {
            job.project.roll_back_next(&["--migrators", "mine"]);
        }
    }
}

/// Between two transactions of the removal, and after it was worked out who goes.
#[cfg(feature = "failpoints")]
#[test]
fn a_circle_of_which_a_row_is_edited_while_others_are_removed_stays_whole() {
    let job = world();
    job.v1.execute(MANY);
    let plain = ["migrate", "--force", "--entities", "departments,employees", "--migrators", "mine"];
    let prune = [&plain[..], &["--prune", "--skip-validation"]].concat();
    job.run(&prune).expect(3);
    let rows = held(&job).len();
    job.v1.execute("delete from employee where id > 10000; delete from department where id > 1000");
    let waiting = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let point = format!("mongodb.pruned@1:cut {}", waiting.local_addr().unwrap());
    let of_many = |id: &str| doc! { id: { "$gt": 1_000 } };
    let edited = std::thread::scope(|scope| {
        let run = scope.spawn(|| job.project.run_with(&prune, "FAILPOINT", &point));
        let reached = waiting.accept().unwrap();
        let left = job.v2.find("departments", of_many("number"));
        assert_eq!(left.len(), 400);
        let edited = left[7].get("_id").unwrap().clone();
        assert_eq!(
            job.update("departments", doc! { "_id": &edited }, doc! { "$set": { "note": "mine" } }),
            1
        );
        drop(reached);
        let ended = run.join().unwrap().expect(3);
        let told = ended.stdout.matches("890 were removed from V2, 10 stay").count();
        assert_eq!(told, 2, "{}", ended.stdout);
        edited
    });
    assert_eq!(job.v2.count("departments", doc! { "_id": edited, "note": "mine" }), 1);
    // Its head, in whose department the one before is, and so on: all ten.
    assert_eq!(job.v2.count("departments", of_many("number")), 10);
    assert_eq!(job.v2.count("employees", doc! { "number": { "$gt": 10_000 } }), 10);
    assert_eq!(held(&job).len(), rows - 3 * 890);
}

#[test]
fn a_dry_run_foretells_what_becomes_of_a_circle() {
    let job = world();
    job.v1.execute(
        "update department set head = 41 where id = 2; update department set head = 82 where id = 3",
    );
    let collection = doc! { "collMod": "departments", "validator": { "name": { "$ne": "D7" } } };
    job.v2.run(collection);
    let whole = || job.v2.digest(&[]);
    let back: &[&str] = &["--migrators", "mine"];
    assert_foretold(&job.project, whole, &[(MIGRATE, 3)], Some(back));
    job.migrate(MIGRATE, 3);
    // No department may be headed by 14 any more, and somebody has edited one that is gone.
    let headed = doc! { "staff.head": { "$ne": job.v2.one("employees", doc! { "number": 14 }).get("_id") } };
    job.v2.run(doc! { "collMod": "departments", "validator": headed });
    assert_eq!(job.update("departments", doc! { "number": 2 }, doc! { "$set": { "note": "mine" } }), 1);
    job.v1.execute(CIRCLES_GO);
    job.v1.execute(circle::CHANGES);
    job.v1.execute(
        "update department set head = 14 where id = 5; update department set name = 'D7!' where id = 7",
    );
    let accept = [MIGRATE, &["--accept-changes"]].concat();
    let prune = [MIGRATE, &["--accept-changes", "--prune"]].concat();
    let told = assert_foretold(&job.project, whole, &[(&accept, 3), (&prune, 3)], Some(back));
    assert_eq!([sum(&told[1], "pruned"), sum(&told[1], "prunes_refused")], [2, 2]);
}
