//! What has changed in V1 since: running `migrate` again brings V2 up to date, and touches nothing else.

use super::{Job, result_of};
use crate::support::sample::{CHANGES, DEPARTURES, ORPHANS_MOVE};
use crate::support::{Digest, Project, prepared};

impl Job {
    /// What a run from nothing would make of V1 as it is now.
    pub(super) fn made_anew(&self) -> Digest {
        let v2 = prepared::v2();
        let project = Project::between(&self.v1, &v2).env("V1V2_PASSWORDS", "none");
        let ended = project.run(&["migrate", "--force", "--skip-validation"]);
        assert!(matches!(ended.code(), Some(0 | 3)), "{}", ended.stderr);
        result_of(&v2)
    }

    /// Everything in V2 but the list of runs and what is kept for their rollback; and the numbers of transactions.
    pub(super) fn content(&self) -> Digest {
        let mut digest = self.v2.digest(&["public", "v1v2"], &["v1v2.ledger.txid", "v1v2.ledger.earlier"]);
        digest.remove("v1v2.runs");
        digest
    }

    /// The transaction that wrote each row of the tables last, by table and text of the row.
    pub(super) fn written(&self, table: &str) -> Vec<Vec<Option<String>>> {
        self.v2.rows(&format!("select xmin::text, record::text from {table} as record order by 2"))
    }
}

