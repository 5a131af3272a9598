//! Steps that go batch by batch: killed, resumed, interrupted, met by others; and that each document is changed exactly once.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc, oid::ObjectId};

use super::Mongo;

/// A pipeline that must not be applied twice.
pub const TWICE_IS_WRONG: &str = r#"[ { "update": "c", "filter": { "n": { "$gte": 0 } }, "pipeline": [ { "$set": { "n": { "$add": ["$n", 1] } } } ],
    "batch": 5, "throttle": "20ms" } ]"#;
pub const BACK: &str = r#"[ { "update": "c", "filter": { "n": { "$gte": 0 } }, "pipeline": [ { "$set": { "n": { "$subtract": ["$n", 1] } } } ] } ]"#;

fn numbered(count: i32) -> Mongo {
    numbered_in(Mongo::new(), count)
}

/// Documents whose `n` is their `_id`.
pub fn numbered_in(mongo: Mongo, count: i32) -> Mongo {
    let documents: Vec<Document> = (0..count).map(|n| doc! { "_id": n, "n": n }).collect();
    mongo.v2.run(doc! { "insert": "c", "documents": documents });
    mongo
}

#[track_caller]
pub fn assert_each_once(mongo: &Mongo, count: i32) {
    for (index, document) in mongo.v2.find("c", doc! {}).iter().enumerate() {
        let index = i32::try_from(index).unwrap();
        assert_eq!(document, &doc! { "_id": index, "n": index + 1 });
    }
    assert_eq!(mongo.v2.count("c", doc! {}), u64::try_from(count).unwrap());
}

pub fn batches(mongo: &Mongo) -> i64 {
    let found = mongo.v2.find("v1v2_evolutions", doc! {});
    found.first().and_then(|record| record.get_i64("batches").ok()).unwrap_or(0)
}

#[test]
fn a_step_that_is_killed_again_and_again_changes_each_document_once() {
    let mongo = numbered(300);
    mongo.evolution("0001_add", TWICE_IS_WRONG, BACK);
    let mut kills = 0;
    for _ in 0..3 {
        let mut running = mongo.project.spawn(&["evolve", "up", "--force"]);
        let before = batches(&mongo);
        assert!(running.wait_until(|_| batches(&mongo) >= before + 5));
        if running.signal("KILL") && running.wait().signal() == Some(9) {
            kills += 1;
        }
        let status = mongo.run(&["status"]).expect(0);
        assert!(
            status.stdout.contains("running") && status.stdout.contains("goes on where it stopped"),
            "{}",
            status.stdout
        );
    }
    assert_eq!(kills, 3);
    let half = mongo.v2.count("c", doc! { "$expr": { "$ne": ["$_id", "$n"] } });
    assert!((15..300).contains(&half), "{half} done");
    // To take back what is half done would take back what was never done.
    mongo.run(&["down"]).expect(5);
    mongo.up();
    assert_each_once(&mongo, 300);
    let record = mongo.record(1);
    assert_eq!(record.get_str("state").unwrap(), "applied");
    assert!(!record.contains_key("position"), "{record}");
    assert_eq!(mongo.v2.count("v1v2_lock", doc! {}), 0);
    mongo.down();
    assert_eq!(mongo.v2.count("c", doc! { "$expr": { "$ne": ["$_id", "$n"] } }), 0);
}

#[test]
fn an_interrupted_step_ends_with_a_whole_batch_and_goes_on() {
    let mongo = numbered(200);
    mongo.evolution("0001_add", TWICE_IS_WRONG, BACK);
    let mut running = mongo.project.spawn(&["evolve", "up", "--force"]);
    assert!(running.wait_until(|_| batches(&mongo) >= 3));
    assert!(running.signal("INT"));
    running.wait().expect(130);
    let changed = mongo.v2.count("c", doc! { "$expr": { "$ne": ["$_id", "$n"] } });
    assert_eq!(changed, u64::try_from(batches(&mongo)).unwrap() * 5);
    assert_eq!(mongo.record(1).get_str("state").unwrap(), "failed");
    mongo.up();
    assert_each_once(&mongo, 200);
}

