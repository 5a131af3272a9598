//! Rows that V1 no longer has.

use super::*;

#[test]
fn rows_that_are_gone_stay_until_they_are_pruned() {
    let job = Job::new(300, &[]);
    job.migrate(&[], 0);
    let before = job.whole();
    // A parent who is a teacher too: the account is the teacher's, and the parent's role goes alone.
    let both = job.v1.one(
        "select p.id from \"Parent\" p join \"Teacher\" t on lower(trim(p.email)) = lower(trim(t.email)) order by p.id limit 1",
    );
    let account = job.line("parents", &both).get("accountId").unwrap().clone();
    let students = job.keys("Student");
    let edited = students.last().unwrap().clone();
    job.v1.execute(&format!(
        "delete from \"_ParentToStudent\" where \"A\" = '{both}' or \"B\" in ('{edited}', '{0}'); \
         delete from \"Parent\" where id = '{both}'; delete from \"Student\" where id in ('{edited}', '{0}')",
        students[0]
    ));
    let id = job.line("students", &edited).get("targetId").unwrap().clone();
    edit(&job, "students", &id, doc! { "className": "Edited" });
    let with_edit = job.whole();
    let told = job.migrate(&[], 4);
    assert!(
        told.stdout.contains("students: 2 migrated rows are no longer in V1; `--prune`"),
        "{}",
        told.stdout
    );
    let counts = |job: &Job| {
        (job.count("parents"), job.count("students"), job.count("v1v2_ledger"), job.count("users"))
    };
    let (parents, pupils, lines, users) = counts(&job);
    let pruned = job.migrate(&["--prune", "--skip-validation"], 3);
    assert!(pruned.stdout.contains("1 were removed from V2, 1 stay"), "{}", pruned.stdout);
    assert_eq!(counts(&job), (parents - 1, pupils - 1, lines - 2, users - 1));
    assert_eq!(by_id(&job, "users", &account).get_array("roles").unwrap().len(), 1);
    let kept = job.conflicts("edited_in_v2");
    assert_eq!((kept.len(), &kept[0][1], &kept[0][2][..]), (1, &edited, "kept"));
    job.migrate(&["--prune", "--on-edited", "overwrite"], 0);
    assert_eq!(counts(&job), (parents - 1, pupils - 2, lines - 3, users - 2));
    job.run(&["validate", "--compare-counts"]).expect(0);
    assert_eq!(job.result(), job.made_anew());
    job.back_to_the_first();
    assert_eq!(job.whole(), with_edit);
    assert_ne!(job.whole(), before);
}

#[test]
fn a_row_that_others_refer_to_is_not_pruned() {
    let job = Job::new(300, &[]);
    job.migrate(&[], 0);
    let before = job.whole();
    // The application has a student of its own with this guardian, and a role of its own for another parent.
    let child = job.v2.find("students", doc! { "guardians.1": { "$exists": true } }).remove(0);
    let guardians: Vec<Bson> = child
        .get_array("guardians")
        .unwrap()
        .iter()
        .map(|of| of.as_document().unwrap().get("id").unwrap().clone())
        .collect();
    let line = |id: &Bson| job.v2.one("v1v2_ledger", doc! { "_id.e": "parents", "targetId": id });
    let lines: Vec<Document> = guardians.iter().map(line).collect();
    let keys: Vec<String> = lines.iter().map(|of| text(of.get_document("_id").unwrap().get("k"))).collect();
    let mut own = child.clone();
    own.extend(doc! {
        "_id": mongodb::bson::Uuid::new(), "userId": mongodb::bson::Uuid::new(), "admissionNo": "own",
        "guardians": [{ "id": guardians[0].clone(), "relation": "GUARDIAN", "isPrimary": true }],
    });
    let of_own = own.get("_id").unwrap().clone();
    job.v2.insert("students", own).unwrap();
    let account = lines[1].get("accountId").unwrap().clone();
    let extra = a_role(&job);
    job.update("users", doc! { "_id": &account }, doc! { "$push": { "roles": extra.clone() } });
    job.v1.execute(&format!(
        "delete from \"_ParentToStudent\" where \"A\" in ('{0}', '{1}'); delete from \"Parent\" where id in ('{0}', '{1}')",
        keys[0], keys[1]
    ));
    let parents = job.count("parents");
    job.migrate(&["--prune", "--skip-validation"], 3);
    assert_eq!(job.count("parents"), parents);
    let refused = job.conflicts("change_refused");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().any(|of| of[1] == keys[0] && of[3].contains("refer to it")), "{refused:?}");
    assert!(refused.iter().any(|of| of[1] == keys[1] && of[3].contains("other roles")), "{refused:?}");
    // What stood in the way is gone, and so are they.
    assert_eq!(job.remove("students", doc! { "_id": &of_own }), 1);
    job.update("users", doc! { "_id": &account }, doc! { "$pull": { "roles": { "id": extra.get("id") } } });
    job.migrate(&["--prune"], 0);
    assert_eq!(job.count("parents"), parents - 2);
    job.back_to_the_first();
    assert_eq!(job.whole(), before);
}

/// Two rows of one entity are one person here; the one that founded the account comes first, and many rows later the one that joined it.
#[test]
fn people_who_share_an_account_go_and_come_back_together() {
    let job = Job::new(20, &[]);
    job.project
        .redefine("accounts", |text| text.replace("same_entity  = \"suffix\"", "same_entity  = \"merge\""));
    // Of one account there is one profile otherwise.
    job.v2.run(doc! { "dropIndexes": "parents", "index": "parents_userId_key" });
    let parents = |first: u32, last: u32, occupation: &str| {
        job.v1.execute(&format!(
            "insert into \"Parent\" select 'q' || lpad(n::text, 5, '0'), (select min(id) from \"School\"), 'Ada Obi', \
               'ada' || case when n < 2000 then n else n - 1999 end || '@example.com', null, null, null, {occupation}, now(), now() \
             from generate_series({first}, {last}) n"
        ));
    };
    parents(1, 1_100, "'Pilot'");
    // So large that a rollback reads it alone.
    parents(2_000, 2_001, "repeat('x', 9000000)");
    let migrate = ["--migrators", "mine", "--skip-validation"];
    job.migrate(&migrate, 0);
    assert_eq!(text(job.line("parents", "q02000").get("outcome")), "g");
    let before = job.whole();
    job.v1.execute("delete from \"Parent\" where id like 'q%'");
    job.migrate(&[&migrate[..], &["--prune"]].concat(), 0);
    assert_eq!(job.v2.count("users", doc! { "email": { "$regex": "^ada" } }), 0);
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.whole(), before);
}
