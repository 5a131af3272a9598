//! The support is what all other tests believe, so it is tested as well.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::Command;

use mongodb::bson::doc;

use crate::support::servers::Server;
use crate::support::{Database, Digest, MongoDatabase, Mongod, Outcome, Project, Running};

fn databases(server: Server) -> Vec<String> {
    // Through a database of its own: the maintenance database is not for tests to write to.
    let on = if server == Server::V1 { Database::v1() } else { Database::v2() };
    on.rows("select datname from pg_database").into_iter().map(|mut row| row[0].take().unwrap()).collect()
}

#[test]
fn a_database_per_test_is_empty_and_goes_away() {
    for (server, database) in [(Server::V1, Database::v1()), (Server::V2, Database::v2())] {
        let name = database.name().to_owned();
        assert_eq!(database.one("select current_database()"), name);
        assert_eq!(
            database.one("select count(*) from information_schema.tables where table_schema = 'public'"),
            "0"
        );
        assert!(databases(server).contains(&name));
        drop(database);
        assert!(!databases(server).contains(&name));
    }
}

#[test]
fn two_databases_have_two_names() {
    let (a, b) = (Database::v1(), Database::v1());
    assert_ne!(a.name(), b.name());
    a.execute("create table t (n int)");
    assert_eq!(b.one("select to_regclass('t') is null"), "t");
}

#[tokio::test]
async fn a_database_works_inside_a_runtime_too() {
    let database = Database::v2();
    assert_eq!(database.one("select 1"), "1");
}

#[test]
fn the_database_of_a_dead_process_is_dropped() {
    // A process that has ended, and a database as it would have left it behind.
    let mut child = Command::new("true").spawn().unwrap();
    let dead = child.id();
    child.wait().unwrap();
    let database = Database::v1();
    let mine = format!("_{}_", std::process::id());
    let left = database.name().replace(&mine, &format!("_{dead}_"));
    database.execute(&format!("create database {left}"));

    // Leftovers are looked for once per process, so another process has to look: this very test binary.
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "support_works::two_databases_have_two_names"])
        .env("V1V2_TEST_V1_URL", Server::V1.url())
        .env("V1V2_TEST_V2_URL", Server::V2.url())
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    let names = databases(Server::V1);
    assert!(!names.contains(&left), "the dead process's database is still there");
    assert!(names.contains(&database.name().to_owned()), "the database of a living process was dropped");
}

#[test]
fn values_come_as_the_servers_text() {
    let database = Database::v1();
    let rows = database.rows("select 1, null, 'a', 'infinity'::timestamp, array[1, 2], 'NaN'::numeric union all select 2, '', '', null, null, null");
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(rows[0], [text("1"), None, text("a"), text("infinity"), text("{1,2}"), text("NaN")]);
    assert_eq!(rows[1], [text("2"), text(""), text(""), None, None, None]);
}

#[test]
fn digests_see_values_and_not_order() {
    let fill = |rows: &str| -> Digest {
        let database = Database::v2();
        database.execute(
            "create table \"Person\" (id int primary key, \"Name\" text, made timestamptz default clock_timestamp());
             create table empty ();
             create schema other; create table other.t (n int)",
        );
        database.execute(&format!("insert into \"Person\" (id, \"Name\") values {rows}"));
        database.digest(&["public"], &["public.Person.made"])
    };
    let one = fill("(1, 'a'), (2, null)");
    assert_eq!(one, fill("(2, null), (1, 'a')"));
    assert_ne!(one, fill("(1, 'a'), (2, '')"));
    assert_ne!(one, fill("(1, 'a'), (2, null), (3, null)"));
    let counts: BTreeMap<&str, u64> =
        one.iter().map(|(table, content)| (table.as_str(), content.rows)).collect();
    assert_eq!(counts, BTreeMap::from([("public.Person", 2), ("public.empty", 0)]));
}

#[test]
fn both_servers_demand_the_password() {
    for server in [Server::V1, Server::V2] {
        let (start, rest) = server.url().rsplit_once(':').unwrap().0.rsplit_once(':').map_or_else(
            || panic!("a URL without a password"),
            |(start, rest)| (start, rest.split_once('@').unwrap().1),
        );
        let port = server.url().rsplit_once(':').unwrap().1;
        let wrong = format!("{start}:wrong@{rest}:{port}");
        let result = tokio::runtime::Runtime::new().unwrap().block_on(async {
            use sqlx::Connection as _;
            sqlx::PgConnection::connect(&wrong).await.map(drop)
        });
        let error = result.expect_err("the server let a wrong password in");
        let sqlx::Error::Database(error) = error else { panic!("no answer from the server") };
        assert_eq!(error.code().as_deref(), Some("28P01"));
    }
}

