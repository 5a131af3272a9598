//! Rollback takes back exactly what a run made.

use mongodb::bson::{Bson, DateTime, Document, doc};

use super::{Job, text};

/// The accounts that two rows share, by the `_id` of the account, with the line of the row that came second.
fn shared(job: &Job) -> Vec<Document> {
    let lines = job.v2.find("v1v2_ledger", doc! { "_id.e": "parents", "outcome": "g" });
    assert!(lines.len() > 2, "{}", lines.len());
    lines
}

/// The roles of an account, by code.
fn roles(job: &Job, account: &Bson) -> Vec<String> {
    let account = job.v2.one("users", doc! { "_id": account });
    let roles = account.get_array("roles").unwrap();
    roles.iter().map(|role| text(role.as_document().unwrap().get("role"))).collect()
}

#[test]
fn after_a_rollback_v2_is_as_before_and_the_job_can_be_done_again() {
    let job = Job::new(300, &["--orphans"]).in_bulk();
    let before = job.whole();
    job.migrate(&["--passwords", "keep"], 3);
    let migrated = job.result();
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), before);
    let states: Vec<String> =
        job.v2.find("v1v2_runs", doc! {}).iter().map(|run| text(run.get("state"))).collect();
    assert_eq!(states, ["rolled_back", "done"]);
    job.migrate(&["--passwords", "keep", "--batch-size", "50"], 3);
    assert_eq!(job.result(), migrated);
}

#[test]
fn only_the_named_run_goes_and_accounts_of_the_earlier_one_lose_what_it_gave_them() {
    let job = Job::new(800, &[]);
    job.migrate(&["--entities", "schools,teachers"], 0);
    let (first, users) = (job.result(), job.v2.find("users", doc! {}));
    job.migrate(&[], 0);
    let shared = shared(&job);
    assert!(shared.iter().all(|line| roles(&job, line.get("accountId").unwrap()).len() == 2));
    let second = text(job.v2.one("v1v2_runs", doc! { "no": 2 }).get("_id"));
    job.run(&["rollback", "--force", "--run", &second]).expect(0);
    assert_eq!(job.result(), first);
    assert_eq!(job.v2.find("users", doc! {}), users, "bytes and all");
    job.run(&["validate"]).expect(0);
    job.run(&["rollback", "--force", "--run", "01890000-0000-7000-8000-000000000000"]).expect(2);
}

/// In a script that repeats it, above all.
#[test]
fn a_rollback_given_again_does_not_go_on_to_the_run_before() {
    let job = Job::new(200, &[]);
    let refused = job.run(&["rollback", "--force"]).expect(5);
    assert!(refused.stderr.contains("no run that could be rolled back"), "{}", refused.stderr);
    job.migrate(&["--entities", "schools"], 0);
    let (first, id) = (job.whole(), text(job.v2.one("v1v2_runs", doc! { "no": 1 }).get("_id")));
    let before = format!("v1v2 rollback --run {id}\n");
    job.migrate(&[], 0);
    let second = text(job.v2.one("v1v2_runs", doc! { "no": 2 }).get("_id"));
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!(job.whole(), first);
    let again = job.run(&["rollback", "--force"]).expect(0);
    assert!(again.stdout.contains(&format!("run {second} was rolled back already")), "{}", again.stdout);
    assert!(again.stdout.ends_with(&before), "{}", again.stdout);
    job.run(&["rollback", "--force", "--run", &second]).expect(0);
    // A run that has changed nothing is not passed over either.
    job.migrate(&["--entities", "schools"], 0);
    let unchanged = job.run(&["rollback", "--force"]).expect(0);
    assert!(unchanged.stdout.contains("has changed nothing in V2"), "{}", unchanged.stdout);
    assert!(unchanged.stdout.ends_with(&before), "{}", unchanged.stdout);
    assert_eq!(job.whole(), first);
    // Nor does naming it do harm; and what was named goes.
    job.run(&["rollback", "--force", "--run", &id]).expect(0);
    assert_eq!(job.count("v1v2_ledger"), 0);
    let nothing = job.run(&["rollback", "--force"]).expect(0);
    assert!(!nothing.stdout.contains("--run"), "{}", nothing.stdout);
}

#[cfg(feature = "failpoints")]
#[test]
fn an_interrupted_rollback_finishes_without_touching_the_run_before() {
    let job = Job::new(200, &[]);
    job.migrate(&["--entities", "schools,teachers"], 0);
    let first = job.whole();
    job.migrate(&[], 0);
    let point = "mongodb.rollback.committed@1:fatal";
    job.project.run_with(&["rollback", "--force"], "FAILPOINT", point).expect(1);
    assert_ne!(job.whole(), first);
    for _ in 0..3 {
        job.run(&["rollback", "--force"]).expect(0);
        assert_eq!(job.whole(), first);
    }
}

