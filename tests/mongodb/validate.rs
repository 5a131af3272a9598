//! Deliberate damage to V2 is found, and the collection named.

use mongodb::bson::{Bson, doc};

use super::Job;

/// Runs `validate`, which must find exactly one difference, and that in what these words say.
#[track_caller]
fn finds(job: &Job, options: &[&str], words: &[&str]) {
    let found = job.run(&[&["validate"], options].concat()).expect(4);
    for word in words {
        assert!(found.stderr.contains(word), "{word} is not in\n{}", found.stderr);
    }
}

#[test]
fn damage_is_found_and_named() {
    let job = Job::new(300, &[]);
    job.migrate(&[], 0);
    job.run(&["validate", "--compare-counts"]).expect(0);

    // A document that somebody removed.
    let teacher = job.v2.find("teachers", doc! {})[0].clone();
    assert_eq!(job.remove("teachers", doc! { "_id": teacher.get("_id") }), 1);
    finds(&job, &[], &["records of teachers in teachers: 1"]);
    job.v2.insert("teachers", teacher).unwrap();
    job.run(&["validate"]).expect(0);

    // References that lead nowhere: a plain one, one inside an array of documents, one inside an array of ids.
    let nowhere = mongodb::bson::Uuid::new();
    let student = job.v2.find("students", doc! { "guardians.0": { "$exists": true } })[0].clone();
    let restore = |collection: &str, document: &mongodb::bson::Document| {
        assert_eq!(job.update_whole(collection, document), 1);
        job.run(&["validate"]).expect(0);
    };
    for (change, word) in [
        (doc! { "schoolId": nowhere }, "students: schoolId: 1"),
        (doc! { "userId": nowhere }, "students: userId: 1"),
        (doc! { "guardians.0.id": nowhere }, "students: guardians.id: 1"),
    ] {
        assert_eq!(job.update("students", doc! { "_id": student.get("_id") }, doc! { "$set": change }), 1);
        finds(&job, &[], &[word]);
    }
    restore("students", &student);
    let parent = job.v2.find("parents", doc! {})[0].clone();
    assert_eq!(
        job.update("parents", doc! { "_id": parent.get("_id") }, doc! { "$push": { "schoolIds": nowhere } }),
        1
    );
    finds(&job, &[], &["parents: schoolIds: 1"]);
    restore("parents", &parent);
    let user = job.v2.find("users", doc! { "roles.0.schoolId": { "$exists": true } })[0].clone();
    let by_id = doc! { "_id": user.get("_id") };
    assert_eq!(job.update("users", by_id.clone(), doc! { "$set": { "roles.0.schoolId": nowhere } }), 1);
    finds(&job, &[], &["users: roles.schoolId: 1"]);

    // An account that lost its only role, and one that is gone.
    assert_eq!(job.update("users", by_id.clone(), doc! { "$set": { "roles": [] } }), 1);
    finds(&job, &[], &["roles of ", "in users: 1"]);
    assert_eq!(job.remove("users", by_id), 1);
    finds(&job, &[], &["accounts of ", "in users: 1", "userId: 1"]);
    job.v2.insert("users", user).unwrap();
    job.run(&["validate"]).expect(0);

    // Two accounts whose emails differ in case only, which takes an index that is gone.
    let users = job.v2.find("users", doc! {});
    job.v2.run(doc! { "dropIndexes": "users", "index": "users_email_key" });
    let shouting = users[0].get_str("email").unwrap().to_uppercase();
    let one_email = doc! { "$set": { "email": shouting } };
    assert_eq!(job.update("users", doc! { "_id": users[1].get("_id") }, one_email), 1);
    finds(&job, &[], &["users.email: 1"]);
    restore("users", &users[1]);

    // A line of the ledger that is gone: its row of V1 is not accounted for, which takes V1 to see.
    let line = job.v2.find("v1v2_ledger", doc! { "_id.e": "students" })[5].clone();
    assert_eq!(job.remove("v1v2_ledger", doc! { "_id": line.get("_id") }), 1);
    finds(&job, &["--compare-counts"], &["students in V1: 1"]);
    let mut other = line.clone();
    other.insert("_id", doc! { "e": "students", "k": "zz nobody" });
    job.v2.insert("v1v2_ledger", other).unwrap();
    finds(&job, &["--compare-counts"], &["students in V1: 1", "students in the ledger: 1"]);
}

#[test]
fn one_of_two_roles_that_is_gone_is_found() {
    let job = Job::new(800, &[]);
    job.migrate(&[], 0);
    let account = job.v2.find("users", doc! { "roles.1": { "$exists": true } })[0].clone();
    let role = account.get_array("roles").unwrap()[1].as_document().unwrap().clone();
    let pull = doc! { "$pull": { "roles": { "id": role.get("id") } } };
    assert_eq!(job.update("users", doc! { "_id": account.get("_id") }, pull), 1);
    finds(&job, &[], &["roles of ", "in users: 1"]);
    assert_eq!(role.get("id").map(Bson::element_type), Some(mongodb::bson::spec::ElementType::Binary));
}

#[test]
fn a_ledger_of_another_version_is_refused() {
    let job = Job::new(20, &[]);
    let digest = job.whole();
    assert_eq!(
        job.update("v1v2_meta", doc! { "_id": "control_version" }, doc! { "$set": { "value": "99" } }),
        1
    );
    let refused = job.run(&["migrate", "--force"]).expect(5);
    assert!(refused.stderr.contains("version 99"), "{}", refused.stderr);
    assert_eq!(
        job.update("v1v2_meta", doc! { "_id": "control_version" }, doc! { "$set": { "value": "1" } }),
        1
    );
    assert_eq!(job.whole(), digest);
}
