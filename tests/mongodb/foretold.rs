//! What a dry run says of rows that are in V2 already: the same as the run that follows it. The counterpart of
//! `job/foretold.rs`.

use mongodb::bson::{Bson, Document, Uuid, doc};

use super::Job;
use crate::support::Digest;
use crate::support::foretold::{assert_foretold, sum};
use crate::support::sample::{A_SCHOOL, REFUSED, upheaval};

impl Job {
    /// All that V2 holds, its own notes and structure included.
    fn everything(&self) -> (Digest, Vec<String>) {
        (self.v2.digest(&[]), self.structure())
    }

    /// V1's key at a place of a table.
    fn key(&self, table: &str, offset: u32) -> String {
        self.v1.one(&format!("select id from \"{table}\" order by id offset {offset} limit 1"))
    }

    /// The id in V2 of a row.
    fn target(&self, entity: &str, key: &str) -> Bson {
        self.line(entity, key).get("targetId").unwrap().clone()
    }
}

const KEPT: &[&str] = &["--accept-changes"];
const PRUNED: &[&str] = &["--accept-changes", "--prune"];
const OVERWRITTEN: &[&str] = &["--accept-changes", "--prune", "--on-edited", "overwrite"];

/// The collection refuses a parent's occupation.
fn refuse(job: &Job) {
    let collections = job.v2.run(doc! { "listCollections": 1, "filter": { "name": "parents" } });
    let found = collections.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    let options = found[0].as_document().unwrap().get_document("options").unwrap();
    let validator = options.get_document("validator").cloned().unwrap_or_default();
    let validator = doc! { "$and": [validator, { "occupation": { "$ne": REFUSED } }] };
    job.v2.run(doc! { "collMod": "parents", "validator": validator });
}

#[test]
fn a_dry_run_foretells_changes_edits_and_removals() {
    let job = Job::new(300, &[]);
    job.v1.execute(A_SCHOOL);
    refuse(&job);
    job.migrate(&["--accept-changes"], 0);
    // Changed and edited; changed and deleted; gone and edited; gone and referred to.
    let (changed, deleted) = (job.key("Teacher", 0), job.key("Teacher", 1));
    let (gone, noted) = (job.key("Student", 0), job.key("Parent", 20));
    let account = job.line("teachers", &changed).get("accountId").unwrap().clone();
    let edit = |collection: &str, id: Bson, change: Document| {
        assert_eq!(job.update(collection, doc! { "_id": id }, doc! { "$set": change }), 1);
    };
    edit("users", account, doc! { "address.city": "Edited" });
    assert_eq!(job.remove("teachers", doc! { "_id": job.target("teachers", &deleted) }), 1);
    edit("students", job.target("students", &gone), doc! { "className": "Edited" });
    let mut own = job.v2.find("students", doc! {}).remove(0);
    own.extend(doc! {
        "_id": Uuid::new(), "userId": Uuid::new(), "admissionNo": "own",
        "guardians": [{ "id": job.target("parents", &noted), "relation": "GUARDIAN", "isPrimary": true }],
    });
    job.v2.insert("students", own).unwrap();
    upheaval(&job.v1);
    job.v1.execute(&format!(
        "delete from \"_ParentToStudent\" where \"A\" = '{noted}'; delete from \"Parent\" where id = '{noted}'"
    ));
    // Both rows of one person: the account goes with the second of them, once the first has taken its role away.
    job.v1.execute(
        "create temporary table both_of_them as select p.id as parent, t.id as teacher from \"Parent\" p \
           join \"Teacher\" t on lower(trim(p.email)) = lower(trim(t.email)) order by p.id limit 1; \
         delete from \"_ParentToStudent\" where \"A\" in (select parent from both_of_them); \
         delete from \"Parent\" where id in (select parent from both_of_them); \
         delete from \"Teacher\" where id in (select teacher from both_of_them)",
    );
    let ways = [(KEPT, 3), (PRUNED, 3), (OVERWRITTEN, 3)];
    let told = assert_foretold(&job.project, || job.everything(), &ways, Some(&[]));
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
    let small = [&["--batch-size", "7", "--writers", "1"], OVERWRITTEN].concat();
    assert_foretold(&job.project, || job.everything(), &[(&small, 3)], Some(&[]));
    let said = job.run(&[&["migrate", "--dry-run"], PRUNED].concat()).expect(3);
    assert!(said.stdout.contains("would be removed from V2, 1 would stay"), "{}", said.stdout);
}

#[test]
fn a_dry_run_of_an_edited_definition_tries_all_rows() {
    let job = Job::new(200, &[]);
    refuse(&job);
    job.migrate(&["--accept-changes"], 0);
    job.v1.execute("update \"Parent\" set name = 'Refused' where id = (select max(id) from \"Parent\")");
    job.project.redefine("parents", |definition| {
        definition.replacen("occupation = \"occupation\"", "occupation = \"name\"", 2)
    });
    let mine: &[&str] = &["--migrators", "mine", "--accept-changes", "--batch-size", "10"];
    let told =
        assert_foretold(&job.project, || job.everything(), &[(mine, 3)], Some(&["--migrators", "mine"]));
    assert_eq!(sum(&told[0], "changes_refused"), 1);
}

/// The only thing in which it is more cautious than the run (`docs/changes.md`).
#[test]
fn a_dry_run_does_not_know_what_earlier_chunks_would_free() {
    let job = Job::new(60, &[]);
    job.migrate(&[], 0);
    job.v1.execute(
        "update \"Student\" set \"schoolId\" = (select min(id) from \"School\"), \"admissionNo\" = 'no. ' || id",
    );
    job.migrate(&[], 0);
    job.v1.execute(
        "drop index \"Student_admissionNo_key\"; \
         create temporary table two as select id, row_number() over (order by id collate \"C\") as no from \"Student\" order by id collate \"C\" limit 2; \
         update \"Student\" set \"admissionNo\" = 'first' where id = (select id from two where no = 1); \
         update \"Student\" set \"admissionNo\" = 'no. ' || (select id from two where no = 1) where id = (select id from two where no = 2)",
    );
    let small = ["--json", "--batch-size", "1", "--writers", "1", "--skip-validation"];
    let dry = job.run(&[&["migrate", "--dry-run"], &small[..]].concat()).expect(3);
    assert_eq!(sum(&dry.result("migrate"), "changes_refused"), 1);
    let run = job.migrate(&small, 0);
    assert_eq!(sum(&run.result("migrate"), "changes_refused"), 0);
}