#[test]
fn changed_rows_are_brought_up_to_date_and_others_left_alone() {
    let job = Job::new(200, &[]);
    job.migrate(&["--passwords", "generate"], 0);
    let hashes = "select id, \"passwordHash\", \"mustChangePassword\", status from \"User\" order by id";
    let passwords = job.v2.rows(hashes);
    let teachers = job.written("\"Teacher\"");
    job.v1.execute(CHANGES);
    let dry = job.run(&["migrate", "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("teachers: 3 rows have changed in V1"), "{}", dry.stdout);
    let again = job.migrate(&["--batch-size", "3"], 0);
    assert!(again.stdout.contains("students: 5 rows have changed in V1 since"), "{}", again.stdout);
    // Who has a password keeps it; the rest is what a run from nothing makes, but for what says that there is one.
    assert_eq!(job.v2.rows(hashes), passwords);
    job.v2.execute("update \"User\" set \"mustChangePassword\" = false, status = 'LOCKED'");
    assert_eq!(job.result(), job.made_anew());
    let rewritten = job.written("\"Teacher\"").iter().filter(|row| !teachers.contains(row)).count();
    assert_eq!(rewritten, 3);
    let third = job.migrate(&[], 0);
    assert!(!third.stdout.contains("have changed"), "{}", third.stdout);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn a_rollback_makes_changed_rows_what_they_were() {
    let job = Job::new(200, &["--orphans"]);
    job.migrate(&[], 3);
    let before = job.content();
    job.v1.execute(CHANGES);
    job.v1.execute(DEPARTURES);
    job.migrate(&["--prune"], 3);
    assert_ne!(job.content(), before);
    let first = job.v2.one("select id::text from v1v2.runs order by no limit 1");
    let refused = job.run(&["rollback", "--force", "--run", &first]).expect(5);
    assert!(refused.stderr.contains("a later run has changed"), "{}", refused.stderr);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.content(), before);
    // And now the first one can go as well.
    job.project.roll_back_next(&[]);
    assert_eq!(job.v2.count("\"User\"") + job.v2.count("v1v2.ledger") + job.v2.count("v1v2.replaced"), 0);
}

#[test]
fn what_somebody_edited_stays_unless_told_otherwise() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let key = job.v2.one("select min(key) from v1v2.ledger where entity = 'teachers' and outcome = 'm'");
    let id = job.v2.one(&format!("select target_id from v1v2.ledger where key = '{key}'"));
    let account = job.v2.one(&format!("select account_id from v1v2.ledger where key = '{key}'"));
    let look = format!(
        "select t.qualification, u.\"addressRaw\", u.city from \"Teacher\" t join \"User\" u on u.id = t.\"userId\" where t.id = '{id}'"
    );
    let conflicts = "select kind, decision, detail from v1v2.conflicts where kind = 'edited_in_v2'";
    job.v2.execute(&format!("update \"User\" set city = 'Edited' where id = '{account}'"));
    job.v1.execute(&format!("update \"Teacher\" set qualification = 'A', address = 'B' where id = '{key}'"));
    job.migrate(&[], 0);
    // The account was edited; the other record of the same row was not.
    let user = job.v2.rows(&look).remove(0);
    assert_eq!((user[0].as_deref(), user[2].as_deref()), (Some("A"), Some("Edited")));
    assert_ne!(user[1].as_deref(), Some("B"));
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(job.v2.rows(conflicts), [[text("edited_in_v2"), text("kept"), text("User")]]);
    job.v1.execute(&format!(
        "update \"Teacher\" set qualification = 'C', address = '1 D Street, Lagos' where id = '{key}'"
    ));
    job.migrate(&["--on-edited", "overwrite"], 0);
    let user = job.v2.rows(&look).remove(0);
    assert_eq!((user[0].as_deref(), user[1].as_deref()), (Some("C"), Some("1 D Street, Lagos")));
    assert_ne!(user[2].as_deref(), Some("Edited"));
    assert_eq!(job.v2.rows(conflicts), [[text("edited_in_v2"), text("overwritten"), text("User")]]);
    // A record that somebody has deleted is not brought back.
    job.v2.execute(&format!("delete from \"TeacherSubject\" where \"teacherId\" = '{id}'; delete from \"Teacher\" where id = '{id}'"));
    job.v1.execute(&format!(
        "update \"Teacher\" set qualification = 'E', \"schoolId\" = \"schoolId\" where id = '{key}'"
    ));
    job.migrate(&["--skip-validation"], 0);
    assert_eq!(job.v2.one(&format!("select count(*) from \"Teacher\" where id = '{id}'")), "0");
}

#[test]
fn a_change_that_v2_refuses_costs_only_itself() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    job.v2.execute("alter table \"Parent\" add constraint short check (length(occupation) < 40)");
    // What `--accept-changes` has learned about V2's structure stays.
    let content = || {
        let mut content = job.content();
        content.remove("v1v2.meta");
        content
    };
    let before = content();
    let keys = job.v1.rows("select id from \"Parent\" order by id limit 4");
    let keys: Vec<&str> = keys.iter().map(|row| row[0].as_deref().unwrap()).collect();
    job.v1.execute("alter table \"Student\" drop constraint \"Student_schoolId_fkey\"");
    job.v1.execute(&format!(
        "update \"Parent\" set occupation = 'Cook' where id in ('{}', '{}', '{}'); \
         update \"Parent\" set occupation = repeat('x', 50) where id = '{}'; \
         update \"Student\" set \"schoolId\" = 'nowhere' where id = (select min(id) from \"Student\")",
        keys[0], keys[1], keys[3], keys[2]
    ));
    let ended = job.migrate(&["--accept-changes"], 3);
    assert!(ended.stdout.contains("parents: 4 rows have changed"), "{}", ended.stdout);
    let cooks = "select count(*) from \"Parent\" where occupation = 'Cook' and id::text in \
                 (select target_id from v1v2.ledger where run = (select max(no) from v1v2.runs))";
    assert_eq!(job.v2.one(cooks), "3");
    let refused = job.v2.rows(
        "select entity, left(detail, 14) from v1v2.conflicts where kind = 'change_refused' order by entity",
    );
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        refused,
        [[text("parents"), text("database-23514")], [text("students"), text("missing-refere")]]
    );
    // Nothing is lost: the ledger still has the rows as they are in V2, and the next run tries again.
    let after = content();
    job.v1.execute(&format!("update \"Parent\" set occupation = 'Baker' where id = '{}'", keys[2]));
    job.migrate(&[], 3);
    assert_eq!(
        job.v2.one(&format!(
            "select occupation from \"Parent\" p join v1v2.ledger l on l.target_id = p.id::text where key = '{}'",
            keys[2]
        )),
        "Baker"
    );
    assert_eq!(
        job.v2.one("select string_agg(entity, ',') from v1v2.conflicts where kind = 'change_refused'"),
        "students"
    );
    // What was told about rows that stayed goes with the run that told it.
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(content(), after);
    job.project.roll_back_next(&[]);
    assert_eq!(content(), before);
}

