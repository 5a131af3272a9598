//! What has changed in V1 since: running `migrate` again brings V2 up to date, and touches nothing else. The counterpart of
//! `job/since.rs`, with the same changes; both V2 end with the same people.

mod prune;
mod shapes;

use mongodb::bson::{Bson, Document, doc};

use super::{Job, at, parity, result_of, text};
use crate::support::sample::{CHANGES, DEPARTURES, ORPHANS_MOVE};
use crate::support::{Digest, MongoDatabase, Project};

impl Job {
    /// What a run from nothing makes of V1 as it is now.
    fn anew(&self) -> MongoDatabase {
        let v2 = MongoDatabase::new();
        let project =
            Project::into_mongodb(&self.v1, &v2).env("V1V2_PASSWORDS", "none").env("V1V2_BULK", "false");
        project.run(&["setup"]).expect(0);
        let ended = project.run(&["migrate", "--force", "--skip-validation"]);
        assert!(matches!(ended.code(), Some(0 | 3)), "{}", ended.stderr);
        v2
    }

    /// The same, as far as two equal runs have it in common.
    fn made_anew(&self) -> Digest {
        result_of(&self.anew())
    }

    /// The fields of an account that no update may touch.
    fn secrets(&self) -> Vec<String> {
        let fields = ["_id", "passwordHash", "mustChangePassword", "status"];
        let of = |user: &Document| fields.map(|field| text(user.get(field))).join(" ");
        self.v2.find("users", doc! {}).iter().map(of).collect()
    }

    /// The conflict log's entries of a kind: entity, key, decision, detail.
    fn conflicts(&self, kind: &str) -> Vec<[String; 4]> {
        let entries = self.v2.find("v1v2_conflicts", doc! { "_id.kind": kind });
        let of = |entry: &Document| {
            let id = entry.get_document("_id").unwrap();
            [text(id.get("e")), text(id.get("k")), text(entry.get("decision")), text(entry.get("detail"))]
        };
        entries.iter().map(of).collect()
    }

    /// Takes back all runs but the first.
    fn back_to_the_first(&self) {
        while self.v2.count("v1v2_replaced", doc! {})
            + self.v2.count("v1v2_ledger", doc! { "run": { "$ne": 1 } })
            > 0
        {
            self.project.roll_back_next(&[]);
        }
    }
}

/// The only document with an `_id`.
fn by_id(job: &Job, collection: &str, id: &Bson) -> Document {
    job.v2.one(collection, doc! { "_id": id })
}

/// A change of one document behind the program's back.
fn edit(job: &Job, collection: &str, id: &Bson, change: Document) {
    assert_eq!(job.update(collection, doc! { "_id": id }, doc! { "$set": change }), 1);
}

/// A role that the application gives by itself.
fn a_role(job: &Job) -> Document {
    let role = job.v2.one("roles", doc! { "code": "TEACHER" });
    doc! {
        "id": mongodb::bson::Uuid::new(), "roleId": role.get("_id"), "role": "TEACHER",
        "assignedAt": mongodb::bson::DateTime::now(),
    }
}

