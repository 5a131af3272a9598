//! Rows that refer to rows of their own entity.

use crate::job::Job;
use crate::support::{Database, Project};

/// Parts that have a whole each, in both databases.
struct Parts {
    v1: Database,
    v2: Database,
    project: Project,
}

/// Levels in both directions of the keys, of several rows each; one row on its own; a circle with a row that hangs on it; an orphan
/// with a child and a grandchild.
const ROWS: &str = "
insert into part select n, case when n % 5 <> 0 then n + 1 when n > 100 then n / 2 end from generate_series(1, 300) n;
insert into part values (400, 400), (501, 502), (502, 503), (503, 501), (504, 501), (505, 9999), (506, 505), (497, 506)";

impl Parts {
    fn new(whole: &str, fill: &str) -> Self {
        let (v1, v2) = (Database::v1(), Database::v2());
        v1.execute(&format!("create table part (id integer primary key, whole integer); {ROWS}"));
        let project = Project::between(&v1, &v2)
            .env("V1V2_PASSWORDS", "none")
            .env("V1V2_MIGRATORS_DIR", "mine")
            .env("V1V2_SETUP_DIR", "own");
        project.write("mine/accounts.toml", "builtin = false\n");
        project.write(
            "mine/parts.toml",
            &format!(
                "entity = \"parts\"\nids = \"keep\"\n[source]\nkey = \"id\"\nquery = \"select * from part\"\n\
                 [[postgres]]\ntable = \"part\"\n[postgres.columns]\nid = {{ id = true }}\n\
                 whole = {{ entity = \"parts\", key = \"whole\"{fill} }}\n"
            ),
        );
        let table = format!("create table part (id integer primary key, whole integer {whole});\n");
        project.write("own/postgres/schema.sql", &table);
        project.write("own/reference/manifest.toml", "");
        project.run(&["setup"]).expect(0);
        Self { v1, v2, project }
    }

    fn migrate(&self, more: &[&str], code: i32) {
        self.project.run(&[&["migrate", "--force", "--batch-size", "7"], more].concat()).expect(code);
    }

    /// V2 holds V1's rows but for these, which were rejected.
    #[track_caller]
    fn assert_all_but(&self, rejected: &str) {
        let rows = "select id, whole from part";
        let rejected = format!("array[{rejected}]::int[]");
        let expected = self.v1.rows(&format!("{rows} where id <> all({rejected}) order by id"));
        assert_eq!(self.v2.rows(&format!("{rows} order by id")), expected);
        let lines = "select array_agg(key::int order by key::int) filter (where outcome = 'r') is not distinct from nullif";
        assert_eq!(self.v2.one(&format!("{lines}({rejected}, '{{}}') from v1v2.ledger")), "t");
        let codes = "select count(*) from v1v2.ledger where code <> 'missing-reference'";
        assert_eq!(self.v2.one(codes), "0");
        let valid = "select count(*) from pg_constraint where conrelid = 'part'::regclass and contype = 'f' and convalidated";
        assert_eq!(self.v2.one(valid), "1");
        self.project.run(&["validate", "--compare-counts"]).expect(0);
    }
}

const REJECTED: &str = "497, 501, 502, 503, 504, 505, 506";

#[test]
fn rows_are_written_after_those_of_their_own_entity_that_they_refer_to() {
    let parts = Parts::new("references part", "");
    parts.project.run(&["check"]).expect(0);
    parts.project.run(&["migrate", "--dry-run"]).expect(3);
    parts.migrate(&["--no-bulk"], 3);
    parts.assert_all_but(REJECTED);
    // Repaired: the orphan's whole line of descent comes, and a row with what it refers to in between.
    parts.v1.execute("insert into part values (9999, null), (600, 300), (-1, 600)");
    parts.migrate(&["--retry-rejected"], 3);
    parts.assert_all_but("501, 502, 503, 504");
    // Rows of the second run refer to those of the first.
    parts.project.run(&["rollback", "--force"]).expect(0);
    assert_eq!(parts.v2.count("part"), 301);
    parts.project.roll_back_next(&[]);
    assert_eq!((parts.v2.count("part"), parts.v2.count("v1v2.ledger")), (0, 0));
    parts.migrate(&[], 3);
    parts.assert_all_but("501, 502, 503, 504");
}