#[test]
fn whoever_comes_second_is_told_who_is_there() {
    let mongo = numbered(300);
    mongo.evolution("0001_add", TWICE_IS_WRONG, BACK);
    let mut running = mongo.project.spawn(&["evolve", "up", "--force"]);
    assert!(running.wait_until(|_| batches(&mongo) >= 1));
    let second = mongo.run(&["up", "--force"]).expect(5);
    assert!(second.stderr.contains(&format!("process {}", running.id())), "{}", second.stderr);
    assert!(second.stderr.contains("`evolve`"), "{}", second.stderr);
    running.wait().expect(0);
    assert_each_once(&mongo, 300);
}

#[test]
fn in_a_v2_that_was_set_up_migrations_and_evolutions_exclude_each_other() {
    let mongo = numbered(300);
    mongo.project.run(&["setup"]).expect(0);
    mongo.evolution("0001_add", TWICE_IS_WRONG, BACK);
    let mut running = mongo.project.spawn(&["evolve", "up", "--force"]);
    assert!(running.wait_until(|_| batches(&mongo) >= 1));
    let second = mongo.project.run(&["repair"]).expect(5);
    assert!(second.stderr.contains("`evolve`"), "{}", second.stderr);
    running.wait().expect(0);
    assert_each_once(&mongo, 300);
    let run = mongo.v2.one("v1v2_runs", doc! { "command": "evolve" });
    assert_eq!(run.get_str("state").unwrap(), "done");
    // Setup still finds everything as it should be.
    mongo.project.run(&["setup"]).expect(0);
}

/// Ids of all kinds in one collection: the comparison operators see one kind at a time.
#[test]
fn ids_of_all_kinds_are_reached() {
    let mongo = Mongo::new();
    let mut ids: Vec<Bson> = vec![
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Null,
        Bson::Boolean(true),
        Bson::Double(f64::NAN),
        Bson::Double(1.5),
        Bson::Int64(i64::MAX),
        "text".into(),
        "".into(),
        doc! { "a": 1, "b": "x" }.into(),
        doc! {}.into(),
        Bson::DateTime(mongodb::bson::DateTime::from_millis(0)),
        mongodb::bson::Timestamp { time: 1, increment: 1 }.into(),
        mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Uuid, bytes: vec![7; 16] }
            .into(),
    ];
    ids.extend((0..10).map(Bson::Int32));
    ids.extend((0..10).map(|n| Bson::String(format!("t{n}"))));
    ids.extend((0..10_u8).map(|n| Bson::ObjectId(ObjectId::from_bytes([n; 12]))));
    for id in &ids {
        mongo.v2.insert("c", doc! { "_id": id, "n": 0 }).unwrap();
    }
    let up = TWICE_IS_WRONG.replace("\"batch\": 5", "\"batch\": 3").replace("20ms", "0s");
    mongo.evolution("0001_add", &up, BACK);
    mongo.up();
    assert_eq!(mongo.v2.find("c", doc! { "n": { "$ne": 1 } }), []);
    assert_eq!(mongo.v2.count("c", doc! {}), ids.len() as u64);
    let delete = r#"[ { "delete": "c", "filter": { "n": 1 }, "batch": 4 } ]"#;
    mongo.evolution("0002_delete", delete, "[]");
    mongo.up();
    assert_eq!(mongo.v2.count("c", doc! {}), 0);
}

/// A batch that somebody else's writes get in the way of is tried again, whole.
#[test]
fn an_application_that_writes_meanwhile_loses_nothing() {
    let mongo = numbered(100);
    mongo.evolution("0001_add", &TWICE_IS_WRONG.replace("20ms", "5ms"), BACK);
    let running = mongo.project.spawn(&["evolve", "up", "--force"]);
    for round in 0..10 {
        for n in 0..100 {
            let change = doc! { "q": { "_id": n }, "u": { "$set": { "seen": round } } };
            mongo.v2.run(doc! { "update": "c", "updates": [change] });
        }
    }
    running.wait().expect(0);
    for document in mongo.v2.find("c", doc! {}) {
        let id = document.get_i32("_id").unwrap();
        assert_eq!(document, doc! { "_id": id, "n": id + 1, "seen": 9 });
    }
}