#[test]
fn what_was_edited_since_stays_and_is_listed() {
    let job = Job::new(800, &[]);
    job.migrate(&[], 0);
    let shared = shared(&job);
    let account = |number: usize| shared[number].get("accountId").unwrap().clone();
    // A document, an account, a role that we gave, and a role that somebody else added.
    let school = job.v2.find("schools", doc! {})[0].clone();
    assert_eq!(
        job.update("schools", doc! { "_id": school.get("_id") }, doc! { "$set": { "name": "Edited" } }),
        1
    );
    assert_eq!(
        job.update("users", doc! { "_id": account(0) }, doc! { "$set": { "name.first": "Edited" } }),
        1
    );
    let sooner = doc! { "$set": { "roles.1.assignedAt": DateTime::from_millis(0) } };
    assert_eq!(job.update("users", doc! { "_id": account(1) }, sooner), 1);
    let role = job.v2.one("roles", doc! { "code": "TEACHER" });
    let extra = doc! {
        "id": mongodb::bson::Uuid::new(), "roleId": role.get("_id"), "role": "TEACHER", "assignedAt": DateTime::now(),
    };
    assert_eq!(
        job.update("users", doc! { "_id": account(2) }, doc! { "$push": { "roles": extra.clone() } }),
        1
    );

    let told = job.run(&["rollback", "--force"]).expect(0).stdout;
    for (collection, id) in [
        ("schools", text(school.get("_id"))),
        ("users", text(Some(&account(0)))),
        ("users", text(Some(&account(2)))),
    ] {
        assert!(told.contains(&format!("{collection} {id}")), "{id} is not listed:\n{told}");
    }
    assert!(told.contains(&text(Some(&account(1)))), "{told}");
    assert_eq!(
        job.v2.find("schools", doc! {}).iter().map(|of| text(of.get("name"))).collect::<Vec<_>>(),
        ["Edited"]
    );
    for empty in ["teachers", "parents", "students", "v1v2_ledger", "v1v2_conflicts"] {
        assert_eq!(job.count(empty), 0, "{empty}");
    }
    let admin = job.v2.count("users", doc! { "_id": school.get("adminUserId") });
    assert_eq!(job.count("users"), 3 + admin, "a record that stays keeps its account");
    assert_eq!(roles(&job, &account(0)), Vec::<String>::new(), "our own roles go");
    assert_eq!(roles(&job, &account(1)), ["PARENT"], "an edited role stays");
    let theirs = job.v2.one("users", doc! { "_id": account(2) });
    assert_eq!(theirs.get_array("roles").unwrap(), &[Bson::Document(extra)]);
}

#[test]
fn what_others_refer_to_stays() {
    let job = Job::new(300, &[]);
    job.migrate(&[], 0);
    // An edited record needs its account and its school; so does one that the application made itself.
    let edited = job.v2.find("students", doc! {})[0].clone();
    let of = |document: &Document, field: &str| document.get(field).unwrap().clone();
    assert_eq!(
        job.update(
            "students",
            doc! { "_id": of(&edited, "_id") },
            doc! { "$set": { "className": "Edited" } }
        ),
        1
    );
    let taught = job.v2.find("teachers", doc! {})[0].clone();
    let mut own = job.v2.find("students", doc! {})[1].clone();
    own.extend(doc! {
        "_id": mongodb::bson::Uuid::new(), "userId": of(&taught, "userId"), "admissionNo": "own", "guardians": [],
    });
    job.v2.insert("students", own.clone()).unwrap();
    let told = job.run(&["rollback", "--force"]).expect(0).stdout;
    assert_eq!(job.count("students"), 2);
    for (collection, id) in [
        ("users", of(&edited, "userId")),
        ("schools", of(&edited, "schoolId")),
        ("schools", of(&own, "schoolId")),
        ("users", of(&own, "userId")),
    ] {
        assert_eq!(job.v2.count(collection, doc! { "_id": &id }), 1, "{collection} {id}");
        assert!(told.contains(&format!("{collection} {}", text(Some(&id)))), "{told}");
    }
    let guardian = edited.get_array("guardians").unwrap().first();
    if let Some(guardian) = guardian.and_then(Bson::as_document) {
        let parent = job.v2.one("parents", doc! { "_id": guardian.get("id") });
        assert_eq!(job.v2.count("users", doc! { "_id": parent.get("userId") }), 1);
    }
    assert_eq!(job.count("v1v2_ledger"), 0);
    job.run(&["validate"]).expect(0);
}

#[test]
fn a_killed_rollback_goes_on() {
    let job = Job::new(1_500, &[]);
    let before = job.whole();
    job.migrate(&["--skip-validation"], 0);
    // Each time as soon as it has taken back something more.
    let mut kills = 0;
    for _ in 0..3 {
        let left = job.count("v1v2_ledger");
        kills +=
            job.project.kill_at(&["rollback", "--force"], &[0], || left - job.count("v1v2_ledger").min(left));
    }
    assert!(kills >= 2, "the rollback was killed {kills} times");
    if job.count("v1v2_ledger") > 0 {
        job.run(&["rollback", "--force"]).expect(0);
    }
    // A rollback that was killed at its very end leaves no more than its lock, and what was decided about ids and known about
    // collections: it counts only as long as there are lines in the ledger.
    job.run(&["rollback", "--force"]).expect(0);
    let (mut content, structure) = job.whole();
    for own in ["v1v2_entities", "v1v2_lock"] {
        content.insert(own.to_owned(), before.0[own].clone());
    }
    assert_eq!((content, structure), before);
}