#[test]
fn a_run_that_was_killed_between_levels_goes_on() {
    let parts = Parts::new("not null references part", "");
    parts.v1.execute("update part set whole = id where whole is null");
    for mode in ["--no-bulk", "--skip-validation"] {
        let slow = ["migrate", "--force", "--batch-size", "7", "--max-rows-per-second", "200", mode];
        for lines in [20, 200] {
            let mut running = parts.project.spawn(&slow);
            assert!(running.wait_until(|_| parts.v2.count("v1v2.ledger") > lines));
            assert!(running.signal("KILL"));
            drop(running.wait());
        }
        parts.migrate(&[], 3);
        parts.assert_all_but(REJECTED);
        parts.project.roll_back_next(&[]);
        while parts.v2.count("v1v2.ledger") > 0 {
            parts.project.roll_back_next(&[]);
        }
    }
}

#[test]
fn a_circle_of_rows_can_be_opened_by_leaving_its_references_out() {
    let parts = Parts::new("references part", ", missing = \"null\"");
    parts.migrate(&[], 0);
    let open = "select array_agg(id order by id) from part where whole is null and id > 400";
    assert_eq!(parts.v2.one(&format!("select ({open})::text")), "{501,502,503,505}");
    let listed = "select string_agg(key, ' ' order by key) from v1v2.conflicts where decision = 'null'";
    assert_eq!(parts.v2.one(listed), "501 502 503 505");
    let kept = "select count(*) from part where (id, whole) in ((504, 501), (506, 505), (497, 506))";
    assert_eq!(parts.v2.one(kept), "3");
}

#[test]
fn people_may_refer_to_people_of_their_own_entity() {
    let job = Job::new(300, &["--orphans"]);
    let file =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/migrators/teachers.toml")).unwrap();
    let head = "(select max(x.id) from \"Teacher\" x where x.\"schoolId\" = t.\"schoolId\") as head_id, ";
    let file = file.replacen("select t.id,", &format!("select t.id, {head}"), 1);
    let column = "headId = { entity = \"teachers\", key = \"head_id\" }\n";
    let file = file.replacen("[postgres.columns]\n", &format!("[postgres.columns]\n{column}"), 1);
    assert!(file.contains(head) && file.contains(column));
    job.project.write("mine/teachers.toml", &file);
    job.v2.execute("alter table \"Teacher\" add \"headId\" uuid references \"Teacher\"");
    let before = job.structure();
    job.migrate(&["--migrators", "mine", "--passwords", "generate"], 3);
    let teachers = job.v2.count("\"Teacher\"");
    let headed = "select count(*) from \"Teacher\" t join \"Teacher\" h on h.id = t.\"headId\" \
                  join v1v2.ledger l on l.target_id = h.id::text join v1v2.ledger k on k.target_id = t.id::text \
                  where h.\"schoolId\" = t.\"schoolId\" and l.key >= k.key";
    assert!(teachers > 10);
    assert_eq!(job.v2.one(headed), teachers.to_string());
    assert_eq!(job.structure(), before);
    job.run(&["validate", "--compare-counts", "--migrators", "mine"]).expect(0);
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.v2.count("\"User\""), 0);
}

#[test]
fn rows_that_change_or_go_within_a_hierarchy_and_come_back() {
    let parts = Parts::new("references part", "");
    parts.migrate(&[], 3);
    let look = |parts: &Parts| parts.v2.rows("select id, whole from part order by id");
    let before = look(&parts);
    parts.v1.execute(
        "delete from part where id between 100 and 300 or id between 400 and 600; \
         update part set whole = 7 where whole in (select 99 union select generate_series(100, 300)) or id = 3; \
         insert into part values (999, 5); update part set whole = 999 where id = 4",
    );
    parts.migrate(&["--prune"], 0);
    assert_eq!(look(&parts), parts.v1.rows("select id, whole from part order by id"));
    parts.project.run(&["validate", "--compare-counts", "--compare-fields"]).expect(0);
    parts.project.run(&["rollback", "--force"]).expect(0);
    assert_eq!(look(&parts), before);
}
