//! A V2 whose collections change between runs.

use mongodb::bson::{Document, doc};

use super::Job;

/// Refused by run and dry run, naming all of this; nothing was written. Taken with `--accept-changes`, once and for all.
#[track_caller]
fn assert_refused(job: &Job, changes: &[&str]) {
    let before = job.whole();
    job.migrate(&["--dry-run"], 5);
    let refused = job.migrate(&[], 5);
    for change in changes {
        assert!(refused.stderr.contains(change), "{change}\n{}", refused.stderr);
    }
    assert!(refused.stderr.contains("--accept-changes"), "{}", refused.stderr);
    assert_eq!(job.whole(), before);
    job.migrate(&["--accept-changes"], 0);
    job.migrate(&[], 0);
}

fn index(job: &Job, collection: &str, index: Document) {
    job.v2.run(doc! { "createIndexes": collection, "indexes": [index] });
}

#[test]
fn a_v2_whose_collections_changed_since_the_ledger_began_is_refused() {
    let job = Job::new(40, &[]);
    job.migrate(&["--entities", "schools"], 0);
    // Nothing that decides about documents, and a collection of nobody who was migrated.
    index(&job, "schools", doc! { "name": "by_name", "key": { "name": 1 } });
    index(&job, "students", doc! { "name": "odd", "key": { "odd": 1 }, "unique": true, "sparse": true });
    job.migrate(&[], 0);

    index(&job, "schools", doc! { "name": "motto", "key": { "motto": 1 }, "unique": true, "sparse": true });
    job.v2.run(doc! { "dropIndexes": "students", "index": "odd" });
    assert_refused(
        &job,
        &["schools: unique index motto is new: key: { \"motto\": 1 }", "students: unique index odd is gone"],
    );
    // The same name, another meaning.
    job.v2.run(doc! { "dropIndexes": "schools", "index": "motto" });
    let only = doc! { "motto": { "$type": "string" } };
    index(
        &job,
        "schools",
        doc! { "name": "motto", "key": { "motto": 1 }, "unique": true, "partialFilterExpression": only },
    );
    index(&job, "students", doc! { "name": "leaves", "key": { "leftAt": 1 }, "expireAfterSeconds": 60 });
    assert_refused(&job, &["schools: unique index motto was", "students: index leaves is new"]);

    let collections = job.v2.run(doc! { "listCollections": 1, "filter": { "name": "schools" } });
    let found = collections.get_document("cursor").unwrap().get_array("firstBatch").unwrap()[0].clone();
    let options = found.as_document().unwrap().get_document("options").unwrap();
    let mut validator = options.get_document("validator").unwrap().clone();
    let schema = validator.get_document_mut("$jsonSchema").unwrap();
    schema.insert("maxProperties", 99);
    job.v2.run(doc! { "collMod": "schools", "validator": validator, "validationAction": "warn" });
    let changes = [
        "schools: validator.$jsonSchema.maxProperties is new: 99",
        "schools: validationAction was \"error\", and is \"warn\" now",
    ];
    assert_refused(&job, &changes);

    // Taken back to the last line, V2 has nothing that would have to stay the same.
    while job.count("v1v2_ledger") > 0 {
        job.project.roll_back_next(&[]);
    }
    let kept = job.v2.find("v1v2_meta", doc! { "_id": { "$regex": "^structure of " } });
    assert_eq!(kept, Vec::<Document>::new());
    job.v2.run(doc! { "collMod": "schools", "validationAction": "error" });
    job.migrate(&[], 0);
}

#[test]
fn what_a_bulk_load_owes_is_no_change() {
    let job = Job::new(60, &[]).in_bulk();
    let indexes = job.v2.indexes("users");
    let mut running = job.project.spawn(&["migrate", "--force", "--batch-size", "5"]);
    assert!(running.wait_until(|_| job.count("v1v2_ledger") > 10));
    assert!(running.signal("KILL"));
    drop(running.wait());
    assert_ne!(job.v2.indexes("users"), indexes, "the run was killed too late");
    job.migrate(&[], 0);
    assert_eq!(job.v2.indexes("users"), indexes);
    job.migrate(&[], 0);
    assert_eq!(job.v2.find("v1v2_dropped", doc! {}), Vec::<Document>::new());
}