#[test]
fn changed_rows_are_brought_up_to_date_and_others_left_alone() {
    let job = Job::new(200, &[]);
    job.migrate(&["--passwords", "generate"], 0);
    let (secrets, teachers) = (job.secrets(), job.v2.find("teachers", doc! {}));
    let users = job.v2.find("users", doc! {});
    job.v1.execute(CHANGES);
    let dry = job.run(&["migrate", "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("teachers: 3 rows have changed in V1"), "{}", dry.stdout);
    let again = job.migrate(&["--batch-size", "3"], 0);
    assert!(again.stdout.contains("students: 5 rows have changed in V1 since"), "{}", again.stdout);
    // Who has a password keeps it; the rest is what a run from nothing makes, but for what says that there is one.
    assert_eq!(job.secrets(), secrets);
    let rewritten = job.v2.find("teachers", doc! {}).iter().filter(|of| !teachers.contains(of)).count();
    assert_eq!(rewritten, 3);
    // Roles are what and where they were.
    for (before, now) in users.iter().zip(job.v2.find("users", doc! {})) {
        assert_eq!(before.get("roles"), now.get("roles"));
    }
    job.update("users", doc! {}, doc! { "$set": { "mustChangePassword": false, "status": "LOCKED" } });
    let anew = job.anew();
    assert_eq!(job.result(), result_of(&anew));
    // Fields stand in the order of a new document's.
    let order = |v2: &MongoDatabase| {
        let users = v2.find("users", doc! {});
        let without = |user: &Document| user.keys().filter(|key| *key != "passwordHash").cloned().collect();
        users.iter().map(without).collect::<Vec<Vec<String>>>()
    };
    assert_eq!(order(&job.v2), order(&anew));
    let third = job.migrate(&[], 0);
    assert!(!third.stdout.contains("have changed"), "{}", third.stdout);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn a_rollback_makes_changed_documents_what_they_were() {
    let job = Job::new(200, &["--orphans"]);
    job.migrate(&[], 3);
    let before = (job.whole(), job.v2.find("users", doc! {}), job.v2.find("v1v2_ledger", doc! {}));
    job.v1.execute(CHANGES);
    job.v1.execute(DEPARTURES);
    job.migrate(&["--prune"], 3);
    assert_ne!(job.whole(), before.0);
    let first = text(job.v2.one("v1v2_runs", doc! { "no": 1 }).get("_id"));
    let refused = job.run(&["rollback", "--force", "--run", &first]).expect(5);
    assert!(refused.stderr.contains("a later run has changed"), "{}", refused.stderr);
    let told = job.run(&["rollback", "--force"]).expect(0);
    assert!(!told.stdout.contains("edited since"), "{}", told.stdout);
    assert_eq!(job.whole(), before.0);
    // Bytes and all, the order of fields and of roles included.
    assert_eq!(job.v2.find("users", doc! {}), before.1);
    assert_eq!(job.v2.find("v1v2_ledger", doc! {}), before.2);
    // And now the first one can go as well.
    job.project.roll_back_next(&[]);
    assert_eq!(job.count("users") + job.count("v1v2_ledger") + job.count("v1v2_replaced"), 0);
}

#[test]
fn what_somebody_edited_stays_unless_told_otherwise() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let line = job.v2.find("v1v2_ledger", doc! { "_id.e": "teachers", "outcome": "m" }).remove(0);
    let key = text(line.get_document("_id").unwrap().get("k"));
    let (id, account) = (line.get("targetId").unwrap().clone(), line.get("accountId").unwrap().clone());
    edit(&job, "users", &account, doc! { "address.city": "Edited", "theirs": { "own": [1, 2] } });
    let edited = (job.whole(), by_id(&job, "users", &account));
    job.v1.execute(&format!("update \"Teacher\" set qualification = 'A', address = 'B' where id = '{key}'"));
    job.migrate(&[], 0);
    // The account was edited; the other document of the same row was not.
    assert_eq!(at(&by_id(&job, "teachers", &id), "qualification"), "A");
    assert_eq!(by_id(&job, "users", &account), edited.1);
    let told =
        |decision: &str| vec![["teachers".to_owned(), key.clone(), decision.to_owned(), "users".to_owned()]];
    assert_eq!(job.conflicts("edited_in_v2"), told("kept"));
    job.v1.execute(&format!(
        "update \"Teacher\" set qualification = 'C', address = '1 D Street, Lagos' where id = '{key}'"
    ));
    job.migrate(&["--on-edited", "overwrite"], 0);
    let user = by_id(&job, "users", &account);
    assert_eq!(at(&user, "address.raw"), "1 D Street, Lagos");
    assert_ne!(at(&user, "address.city"), "Edited");
    // What is the application's own is nobody's to overwrite.
    assert_eq!(user.get_document("theirs").unwrap(), &doc! { "own": [1, 2] });
    assert_eq!(job.conflicts("edited_in_v2"), told("overwritten"));
    // It is ours again: the next change finds it as we left it.
    job.v1.execute(&format!("update \"Teacher\" set qualification = 'D' where id = '{key}'"));
    job.migrate(&[], 0);
    assert_eq!(job.conflicts("edited_in_v2"), Vec::<[String; 4]>::new());
    // All three runs go, one after the other, and what was edited is what it was.
    job.back_to_the_first();
    assert_eq!((job.whole(), by_id(&job, "users", &account)), edited);
    // A document that somebody has deleted is not brought back, unless told otherwise; a role of ours neither.
    assert_eq!(job.remove("teachers", doc! { "_id": &id }), 1);
    edit(&job, "users", &account, doc! { "roles": [] });
    job.v1.execute(&format!("update \"Teacher\" set qualification = 'E' where id = '{key}'"));
    let without = (job.count("teachers"), by_id(&job, "users", &account).get_array("roles").unwrap().len());
    job.migrate(&["--skip-validation"], 0);
    let now =
        |job: &Job| (job.count("teachers"), by_id(job, "users", &account).get_array("roles").unwrap().len());
    assert_eq!((now(&job), without.1), (without, 0));
    assert_eq!(job.conflicts("edited_in_v2")[0][3], "teachers, users, users.roles");
    job.v1.execute(&format!("update \"Teacher\" set qualification = 'F' where id = '{key}'"));
    let before = job.whole();
    job.migrate(&["--on-edited", "overwrite"], 0);
    assert_eq!(now(&job), (without.0 + 1, 1));
    assert_eq!(at(&by_id(&job, "teachers", &id), "qualification"), "F");
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), before);
}