/// V1's rows are what they were, and the definition is the one by which they were tried: only the log tells.
#[test]
fn changes_by_an_edited_definition_that_v2_refuses_are_tried_again_by_every_run() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let key = job.v1.one("select id from \"Parent\" order by id offset 3 limit 1");
    let name = job.v1.one(&format!("select name from \"Parent\" where id = '{key}'"));
    job.v2.execute(&format!(
        "alter table \"Parent\" add constraint no check (occupation <> '{}')",
        name.replace('\'', "''")
    ));
    // The query stays, and so do the hashes of V1's rows.
    job.project.redefine("parents", |definition| {
        definition.replacen("occupation = \"occupation\"", "occupation = \"name\"", 1)
    });
    let mine = ["--migrators", "mine"];
    let told = job.migrate(&[&mine[..], &["--accept-changes"]].concat(), 3);
    assert!(told.stderr.contains("the definition of parents was edited"), "{}", told.stderr);
    let refused = "select string_agg(key, ' ') from v1v2.conflicts where kind = 'change_refused'";
    assert_eq!(job.v2.one(refused), key);
    for _ in 0..2 {
        let told = job.migrate(&mine, 3);
        assert!(!told.stderr.contains("was edited"), "{}", told.stderr);
        assert!(told.stdout.contains("parents: 1 rows have changed"), "{}", told.stdout);
        assert_eq!(job.v2.one(refused), key);
    }
    job.v2.execute("alter table \"Parent\" drop constraint no");
    job.migrate(&[&mine[..], &["--accept-changes"]].concat(), 0);
    assert_eq!(job.v2.count("v1v2.conflicts where kind = 'change_refused'"), 0);
    let occupation = format!(
        "select occupation from \"Parent\" p join v1v2.ledger l on l.target_id = p.id::text where key = '{key}'"
    );
    assert_eq!(job.v2.one(&occupation), name);
    let told = job.migrate(&mine, 0);
    assert!(!told.stdout.contains("have changed"), "{}", told.stdout);
}

