//! Everybody arrives, once, the same way whatever the settings.

use mongodb::bson::{Bson, doc};

use super::{Job, text};
use crate::support::{MongoDatabase, sample};

#[test]
fn everybody_is_carried_over_and_accounted_for() {
    let job = Job::new(400, &[]).in_bulk();
    let before = job.structure();
    job.migrate(&[], 0);
    assert_eq!(job.structure(), before, "bulk load put every index back");
    for (v1, entity) in sample::ENTITIES {
        let rows = job.v1.count(&format!("\"{v1}\""));
        assert!(rows > 0);
        let lines = job.v2.count("v1v2_ledger", doc! { "_id.e": entity });
        assert_eq!(lines, rows, "{entity}: each row of V1 has one line in the ledger");
        assert_eq!(job.count(entity), rows, "{entity}: nothing was rejected, so every row is in V2");
    }
    let people = doc! { "accountId": { "$exists": true } };
    let accounts =
        job.v2.run(doc! { "distinct": "v1v2_ledger", "key": "accountId", "query": people.clone() });
    assert_eq!(accounts.get_array("values").unwrap().len() as u64, job.count("users"));
    let users = job.v2.find("users", doc! {});
    let roles: usize = users.iter().map(|user| user.get_array("roles").unwrap().len()).sum();
    assert_eq!(roles as u64, job.v2.count("v1v2_ledger", people), "one role for each row that is a person");
    // A person who is teacher and parent: one account, two roles, in the order in which they came.
    let merged = job.v2.find("v1v2_ledger", doc! { "_id.e": "parents", "outcome": "g" });
    assert!(!merged.is_empty());
    for line in merged {
        let account = job.v2.one("users", doc! { "_id": line.get("accountId") });
        let roles = account.get_array("roles").unwrap();
        assert_eq!(text(roles.last().unwrap().as_document().unwrap().get("role")), "PARENT");
        assert_eq!(roles.len(), 2);
    }
    // The aggregation of docs/mongodb.md.
    let n = |outcome: &str| doc! { "$sum": { "$cond": [{ "$eq": ["$outcome", outcome] }, 1, 0] } };
    let group = doc! {
        "_id": "$_id.e", "migrated": n("m"), "merged": n("g"), "skipped": n("s"), "rejected": n("r"), "rows": { "$sum": 1 },
    };
    let answer =
        job.v2.run(doc! { "aggregate": "v1v2_ledger", "pipeline": [{ "$group": group }], "cursor": {} });
    for of in answer.get_document("cursor").unwrap().get_array("firstBatch").unwrap() {
        let of = of.as_document().unwrap();
        let number = |field: &str| of.get_i32(field).unwrap();
        let accounted: i32 = ["migrated", "merged", "skipped", "rejected"].map(number).iter().sum();
        assert_eq!(accounted, number("rows"));
        assert_eq!(number("rows") as u64, job.count(of.get_str("_id").unwrap()), "{of}");
    }
    job.run(&["validate", "--compare-counts"]).expect(0);
    let status = job.run(&["status"]).expect(0);
    assert!(status.stdout.contains("students") && status.stdout.contains("done"), "{}", status.stdout);
}

#[test]
fn a_second_run_writes_nothing() {
    let job = Job::new(200, &["--orphans"]);
    job.migrate(&[], 3);
    let before = job.whole();
    job.migrate(&[], 3);
    assert_eq!(job.whole(), before);
    assert_eq!(job.v2.count("v1v2_runs", doc! { "state": "done" }), 2);
    assert_eq!(job.count("v1v2_lock"), 0);
}

#[test]
fn the_result_depends_neither_on_chunks_nor_on_writers_nor_on_bulk_load() {
    let job = Job::new(300, &["--orphans"]).in_bulk();
    job.migrate(&[], 3);
    let (expected, structure) = (job.result(), job.structure());
    let mut job = job;
    let mut kept: Vec<MongoDatabase> = Vec::new();
    for settings in [
        &["--batch-size", "7", "--writers", "4"][..],
        &["--batch-size", "100000", "--writers", "1", "--no-bulk"],
        &["--batch-size", "13", "--no-bulk"],
    ] {
        let (other, old) = job.another_v2();
        kept.push(old);
        job = other;
        job.migrate(settings, 3);
        assert_eq!(job.result(), expected, "{settings:?}");
        assert_eq!(job.structure().len(), structure.len(), "{settings:?}");
    }
}