/// The error comes in the middle; the step is mended, and goes on behind what is done.
#[test]
fn a_failed_step_says_where_and_goes_on_when_it_is_mended() {
    let mongo = numbered(50);
    mongo
        .v2
        .run(doc! { "update": "c", "updates": [{ "q": { "_id": 23 }, "u": { "$set": { "n": "CANARY" } } }] });
    let up = r#"[ { "command": { "create": "log" } },
        { "update": "c", "pipeline": [ { "$set": { "n": { "$add": ["$n", 1] } } } ], "batch": 5 } ]"#;
    mongo.evolution("0001_add", up, "[]");
    let failed = mongo.run(&["up", "--force"]).expect(1);
    assert!(failed.stderr.contains("0001_add/up.json, step 2 (update c)"), "{}", failed.stderr);
    assert!(!failed.stderr.contains("CANARY"), "{}", failed.stderr);
    assert_eq!(
        mongo.v2.count("c", doc! { "$expr": { "$ne": ["$_id", "$n"] } }),
        21,
        "20 and the one that is to blame"
    );
    let status = mongo.run(&["status"]).expect(0);
    for text in ["failed", "1 of its parts are done, 20 documents", "v1v2 evolve up"] {
        assert!(status.stdout.contains(text), "{text}: {}", status.stdout);
    }
    // The first step is done and must stay as it was.
    mongo.evolution("0001_add", &up.replace("\"log\"", "\"other\""), "[]");
    let refused = mongo.run(&["up", "--force"]).expect(5);
    assert!(refused.stderr.contains("stopped after 1 of its parts"), "{}", refused.stderr);
    let mended =
        up.replace(r#""update": "c","#, r#""update": "c", "filter": { "n": { "$type": "number" } },"#);
    mongo.evolution("0001_add", &mended, "[]");
    mongo.up();
    assert_eq!(mongo.v2.count("c", doc! { "$expr": { "$eq": ["$n", { "$add": ["$_id", 1] }] } }), 49);
    assert_eq!(mongo.record(1).get_str("state").unwrap(), "applied");
}

#[test]
fn commands_of_every_kind() {
    let mongo = Mongo::new();
    let up = r#"[
        { "command": { "create": "a", "validator": { "n": { "$type": "int" } } } },
        { "command": { "insert": "a", "documents": [ { "_id": 1, "n": 1 }, { "_id": 2, "n": 2 } ] } },
        { "command": { "createIndexes": "a", "indexes": [ { "key": { "n": -1 }, "name": "a_n" } ] } },
        { "command": { "collMod": "a", "validator": {} } },
        { "command": { "update": "a", "updates": [ { "q": { "_id": 1 }, "u": { "$inc": { "n": 10 } } } ] } },
        { "command": { "renameCollection": "a", "to": "b" } } ]"#;
    let down = r#"[ { "command": { "dropIndexes": "b", "index": "a_n" } }, { "command": { "drop": "b" } } ]"#;
    mongo.evolution("0001_structure", up, down);
    mongo.up();
    assert_eq!(mongo.v2.find("b", doc! {}), [doc! { "_id": 1, "n": 11 }, doc! { "_id": 2, "n": 2 }]);
    assert!(mongo.v2.indexes("b").contains_key("a_n"));
    mongo.down();
    assert_eq!(mongo.v2.collections(), ["v1v2_evolutions", "v1v2_lock"]);
    // A write that the server refuses in part is no success, and leaves no part.
    let bad = r#"[ { "command": { "insert": "d", "ordered": false, "documents": [ { "_id": 1 }, { "_id": 1 }, { "_id": 2 } ] } } ]"#;
    mongo.evolution("0001_structure", bad, down);
    mongo.run(&["up", "--force"]).expect(1);
    assert_eq!(mongo.v2.count("d", doc! {}), 0);
}