#[test]
fn mongodb_is_a_replica_set_that_demands_a_password() {
    let url = Server::MongoDb.url();
    assert!(url.contains("replicaSet=v1v2"), "the URL must name the replica set");
    let address = url.split_once('@').unwrap().1.split_once('/').unwrap().0;
    // {listDatabases: 1, $db: "admin"} as BSON: without a password, the server must refuse it.
    let mut body = b"\0\0\0\0\0\x10listDatabases\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0".to_vec();
    let size = i32::try_from(body.len() - 5 + 4).unwrap();
    body.splice(5..5, size.to_le_bytes());
    let mut message = Vec::new();
    for number in [i32::try_from(body.len() + 16).unwrap(), 1, 0, 2013] {
        message.extend_from_slice(&number.to_le_bytes());
    }
    message.extend_from_slice(&body);
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    connection.write_all(&message).unwrap();
    let mut reply = [0; 4096];
    let size = connection.read(&mut reply).unwrap();
    let reply = String::from_utf8_lossy(&reply[..size]).into_owned();
    assert!(reply.contains("Unauthorized"), "an answer without a password: {reply:?}");
}

#[test]
fn the_program_starts_in_a_clean_folder() {
    let project = Project::new().env("V1V2_BATCH_SIZE", "10");
    let outcome: Outcome = project.run(&["--version"]).expect(0);
    assert!(outcome.signal().is_none());
    let with_input = project.run_with_input(&["--version"], "nobody reads this\n");
    assert_eq!(with_input.code(), Some(0));
    assert_eq!(std::fs::read_dir(project.path()).unwrap().count(), 0, "--version left a file behind");
}

#[test]
fn a_project_keeps_files_between_commands_and_knows_its_databases() {
    let (v1, v2) = (Database::v1(), Database::v2());
    v1.execute("create table \"Person\" (id int); insert into \"Person\" values (1), (2)");
    assert_eq!(v1.count("\"Person\""), 2);
    assert!(v1.url().ends_with(v1.name()) && v2.url().ends_with(v2.name()));
    let project = Project::between(&v1, &v2);
    project.write("migrators/people.toml", "entity = \"people\"");
    let took = project.run(&["--version"]).expect(0).took;
    assert!(took < std::time::Duration::from_secs(120));
    assert_eq!(project.read("migrators/people.toml"), "entity = \"people\"");
}

#[test]
fn the_program_can_be_signalled() {
    let project = Project::new();
    let mut running: Running = project.spawn(&["--version"]).timeout(std::time::Duration::from_secs(30));
    running.wait_until(|running| !running.stdout().is_empty());
    // It may be quicker than we are: either the signal ends it, or it has ended well.
    let sent = running.signal("KILL");
    let outcome = running.wait();
    assert!(outcome.code() == Some(0) || (sent && outcome.signal() == Some(9)), "{outcome:?}");
}

#[test]
fn a_mongodb_database_per_test_is_empty_and_goes_away() {
    let (a, b) = (MongoDatabase::new(), MongoDatabase::new());
    assert!(a.name() != b.name() && a.url().contains(&format!("/{}?", a.name())), "{}", a.name());
    a.insert("c", doc! { "_id": 1 }).unwrap();
    assert_eq!((a.collections(), b.collections()), (vec!["c".to_owned()], Vec::new()));
    let name = a.name().to_owned();
    drop(a);
    assert!(!b.databases().contains(&name));
}

#[test]
fn digests_of_mongodb_see_values_and_types_and_not_the_order_of_fields() {
    let (a, b) = (MongoDatabase::new(), MongoDatabase::new());
    a.insert("c", doc! { "_id": 1, "x": 1, "in": [{ "at": 5, "y": 2 }] }).unwrap();
    b.insert("c", doc! { "in": [{ "y": 2, "at": 6 }], "x": 1, "_id": 1 }).unwrap();
    assert_ne!(a.digest(&[]), b.digest(&[]));
    assert_eq!(a.digest(&["c.in.at"]), b.digest(&["c.in.at"]));
    assert_eq!(a.digest(&["*.in"]), b.digest(&["*.in"]));
    b.run(doc! { "update": "c", "updates": [{ "q": {}, "u": { "$set": { "x": 1_i64 } } }] });
    assert_ne!(a.digest(&["*.in"]), b.digest(&["*.in"]), "a long is no int");
    b.insert("d", doc! {}).unwrap();
    assert!(b.digest(&["d"]).keys().eq(["c"].iter()));
}

#[test]
fn a_throw_away_replica_set_keeps_its_data_over_a_kill() {
    let mut servers = Mongod::replica_set(1);
    servers.run_on(
        0,
        doc! { "insert": "c", "documents": [{ "_id": 1 }], "writeConcern": { "w": "majority", "j": true } },
    );
    servers.kill(0);
    assert_eq!(servers.primary(), None);
    servers.restart(0);
    servers.wait_for_primary();
    assert_eq!(servers.run_on(0, doc! { "count": "c" }).get_i32("n").unwrap(), 1);
}
