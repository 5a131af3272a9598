//! A replica set in trouble while a step goes through a collection: each document is changed once all the same.

use mongodb::bson::{Document, doc};

use super::Mongo;
use super::batches::{BACK, TWICE_IS_WRONG, assert_each_once, batches, numbered_in};
use crate::support::{MongoDatabase, Mongod};

fn on(server: &Mongod, name: &str) -> Mongo {
    let mongo = numbered_in(Mongo::over(MongoDatabase::on(server, name)), 150);
    mongo.evolution("0001_add", TWICE_IS_WRONG, BACK);
    mongo
}

#[test]
fn a_server_that_answers_with_trouble() {
    let unknown =
        doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" };
    let unknown = doc! { "failCommands": ["commitTransaction"], "writeConcernError": unknown };
    let transient = |code: i32| doc! { "failCommands": ["update"], "errorCode": code, "errorLabels": ["TransientTransactionError"] };
    let troubles: Vec<(i32, Document)> = vec![
        (5, transient(251)),
        (9, transient(112)),
        (4, doc! { "failCommands": ["update"], "closeConnection": true }),
        (2, doc! { "failCommands": ["update"], "errorCode": 257 }),
        (3, doc! { "failCommands": ["commitTransaction"], "closeConnection": true }),
        // The commit takes place; what is lost is the word of the majority. First repeated, then never answered.
        (4, unknown.clone()),
        (9, unknown),
    ];
    let server = Mongod::replica_set(1);
    for (number, (times, mut trouble)) in troubles.into_iter().enumerate() {
        let mongo = on(&server, &format!("v2_{number}"));
        trouble.insert("appName", "v1v2");
        let mut running = mongo.project.spawn(&["evolve", "up", "--force"]);
        assert!(running.wait_until(|_| batches(&mongo) >= 2));
        server.fail_command(doc! { "times": times }, trouble.clone());
        let outcome = running.wait();
        server.fail_command(doc! {}, doc! {});
        assert_eq!(outcome.code(), Some(0), "{trouble}: {}", outcome.stderr);
        assert_each_once(&mongo, 150);
    }
}

#[test]
fn a_primary_that_dies() {
    let mut server = Mongod::replica_set(3);
    let mongo = on(&server, "v2");
    let mut running = mongo.project.spawn(&["evolve", "up", "--force"]);
    assert!(running.wait_until(|_| batches(&mongo) >= 3));
    let primary = server.wait_for_primary();
    server.kill(primary);
    running.wait().expect(0);
    assert_each_once(&mongo, 150);
}