/// What could not be part of a transaction may have been done when the program died: meeting it again is no error.
#[test]
fn a_command_that_was_done_before_the_kill_is_not_done_again() {
    for (command, title) in [
        (r#"{ "renameCollection": "c", "to": "d" }"#, "renameCollection c to d"),
        (r#"{ "drop": "c" }"#, "drop c"),
        (r#"{ "create": "x" }"#, "create x"),
    ] {
        let mongo = numbered(1);
        let up = format!(r#"[ {{ "command": {command} }}, {{ "command": {{ "create": "end" }} }} ]"#);
        mongo.evolution("0001_x", &up, "[]");
        mongo.v2.insert("end", doc! {}).unwrap();
        mongo.run(&["up", "--force"]).expect(1);
        // As a kill between the command and its note leaves it. The state after the first step: done.
        let record = mongo.record(1);
        assert_eq!(record.get_i32("done").unwrap(), 1, "{title}: {record}");
        let set = doc! { "done": 0, "begun": true, "state": "running", "step": title };
        let unset = doc! { "doneChecksum": "" };
        mongo.v2.run(doc! { "update": "v1v2_evolutions", "updates": [{ "q": { "_id": 1 }, "u": { "$set": set, "$unset": unset } }] });
        mongo.v2.run(doc! { "drop": "end" });
        mongo.up();
        assert!(mongo.v2.collections().contains(&"end".to_owned()));
    }
}

#[test]
fn throttling_takes_its_time() {
    let mongo = numbered(20);
    mongo.evolution("0001_add", &TWICE_IS_WRONG.replace("20ms", "200ms"), BACK);
    let took = mongo.up().took;
    assert!(took >= Duration::from_millis(600), "{took:?}");
    assert_each_once(&mongo, 20);
}

/// A position in one collection says nothing about another.
#[test]
fn a_step_that_is_mended_to_another_collection_begins_at_its_beginning() {
    let mongo = numbered(20);
    mongo.v2.run(doc! { "insert": "d", "documents": [{ "_id": 0, "n": 0 }, { "_id": 1, "n": 1 }] });
    mongo.v2.run(doc! { "update": "c", "updates": [{ "q": { "_id": 13 }, "u": { "$set": { "n": "x" } } }] });
    let up =
        r#"[ { "update": "c", "pipeline": [ { "$set": { "n": { "$add": ["$n", 1] } } } ], "batch": 5 } ]"#;
    mongo.evolution("0001_add", up, "[]");
    mongo.run(&["up", "--force"]).expect(1);
    mongo.evolution("0001_add", &up.replace("\"c\"", "\"d\""), "[]");
    mongo.up();
    assert_eq!(mongo.v2.find("d", doc! {}), [doc! { "_id": 0, "n": 1 }, doc! { "_id": 1, "n": 2 }]);
}

/// Whoever takes the lock over removes the fences first: from then on the other one commits nothing.
#[test]
fn whoever_has_lost_the_lock_cannot_commit() {
    let mongo = numbered(300);
    mongo.evolution("0001_add", TWICE_IS_WRONG, BACK);
    let mut running = mongo.project.spawn(&["evolve", "up", "--force"]);
    assert!(running.wait_until(|_| batches(&mongo) >= 2));
    mongo
        .v2
        .run(doc! { "delete": "v1v2_lock", "deletes": [{ "q": { "_id": { "$ne": "run" } }, "limit": 0 }] });
    let then = mongo.v2.digest(&["v1v2_lock", "v1v2_evolutions"]);
    let outcome = running.wait().expect(1);
    assert!(outcome.stderr.contains("lost its lock"), "{}", outcome.stderr);
    assert_eq!(mongo.v2.digest(&["v1v2_lock", "v1v2_evolutions"]), then);
    mongo.up();
    assert_each_once(&mongo, 300);
}

#[test]
fn a_collection_with_an_order_of_its_own_is_walked_as_a_whole() {
    let mongo = Mongo::new();
    mongo.v2.run(doc! { "create": "c", "collation": { "locale": "en", "strength": 2 } });
    for id in ["B", "a", "C", "Á", "d", "E", "f", "é"] {
        mongo.v2.insert("c", doc! { "_id": id, "n": 0 }).unwrap();
    }
    mongo.evolution("0001_add", &TWICE_IS_WRONG.replace("\"batch\": 5", "\"batch\": 2"), BACK);
    mongo.up();
    assert_eq!(mongo.v2.count("c", doc! { "n": 1 }), 8);
}

#[test]
fn what_is_half_taken_back_or_half_applied_is_finished_first() {
    let mongo = numbered(20);
    mongo.evolution("0001_add", TWICE_IS_WRONG, BACK);
    mongo.up();
    let fails = BACK.replace("\"n\": { \"$gte\": 0 } }", "}").replace("} ] } ]", "} ], \"batch\": 5 } ]");
    mongo.evolution("0001_add", TWICE_IS_WRONG, &fails);
    mongo.v2.run(doc! { "update": "c", "updates": [{ "q": { "_id": 13 }, "u": { "$set": { "n": "x" } } }] });
    mongo.project.run(&["repair"]).expect(0);
    mongo.run(&["down", "--force"]).expect(1);
    let refused = mongo.run(&["up", "--force"]).expect(5);
    assert!(refused.stderr.contains("half taken back"), "{}", refused.stderr);
    mongo.v2.run(doc! { "update": "c", "updates": [{ "q": { "_id": 13 }, "u": { "$set": { "n": 14 } } }] });
    mongo.down();
    assert_eq!(mongo.v2.count("c", doc! { "$expr": { "$ne": ["$_id", "$n"] } }), 0);
    // The other way round it takes --force: the way back expects the whole.
    mongo.v2.run(doc! { "update": "c", "updates": [{ "q": { "_id": 13 }, "u": { "$set": { "n": "x" } } }] });
    mongo.evolution("0001_add", &fails.replace("$subtract", "$add"), "[]");
    mongo.run(&["up", "--force"]).expect(1);
    let refused = mongo.run(&["down"]).expect(5);
    assert!(refused.stderr.contains("half applied"), "{}", refused.stderr);
    mongo.down();
    assert_eq!(mongo.record(1).get_str("state").unwrap(), "reverted");
}

/// One step of each kind, killed at moments that differ each time, until it is done: the same as if nothing had happened.
#[test]
fn all_kinds_of_steps_killed_anywhere_end_like_an_undisturbed_run() {
    let up = r#"[
        { "command": { "create": "log" } },
        { "update": "c", "pipeline": [ { "$set": { "n": { "$add": ["$n", 1] } } } ], "batch": 15, "throttle": "5ms" },
        { "command": { "insert": "log", "documents": [ { "text": "once" } ] } },
        { "aggregate": "c", "pipeline": [ { "$match": { "n": { "$mod": [3, 0] } } }, { "$merge": { "into": "gone", "whenMatched": "replace" } } ],
          "batch": 15, "throttle": "5ms" },
        { "delete": "c", "listed_in": "gone", "batch": 5, "throttle": "5ms" },
        { "command": { "update": "log", "updates": [ { "q": {}, "u": { "$inc": { "times": 1 } }, "multi": true } ] } },
        { "update": "gone", "pipeline": [ { "$set": { "n": { "$multiply": ["$n", 2] } } } ], "batch": 5, "throttle": "5ms" },
        { "command": { "renameCollection": "gone", "to": "kept" } },
        { "command": { "createIndexes": "c", "indexes": [ { "key": { "n": 1 }, "name": "c_n", "unique": true } ] } },
        { "delete": "c", "filter": { "n": { "$mod": [2, 0] } }, "batch": 10, "throttle": "5ms" },
        { "command": { "drop": "log2" } } ]"#;
    let prepared = || {
        let mongo = numbered(300);
        mongo.v2.insert("log2", doc! {}).unwrap();
        mongo.evolution("0001_all", up, "[]");
        mongo
    };
    let result = |mongo: &Mongo| {
        let indexes: Vec<String> = mongo.v2.indexes("c").into_keys().collect();
        // The server gives the inserted document its id.
        (mongo.v2.digest(&["v1v2_evolutions", "v1v2_lock", "log._id"]), indexes)
    };
    let undisturbed = prepared();
    undisturbed.up();
    let mongo = prepared();
    // Steps that are done, and batches of the one that is under way.
    let written = || {
        let record = mongo.v2.find("v1v2_evolutions", doc! {}).pop().unwrap_or_default();
        let number = |field: &str| record.get(field).map_or(0, |of| of.to_string().parse::<u64>().unwrap());
        1_000 * number("done") + number("batches")
    };
    let amounts = [0, 1_002, 1_010, 2_000, 3_003, 3_010, 4_002, 6_004, 7_000, 9_004];
    let kills = mongo.project.kill_at(&["evolve", "up", "--force"], &amounts, written);
    mongo.up();
    assert!(kills >= 8, "killed {kills} times");
    assert_eq!(result(&mongo), result(&undisturbed));
    assert_eq!(mongo.v2.count("log", doc! { "times": 1 }), 1);
}