#[test]
fn a_change_that_v2_refuses_costs_only_itself() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    let collections = job.v2.run(doc! { "listCollections": 1, "filter": { "name": "parents" } });
    let found = collections.get_document("cursor").unwrap().get_array("firstBatch").unwrap()[0].clone();
    let options = found.as_document().unwrap().get_document("options").unwrap();
    let mut validator = options.get_document("validator").unwrap().clone();
    validator.insert("occupation", doc! { "$not": { "$regex": "^xxx" } });
    job.v2.run(doc! { "collMod": "parents", "validator": validator });
    let before = job.whole();
    let keys = job.keys("Parent");
    let students = job.keys("Student");
    let taken = job.v1.one(&format!("select \"admissionNo\" from \"Student\" where id = '{}'", students[2]));
    let of_school = job.v1.one(&format!("select \"schoolId\" from \"Student\" where id = '{}'", students[2]));
    job.v1.execute("alter table \"Student\" drop constraint \"Student_schoolId_fkey\"");
    job.v1.execute(&format!(
        "update \"Parent\" set occupation = 'Cook' where id in ('{}', '{}', '{}'); \
         update \"Parent\" set occupation = repeat('x', 50) where id = '{}'; \
         update \"Student\" set \"schoolId\" = 'nowhere' where id = '{}'",
        keys[0], keys[1], keys[3], keys[2], students[0]
    ));
    // A number that another student of V2 has: V1 has changed both, and V2 cannot take one before the other.
    job.v1.execute(&format!(
        "update \"Student\" set \"admissionNo\" = \"admissionNo\" || 'x' where id = '{0}'; \
         update \"Student\" set \"admissionNo\" = '{taken}', \"schoolId\" = '{of_school}' where id = '{1}'",
        students[2], students[1]
    ));
    let ended = job.migrate(&["--accept-changes", "--batch-size", "100"], 3);
    assert!(ended.stdout.contains("parents: 4 rows have changed"), "{}", ended.stdout);
    let cooks = job.v2.count("parents", doc! { "occupation": "Cook" });
    let lines = job.v2.find("v1v2_ledger", doc! { "_id.e": "parents", "run": 2 });
    assert_eq!(
        (cooks, lines.len()),
        (job.v1.one("select count(*) from \"Parent\" where occupation = 'Cook'").parse().unwrap(), 3)
    );
    let refused = job.conflicts("change_refused");
    let codes: Vec<(&str, &str)> =
        refused.iter().map(|of| (of[0].as_str(), of[3].split(':').next().unwrap())).collect();
    assert_eq!(
        codes,
        [("parents", "database-121"), ("students", "missing-reference"), ("students", "database-11000")]
    );
    assert_eq!(refused[0][1], keys[2]);
    // Nothing is lost: the ledger still has the rows as they are in V2, and the next run tries again.
    let after = job.whole();
    job.v1.execute(&format!("update \"Parent\" set occupation = 'Baker' where id = '{}'", keys[2]));
    job.migrate(&[], 3);
    let line = job.line("parents", &keys[2]);
    assert_eq!(at(&by_id(&job, "parents", line.get("targetId").unwrap()), "occupation"), "Baker");
    assert_eq!(job.conflicts("change_refused").len(), 1, "only the one without a school is left");
    // What was told about rows that stayed goes with the run that told it.
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), after);
    job.project.roll_back_next(&[]);
    assert_eq!(job.whole(), before);
}

