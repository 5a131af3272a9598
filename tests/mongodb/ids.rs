//! ObjectIds instead of uuids, for records and accounts.

use std::collections::BTreeSet;

use mongodb::bson::{Bson, Document, doc};

use super::{Job, text};

/// The built-in definitions with `ids = "objectid"` everywhere.
fn with_object_ids(job: &Job) {
    for name in ["accounts", "schools", "teachers", "parents", "students"] {
        job.project.redefine(name, |definition| match name {
            "accounts" => definition.replacen("[account]", "[account]\nids = \"objectid\"", 1),
            _ => definition.replacen("[source]", "ids = \"objectid\"\n[source]", 1),
        });
    }
}

fn is_object_id(value: Option<&Bson>) -> bool {
    matches!(value, Some(Bson::ObjectId(_)))
}

#[test]
fn the_whole_job_with_object_ids() {
    let job = Job::new(400, &["--orphans"]);
    with_object_ids(&job);
    let job = Job { project: job.project.env("V1V2_MIGRATORS_DIR", "mine"), ..job };
    let before = job.whole();
    // A first part, so that the rest merges into accounts that are there.
    job.migrate(&["--entities", "schools,teachers", "--passwords", "generate"], 3);
    job.migrate(&["--passwords", "generate"], 3);

    let ids = |collection: &str| -> BTreeSet<String> {
        let documents = job.v2.find(collection, doc! {});
        assert!(documents.iter().all(|document| is_object_id(document.get("_id"))), "{collection}");
        documents.iter().map(|document| text(document.get("_id"))).collect()
    };
    let (users, schools, parents) = (ids("users"), ids("schools"), ids("parents"));
    let refers = |document: &Document, field: &str, to: &BTreeSet<String>| {
        let value = document.get(field);
        assert!(is_object_id(value) && to.contains(&text(value)), "{field} of {document}");
    };
    for student in job.v2.find("students", doc! {}) {
        refers(&student, "userId", &users);
        refers(&student, "schoolId", &schools);
        for guardian in student.get_array("guardians").unwrap() {
            refers(guardian.as_document().unwrap(), "id", &parents);
        }
    }
    for parent in job.v2.find("parents", doc! {}) {
        refers(&parent, "userId", &users);
        let of = parent.get_array("schoolIds").unwrap();
        assert!(of.iter().all(|id| is_object_id(Some(id)) && schools.contains(&text(Some(id)))), "{parent}");
    }
    for user in job.v2.find("users", doc! {}) {
        for role in user.get_array("roles").unwrap().iter().filter_map(Bson::as_document) {
            refers(role, "schoolId", &schools);
            assert!(matches!(role.get("id"), Some(Bson::Binary(_))), "{role}");
        }
    }
    for line in job.v2.find("v1v2_ledger", doc! { "outcome": { "$in": ["m", "g"] } }) {
        assert!(is_object_id(line.get("targetId")), "{line}");
        assert!(line.get("accountId").is_none() || is_object_id(line.get("accountId")), "{line}");
    }
    assert!(job.v2.count("v1v2_ledger", doc! { "outcome": "g" }) > 0);
    job.run(&["validate", "--compare-counts"]).expect(0);

    let after = job.whole();
    job.migrate(&["--passwords", "generate"], 3);
    assert_eq!(job.whole(), after);

    job.run(&["credentials", "export", "--plain", "--output", "list.csv"]).expect(0);
    let list = job.project.read("list.csv");
    let line: Vec<&str> = list.lines().skip(1).find(|line| !line.contains('"')).unwrap().split(',').collect();
    let header: Vec<&str> = list.lines().next().unwrap().split(',').collect();
    let value = |name: &str| line[header.iter().position(|column| *column == name).unwrap()];
    let input = format!("{}\n", value("password"));
    job.project.run_with_input(&["users", "verify-login", value("email")], &input).expect(0);

    for _ in 0..2 {
        job.project.roll_back_next(&[]);
    }
    assert_eq!(job.whole(), before);
}

#[test]
fn records_and_accounts_may_have_ids_of_different_kinds() {
    let job = Job::new(100, &[]);
    with_object_ids(&job);
    let accounts = include_str!("../../migrators/accounts.toml");
    job.project.write("mine/accounts.toml", accounts);
    let job = Job { project: job.project.env("V1V2_MIGRATORS_DIR", "mine"), ..job };
    job.migrate(&[], 0);
    for teacher in job.v2.find("teachers", doc! {}) {
        assert!(is_object_id(teacher.get("_id")) && matches!(teacher.get("userId"), Some(Bson::Binary(_))));
    }
    job.run(&["validate", "--compare-counts"]).expect(0);
    job.run(&["rollback", "--force"]).expect(0);
    assert_eq!([job.count("users"), job.count("teachers"), job.count("v1v2_ledger")], [0, 0, 0]);
}