#[test]
fn rows_that_are_gone_stay_until_they_are_pruned() {
    let job = Job::new(300, &[]);
    job.migrate(&[], 0);
    // A parent who is a teacher too: the account is the teacher's, and the parent's role goes alone.
    let both = job.v1.one(
        "select p.id from \"Parent\" p join \"Teacher\" t on lower(trim(p.email)) = lower(trim(t.email)) order by p.id limit 1",
    );
    let account =
        job.v2.one(&format!("select account_id from v1v2.ledger where key = '{both}' and outcome = 'g'"));
    let edited = job.v1.one("select max(id) from \"Student\"");
    job.v1.execute(&format!(
        "delete from \"_ParentToStudent\" where \"A\" = '{both}' or \"B\" = '{edited}'; \
         delete from \"Parent\" where id = '{both}'; delete from \"Student\" where id = '{edited}'; \
         delete from \"_ParentToStudent\" where \"B\" = (select min(id) from \"Student\"); \
         delete from \"Student\" where id = (select min(id) from \"Student\")"
    ));
    job.v2.execute(&format!(
        "update \"Student\" set sex = sex where id::text = (select target_id from v1v2.ledger where key = '{edited}')"
    ));
    let told = job.migrate(&[], 4);
    assert!(
        told.stdout.contains("students: 2 migrated rows are no longer in V1; `--prune`"),
        "{}",
        told.stdout
    );
    let counts =
        |job: &Job| (job.v2.count("\"Parent\""), job.v2.count("\"Student\""), job.v2.count("v1v2.ledger"));
    let ((parents, students, lines), before) = (counts(&job), job.content());
    let pruned = job.migrate(&["--prune", "--skip-validation"], 3);
    assert!(pruned.stdout.contains("1 were removed from V2, 1 stay"), "{}", pruned.stdout);
    assert_eq!(counts(&job), (parents - 1, students - 1, lines - 2));
    let kept = job.content();
    assert_eq!(job.v2.one(&format!("select count(*) from \"User\" where id = '{account}'")), "1");
    assert_eq!(job.v2.one(&format!("select count(*) from \"UserRole\" where \"userId\" = '{account}'")), "1");
    assert_eq!(
        job.v2.one("select key from v1v2.conflicts where kind = 'edited_in_v2' and decision = 'kept'"),
        edited
    );
    job.migrate(&["--prune", "--on-edited", "overwrite"], 0);
    assert_eq!(counts(&job), (parents - 1, students - 2, lines - 3));
    job.run(&["validate", "--compare-counts"]).expect(0);
    assert_eq!(job.result(), job.made_anew());
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.content(), kept);
    job.project.roll_back_next(&[]);
    assert_eq!(job.content(), before);
}

/// The account stays, as somebody else's row uses it, and with it comes back in the rollback what nobody has edited.
#[test]
fn a_founder_who_is_pruned_and_comes_back_leaves_no_edited_account() {
    let job = Job::new(300, &[]);
    job.migrate(&[], 0);
    let before = job.content();
    let both = job.v1.one(
        "select t.id from \"Parent\" p join \"Teacher\" t on lower(trim(p.email)) = lower(trim(t.email)) order by t.id limit 1",
    );
    let account =
        job.v2.one(&format!("select account_id from v1v2.ledger where key = '{both}' and outcome = 'm'"));
    job.v1.execute(&format!(
        "delete from \"_SubjectToTeacher\" where \"B\" = '{both}'; delete from \"Teacher\" where id = '{both}'"
    ));
    job.migrate(&["--prune", "--skip-validation"], 0);
    assert_eq!(job.v2.one(&format!("select count(*) from \"User\" where id = '{account}'")), "1");
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.content(), before);
    let first = job.project.roll_back_next(&[]);
    assert_eq!(job.v2.count("\"User\"") + job.v2.count("v1v2.ledger"), 0, "{}", first.stdout);
}

#[test]
fn a_rejected_row_that_was_repaired_in_v1_comes_by_itself() {
    let job = Job::new(200, &["--orphans"]);
    job.migrate(&[], 3);
    let rejected = "select * from v1v2.ledger where outcome = 'r' order by entity, key";
    let (before, lines) = (job.content(), job.v2.rows(rejected));
    assert!(!lines.is_empty());
    // Tried again in vain, and taken back: the lines are the same to the letter.
    job.migrate(&["--retry-rejected"], 3);
    assert_ne!(job.content(), before);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!((job.content(), job.v2.rows(rejected)), (before.clone(), lines.clone()));
    job.v1.execute(ORPHANS_MOVE);
    job.migrate(&["--batch-size", "3"], 0);
    assert!(job.v2.rows(rejected).is_empty());
    // A rollback makes them rejected again, with what was told about them.
    job.project.roll_back_next(&[]);
    assert_eq!((job.content(), job.v2.rows(rejected)), (before, lines));
}