#[test]
fn a_rejected_row_that_was_repaired_in_v1_comes_by_itself() {
    let job = Job::new(200, &["--orphans"]);
    job.migrate(&[], 3);
    let (before, rejected) = (job.whole(), job.rejected());
    assert!(!rejected.is_empty());
    // Tried again in vain, and taken back.
    job.migrate(&["--retry-rejected"], 3);
    assert_ne!(job.whole(), before);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), before);
    job.v1.execute(ORPHANS_MOVE);
    job.migrate(&[], 0);
    assert!(job.rejected().is_empty());
    // A rollback makes them rejected again, with what was told about them.
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), before);
    // Where the run that rejected them is gone, nothing of it comes back.
    job.migrate(&["--retry-rejected", "--entities", "teachers"], 0);
    let first = text(job.v2.one("v1v2_runs", doc! { "no": 1 }).get("_id"));
    job.run(&["rollback", "--force", "--run", &first]).expect(0);
    job.project.roll_back_next(&[]);
    assert_eq!(job.count("v1v2_ledger") + job.count("v1v2_replaced") + job.count("v1v2_conflicts"), 0);
}

#[test]
fn a_killed_update_goes_on_to_the_same_result_and_back() {
    let job = Job::new(200, &[]);
    let twin = MongoDatabase::new();
    let undisturbed = Project::into_mongodb(&job.v1, &twin).env("V1V2_PASSWORDS", "none");
    undisturbed.run(&["setup"]).expect(0);
    undisturbed.run(&["migrate", "--force", "--skip-validation"]).expect(0);
    job.migrate(&[], 0);
    let before = job.whole();
    job.v1.execute(CHANGES);
    job.v1.execute(
        "update \"Student\" set \"className\" = 'moved'; update \"Parent\" set occupation = 'moved'",
    );
    let gone = "select id from \"Student\" order by id limit 20";
    job.v1.execute(&format!(
        "delete from \"_ParentToStudent\" where \"B\" in ({gone}); delete from \"Student\" where id in ({gone})"
    ));
    undisturbed.run(&["migrate", "--force", "--prune", "--skip-validation"]).expect(0);
    let arguments = ["migrate", "--force", "--prune", "--batch-size", "1", "--writers", "1"];
    let kills = job.project.kill_at(&arguments, &[0, 20, 60, 100], || job.count("v1v2_replaced"));
    assert!(kills >= 2, "the run was killed {kills} times");
    job.run(&arguments).expect(0);
    assert_eq!(job.result(), result_of(&twin));
    job.run(&["validate", "--compare-counts"]).expect(0);
    // The way back is cut short, too, each time as soon as something more is back.
    let mut kills = 0;
    for _ in 0..3 {
        let left = job.count("v1v2_replaced");
        let back = || left - job.count("v1v2_replaced").min(left);
        kills += job.project.kill_at(&["rollback", "--force"], &[0], back);
    }
    assert!(kills >= 2, "the rollback was killed {kills} times");
    job.back_to_the_first();
    assert_eq!(job.whole(), before);
}

#[test]
fn both_databases_decide_alike() {
    let (v2, postgres, job) =
        parity::into_both(300, |_| (), &["--passwords", "keep", "--batch-size", "100"], 3);
    job.v1.execute(CHANGES);
    job.v1.execute(
        "update \"Teacher\" set email = (select max(email) from \"Parent\") where id = (select min(id) from \"Teacher\" where email is not null); \
         update \"Parent\" set name = 'Somebody Else', phone = (select min(phone) from \"Parent\") where id in (select id from \"Parent\" order by id limit 4); \
         delete from \"_ParentToStudent\" where \"B\" in (select id from \"Student\" order by id limit 5); \
         delete from \"Student\" where id in (select id from \"Student\" order by id limit 5)",
    );
    let migrate = ["migrate", "--force", "--passwords", "keep", "--prune", "--batch-size", "100"];
    job.run(&migrate).expect(3);
    postgres.run(&migrate).expect(3);
    parity::compare(&v2, &job);
}