#[test]
fn a_pilot_and_the_rest_later_end_like_one_run() {
    let job = Job::new(800, &[]);
    job.migrate(&[], 0);
    let mut expected = job.result();
    let (job, _at_once) = job.another_v2();
    let (school, pilot) = sample::pilot(&job.v1);
    job.migrate(&pilot.each_ref().map(String::as_str), 0);
    assert_eq!(job.count("schools"), 1);
    let there = job.v1.one(&format!("select count(*) from \"Teacher\" where \"schoolId\" = '{school}'"));
    assert_eq!(job.count("teachers").to_string(), there);
    job.migrate(&["--entities", "schools,teachers"], 0);
    assert_eq!(job.count("parents"), 0);
    job.migrate(&[], 0);
    let mut result = job.result();
    // A person who is in two entities has one account either way; which row's line says so may differ.
    for of in [&mut result, &mut expected] {
        of.remove("v1v2_ledger");
    }
    assert_eq!(result, expected);
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn accounts_of_an_earlier_run_get_their_further_role_with_the_row_that_gives_it() {
    let job = Job::new(800, &[]);
    job.migrate(&["--entities", "schools,teachers"], 0);
    let before = job.v2.find("users", doc! {});
    job.migrate(&[], 0);
    let merged = job.v2.find("v1v2_ledger", doc! { "_id.e": "parents", "outcome": "g" });
    assert!(merged.len() > 1, "{}", merged.len());
    for line in &merged {
        let id = line.get("accountId").unwrap();
        let account = job.v2.one("users", doc! { "_id": id });
        let mut old = before.iter().find(|of| of.get("_id") == Some(id)).unwrap().clone();
        let profile = job.v2.one("parents", doc! { "_id": line.get("targetId") });
        assert_eq!(profile.get("userId"), Some(id), "role, profile and line are of one transaction");
        let role = account.get_array("roles").unwrap().last().unwrap().clone();
        assert_eq!(text(role.as_document().unwrap().get("role")), "PARENT");
        // But for the new element nothing of the account has changed, not even the order of its fields.
        old.get_array_mut("roles").unwrap().push(role);
        assert_eq!(account, old);
    }
    let second = job.v2.one("v1v2_runs", doc! { "no": 2 });
    assert_eq!(second.get_str("state").unwrap(), "done");
}

#[test]
fn rows_that_were_repaired_are_tried_again() {
    let job = Job::new(600, &["--orphans"]);
    job.migrate(&[], 3);
    let orphans = sample::orphans(&job.v1);
    for [key, school] in &orphans {
        let line = job.line("teachers", key);
        assert_eq!(line.get_str("code").unwrap(), "missing-reference");
        assert!(line.get_str("reason").unwrap().contains(school), "{line}");
        assert!(line.get_str("sourceRow").unwrap().starts_with(key.as_str()), "{line}");
        assert!(line.get("accountId").is_none() && line.get("targetId").is_none(), "{line}");
    }
    job.v1.execute(sample::THEIR_SCHOOLS_COME_BACK);
    job.migrate(&["--retry-rejected"], 0);
    assert_eq!(job.v2.count("v1v2_ledger", doc! { "_id.e": "teachers", "outcome": "r" }), 0);
    assert_eq!(job.count("teachers"), job.v1.count("\"Teacher\""));
    let line = job.line("teachers", &orphans[0][0]);
    assert!(line.get("code").is_none() && line.get("sourceRow").is_none(), "{line}");
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn a_dry_run_decides_the_same_and_writes_nothing() {
    let job = Job::new(300, &["--orphans"]);
    let everything = || (job.v2.digest(&[]), job.structure());
    let before = everything();
    let dry = job.run(&["migrate", "--dry-run", "--json"]).expect(3);
    assert_eq!(everything(), before);
    let real = job.run(&["migrate", "--force", "--json", "--skip-validation"]).expect(3);
    let (dry, real) = (dry.result("migrate"), real.result("migrate"));
    for part in ["entities", "conflicts", "rejects", "first_rejects"] {
        assert_eq!(dry[part], real[part], "{part}");
    }
    // The samples are the documents that were written then, as people read them.
    let samples = dry["samples"].as_array().unwrap();
    let names: Vec<&str> = samples.iter().map(|of| of[0].as_str().unwrap()).collect();
    assert_eq!(names, ["users", "schools", "teachers", "parents", "students"]);
    for sample in samples {
        let collection = sample[0].as_str().unwrap();
        let lines = sample[1].as_array().unwrap();
        assert!(!lines.is_empty() && lines.len() <= 10);
        for line in lines {
            let line = line.as_str().unwrap();
            assert!(!line.contains('$'), "{line}");
            let sample: serde_json::Value = serde_json::from_str(line).unwrap();
            let id: uuid::Uuid = sample["_id"].as_str().unwrap().parse().unwrap();
            let id = mongodb::bson::Uuid::from_bytes(id.into_bytes());
            let document = job.v2.one(collection, doc! { "_id": id });
            let fields: Vec<&String> = sample.as_object().unwrap().keys().collect();
            assert!(fields.len() == document.len(), "{line}\n{document}");
            let created = document.get_datetime("createdAt").unwrap().try_to_rfc3339_string().unwrap();
            if collection != "users" {
                assert_eq!(sample["createdAt"], created.as_str(), "{line}");
            }
        }
    }
}

#[test]
fn a_dry_run_masks_passwords() {
    let job = Job::new(60, &[]);
    let dry = job.run(&["migrate", "--dry-run", "--passwords", "generate"]).expect(0);
    assert!(dry.stdout.contains("\"passwordHash\":\"***\""), "{}", dry.stdout);
    assert!(
        !dry.stdout.contains("argon2") && !dry.stdout.contains("$binary") && !dry.stdout.contains("$date")
    );
}

#[test]
fn new_rows_come_with_the_next_run() {
    let job = Job::new(200, &[]);
    job.migrate(&[], 0);
    job.v1.execute(sample::AN_ARRIVAL);
    job.migrate(&[], 0);
    assert_eq!(job.count("parents"), job.v1.count("\"Parent\""));
    let account = job.v2.one("users", doc! { "email": "ada.obi@new.example" });
    assert_eq!(account.get_document("name").unwrap(), &doc! { "first": "Ada", "last": "Obi" });
    assert!(matches!(account.get("_id"), Some(Bson::Binary(_))));
    job.run(&["validate", "--compare-counts"]).expect(0);
}

#[test]
fn accounts_of_others_are_respected() {
    let job = Job::new(300, &[]);
    let taken = sample::an_email(&job.v1);
    let kind = job.v2.find("userTypes", doc! {})[0].get("_id").cloned();
    let now = mongodb::bson::DateTime::now();
    let theirs = doc! {
        "_id": mongodb::bson::Uuid::new(), "typeId": kind, "type": "STAFF", "email": taken.to_uppercase(),
        "emailIsPlaceholder": false, "username": "somebody", "mustChangePassword": false, "status": "ACTIVE",
        "name": { "first": "Somebody" }, "contact": { "phoneNeedsReview": false }, "roles": [],
        "createdAt": now, "updatedAt": now,
    };
    job.v2.insert("users", theirs.clone()).unwrap();
    let refused = job.migrate(&[], 5);
    assert!(refused.stderr.contains("--into-existing"), "{}", refused.stderr);
    assert_eq!(job.count("v1v2_ledger"), 0);
    job.migrate(&["--into-existing"], 0);
    assert_eq!(
        job.v2.one("users", doc! { "name.first": "Somebody", "name.last": { "$exists": false } }),
        theirs
    );
    assert_ne!(job.v2.count("v1v2_conflicts", doc! { "_id.kind": "email_held_in_v2" }), 0);
}