#[test]
fn nothing_comes_back_of_a_run_that_was_taken_back_before_the_one_that_tried_its_rejects_again() {
    let job = Job::new(40, &[]);
    job.v2.execute("alter table \"School\" add constraint none check (name = '')");
    job.migrate(&["--skip-validation"], 3);
    job.v2.execute("alter table \"School\" drop constraint none");
    job.migrate(&["--retry-rejected", "--entities", "schools", "--accept-changes"], 0);
    assert_ne!(job.v2.count("v1v2.replaced"), 0);
    let first = job.v2.one("select id::text from v1v2.runs order by no limit 1");
    job.run(&["rollback", "--force", "--run", &first]).expect(0);
    assert_eq!(job.v2.count("v1v2.replaced"), 0);
    job.project.roll_back_next(&[]);
    let left = ["ledger", "conflicts", "replaced"].map(|table| job.v2.count(&format!("v1v2.{table}")));
    assert_eq!(left, [0, 0, 0]);
}

#[test]
fn fields_of_v2_that_are_not_what_v1_says_are_found_with_their_keys() {
    let job = Job::new(300, &["--orphans"]);
    job.migrate(&["--passwords", "generate", "--batch-size", "20"], 3);
    let compare = ["validate", "--compare-fields"];
    let good = job.run(&compare).expect(0);
    assert!(good.stdout.contains("as they would be migrated now, field by field"), "{}", good.stdout);
    // Nothing that a count would show, but for the record that is gone.
    let key = |entity: &str, at: u32| {
        job.v2.one(&format!(
            "select key from v1v2.ledger where entity = '{entity}' and outcome = 'm' order by key offset {at} limit 1"
        ))
    };
    let id = |key: &str, column: &str| {
        job.v2.one(&format!("select {column} from v1v2.ledger where key = '{key}'"))
    };
    let (teacher, parent, student, gone) =
        (key("teachers", 1), key("parents", 2), key("students", 3), key("students", 4));
    job.v2.execute(&format!(
        "update \"Teacher\" set \"hireDate\" = \"hireDate\" + interval '1 day', \"userId\" = '{4}' where id = '{}'; \
         update \"User\" set \"lastName\" = \"lastName\" || ' ' where id = '{}'; \
         update \"StudentGuardian\" set relation = 'MOTHER' where \"studentId\" = '{}'; \
         delete from \"StudentGuardian\" where \"studentId\" = '{}'; delete from \"Student\" where id = '{3}'",
        id(&teacher, "target_id"),
        id(&parent, "account_id"),
        id(&student, "target_id"),
        id(&gone, "target_id"),
        id(&parent, "account_id"),
    ));
    let before = job.content();
    let found = job.run(&[&compare[..], &["--json"]].concat()).expect(4);
    assert_eq!(job.content(), before);
    let value = found.result("compare-fields");
    let mut differences: Vec<[String; 4]> = value["first_differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| ["entity", "key", "table", "column"].map(|name| of[name].as_str().unwrap_or("").to_owned()))
        .collect();
    differences.sort();
    let difference =
        |entity: &str, key: &str, table: &str, column: &str| [entity, key, table, column].map(str::to_owned);
    let rows = "(the rows of this key)";
    let mut expected = vec![
        difference("parents", &parent, "User", "lastName"),
        difference("students", &gone, "Student", ""),
        difference("teachers", &teacher, "Teacher", "hireDate"),
        difference("teachers", &teacher, "Teacher", "userId"),
    ];
    for (key, table) in [(&student, "StudentGuardian"), (&gone, "StudentGuardian")] {
        let v1 = job.v1.one(&format!("select count(*) from \"_ParentToStudent\" where \"B\" = '{key}'"));
        if v1 != "0" {
            expected.push(difference("students", key, table, rows));
        }
    }
    expected.sort();
    assert_eq!(differences, expected);
    // What V1 has changed since differs as well: key and column are named.
    job.v1.execute(&format!("update \"Teacher\" set qualification = 'New' where id = '{teacher}'"));
    let changed = job.run(&compare).expect(4);
    assert!(
        changed.stderr.contains(&format!("teachers {teacher}: Teacher qualification")),
        "{}",
        changed.stderr
    );
}
