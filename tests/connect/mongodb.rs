//! Connections to MongoDB: what a URL may not weaken, and what is told when none comes about.

use std::process::Command;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use v1v2::connect::{self, MongoDb};
use v1v2::error::{Class, classify_mongodb, mongodb_duplicate};
use v1v2::settings::Settings;

use crate::support::mongod::SET;
use crate::support::{Database, MongoDatabase, Mongod, Project};

fn to(url: &str) -> Settings {
    Settings { v2_url: Some(url.into()), connect_timeout: Duration::from_secs(5), ..Settings::default() }
}

async fn open(url: &str) -> MongoDb {
    connect::mongodb(&to(url)).await.unwrap()
}

async fn refused(url: &str) -> v1v2::Error {
    let error = connect::mongodb(&to(url)).await.expect_err("no connection");
    assert!(!error.to_string().contains("CANARY") && !format!("{error:?}").contains("CANARY"), "{error}");
    error
}

/// The shared server's address with another user.
fn as_user(database: &MongoDatabase, user: &str) -> String {
    let url = database.url();
    let at = url.find('@').unwrap();
    format!("mongodb://{user}{}", &url[at..])
}

/// A client that is watched: the commands it sends.
async fn commands_of(url: &str) -> Vec<Document> {
    // The server's profiler tells what reached it, whoever sent it.
    let v2 = open(url).await;
    v2.database.run_command(doc! { "profile": 2 }).await.unwrap();
    v2.database.collection("c").insert_one(doc! { "n": 1 }).await.unwrap();
    v2.database.collection::<Document>("c").find_one(doc! {}).await.unwrap();
    let mut session = v2.client.start_session().await.unwrap();
    session.start_transaction().with_options(connect::transaction_options()).await.unwrap();
    let coll = v2.database.collection::<Document>("c");
    coll.insert_one(doc! { "n": 2 }).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    v2.database.run_command(doc! { "profile": 0 }).await.unwrap();
    let mut cursor = v2.database.collection::<Document>("system.profile").find(doc! {}).await.unwrap();
    let mut commands = Vec::new();
    while cursor.advance().await.unwrap() {
        let entry = cursor.deserialize_current().unwrap();
        assert_eq!(entry.get_str("appName").unwrap(), "v1v2");
        commands.push(entry.get_document("command").unwrap().clone());
    }
    commands
}

#[tokio::test]
async fn the_url_cannot_weaken_what_is_promised() {
    let database = MongoDatabase::new();
    let url = format!(
        "{}&w=1&journal=false&wtimeoutMS=1&readConcernLevel=local&readPreference=secondary&retryWrites=false",
        database.url()
    );
    let commands = commands_of(&url).await;
    let of = |name: &str, transaction: bool| {
        let is = |it: &&Document| it.contains_key(name) && it.contains_key("startTransaction") == transaction;
        commands.iter().find(is).unwrap_or_else(|| panic!("no {name} in {commands:?}"))
    };
    let insert = of("insert", false);
    let concern = insert.get_document("writeConcern").unwrap();
    assert_eq!(concern.get_str("w").unwrap(), "majority");
    assert!(!concern.contains_key("j"));
    assert!(insert.contains_key("txnNumber"), "the write can be repeated: {insert}");
    let find = of("find", false);
    assert_eq!(find.get_document("readConcern").unwrap().get_str("level").unwrap(), "majority");
    let inside = of("insert", true);
    assert_eq!(inside.get_document("readConcern").unwrap().get_str("level").unwrap(), "snapshot");
}

#[tokio::test]
async fn a_url_needs_a_database() {
    let error = refused("mongodb://me:CANARY@localhost:1/?authSource=admin").await;
    assert_eq!(error.exit_code(), 2);
    assert!(error.fix().unwrap().contains("27017/database"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_the_password() {
    let database = MongoDatabase::new();
    let started = Instant::now();
    let error = refused(&as_user(&database, "v1v2:CANARY")).await;
    assert_eq!(error.exit_code(), 1);
    assert!(error.message().contains("does not let the user of the URL in"), "{error}");
    assert!(error.message().contains("\"admin\""), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    // As people write it who forget where the user was made.
    let error = refused(&database.url().replace("&authSource=admin", "")).await;
    assert!(
        error.message().contains(database.name()) && error.fix().unwrap().contains("authSource"),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_and_a_user_without_rights() {
    let database = MongoDatabase::new();
    let url = database.url();
    let anonymous = format!("mongodb://{}", &url[url.find('@').unwrap() + 1..]);
    let error = refused(&anonymous.replace("&authSource=admin", "")).await;
    assert!(error.exit_code() == 1 && error.message().contains("the URL has none"), "{error}");

    let create = doc! { "createUser": "weak", "pwd": "CANARY", "roles": [] };
    database.run(create);
    let weak = as_user(&database, "weak:CANARY")
        .replace("authSource=admin", &format!("authSource={}", database.name()));
    let error = refused(&weak).await;
    assert!(error.exit_code() == 1 && error.fix().unwrap().contains("readWrite"), "{error}");
    database.run(doc! { "dropUser": "weak" });
}

#[tokio::test]
async fn nobody_listens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let started = Instant::now();
    let error = refused(&format!("mongodb://me:CANARY@127.0.0.1:{port}/school?replicaSet=rs0")).await;
    let said = format!("V2 (127.0.0.1:{port}/school) cannot be reached: nothing listens there");
    assert_eq!((error.message(), error.exit_code()), (said.as_str(), 1));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_unknown_host_is_named() {
    let error = refused("mongodb://me:CANARY@no-such-host.invalid/school?tls=false").await;
    assert!(error.message().contains("no-such-host.invalid is not known"), "{error}");
    let error = refused("mongodb+srv://me:CANARY@no-such-host.invalid/school").await;
    assert!(error.exit_code() == 1 && error.message().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let settings = Settings {
        connect_timeout: Duration::from_millis(500),
        ..to(&format!("mongodb://127.0.0.1:{port}/school"))
    };
    let started = Instant::now();
    let error = connect::mongodb(&settings).await.unwrap_err();
    assert!(error.message().contains("did not answer within 0.5 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_standalone_server_is_refused_with_the_way_out() {
    let server = Mongod::standalone();
    for url in [server.url("school"), format!("{}?replicaSet=rs0", server.url("school"))] {
        let error = refused(&url).await;
        assert_eq!(error.exit_code(), 5);
        assert!(error.message().contains("standalone"), "{error}");
        assert!(error.fix().unwrap().contains("--replSet") && error.fix().unwrap().contains("rs.initiate()"));
    }
}

#[tokio::test]
async fn a_set_that_is_not_there_yet_and_one_of_another_name() {
    let waiting = Mongod::uninitiated();
    for url in [waiting.url("school"), format!("{}?replicaSet={SET}", waiting.url("school"))] {
        let error = refused(&url).await;
        assert!(error.exit_code() == 5 && error.fix().unwrap().contains("rs.initiate()"), "{error}");
    }
    let other = MongoDatabase::new().url().replace("replicaSet=v1v2", "replicaSet=other");
    let error = refused(&other).await;
    assert!(error.exit_code() == 2 && error.message().contains("not to \"other\""), "{error}");
}

#[tokio::test]
async fn a_replica_set_of_three_is_found_from_one_member_and_survives_its_primary() {
    let mut servers = Mongod::replica_set(3);
    let one = format!("mongodb://127.0.0.1:{}/school?replicaSet={SET}", servers.port(2));
    let v2 = open(&one).await;
    assert_eq!(v2.replica_set.as_deref(), Some(SET));
    let collection = v2.database.collection::<Document>("c");
    collection.insert_one(doc! { "_id": 1 }).await.unwrap();
    servers.step_down(30);
    collection.insert_one(doc! { "_id": 2 }).await.unwrap();
    let primary = servers.wait_for_primary();
    servers.kill(primary);
    collection.insert_one(doc! { "_id": 3 }).await.unwrap();
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 3);

    // One of two that are left is no majority, so there is no primary.
    let other = (0..3).find(|member| *member != primary).unwrap();
    servers.kill(other);
    let last = (0..3).find(|member| ![primary, other].contains(member)).unwrap();
    let direct = format!("mongodb://127.0.0.1:{}/school?directConnection=true", servers.port(last));
    let deadline = Instant::now() + Duration::from_secs(20);
    while servers.primary().is_some() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let error = refused(&direct).await;
    assert!(error.exit_code() == 5 && error.message().contains("not the primary"), "{error}");
    let error = refused(&servers.url("school")).await;
    assert!(error.exit_code() == 1 && error.message().contains("no member"), "{error}");
}

#[tokio::test]
async fn errors_are_sorted_and_told_without_values() {
    let database = MongoDatabase::new();
    let v2 = open(database.url()).await;
    let place = v2.place.to_string();
    let collection = v2.database.collection::<Document>("people");
    database.run(doc! { "create": "people", "validator": { "$jsonSchema": { "required": ["email"] } } });
    let index = doc! { "name": "people_email_key", "key": { "email": 1 }, "unique": true };
    database.run(doc! { "createIndexes": "people", "indexes": [index] });
    collection.insert_one(doc! { "email": "CANARY" }).await.unwrap();

    let twice = collection.insert_one(doc! { "email": "CANARY" }).await.unwrap_err();
    let many = collection.insert_many([doc! { "email": "x" }, doc! { "email": "CANARY" }]).await.unwrap_err();
    let invalid = collection.insert_one(doc! { "name": "CANARY" }).await.unwrap_err();
    for error in [&twice, &many, &invalid] {
        assert_eq!(classify_mongodb(error), Class::Row);
        let said = v1v2::Error::mongodb(&place, error);
        assert!(!format!("{said:?}").contains("CANARY"), "{said}");
    }
    for error in [&twice, &many] {
        let duplicate = mongodb_duplicate(error).unwrap();
        assert_eq!((duplicate.collection.as_str(), duplicate.index.as_str()), ("people", "people_email_key"));
    }

    // Two transactions that want one document: the second is told to try again.
    let (mut one, mut two) =
        (v2.client.start_session().await.unwrap(), v2.client.start_session().await.unwrap());
    for session in [&mut one, &mut two] {
        session.start_transaction().with_options(connect::transaction_options()).await.unwrap();
    }
    let set = doc! { "$set": { "n": 1 } };
    collection.update_one(doc! { "email": "x" }, set.clone()).session(&mut one).await.unwrap();
    let conflict = collection.update_one(doc! { "email": "x" }, set).session(&mut two).await.unwrap_err();
    assert_eq!(classify_mongodb(&conflict), Class::Transient);
    one.abort_transaction().await.unwrap();
}

#[tokio::test]
async fn labels_of_a_failing_commit_and_a_lost_primary() {
    let server = Mongod::replica_set(1);
    let v2 = open(&server.url("school")).await;
    let collection = v2.database.collection::<Document>("c");
    let mut session = v2.client.start_session().await.unwrap();
    session.start_transaction().with_options(connect::transaction_options()).await.unwrap();
    collection.insert_one(doc! { "_id": 1 }).session(&mut session).await.unwrap();
    // The driver itself repeats a commit once.
    let data = doc! { "failCommands": ["commitTransaction"], "closeConnection": true };
    server.fail_command(doc! { "times": 2 }, data);
    let lost = session.commit_transaction().await.unwrap_err();
    assert!(lost.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT), "{lost:?}");
    assert_eq!(classify_mongodb(&lost), Class::Transient);
    session.commit_transaction().await.unwrap();
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 1);
}

/// A certificate authority and a server's certificate for `localhost`, by the openssl program.
fn certificates(folder: &std::path::Path) -> (String, String) {
    let script = "set -e
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem \
            -addext basicConstraints=critical,CA:TRUE
        openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost\\n' > names
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt
        cat server.key server.crt > server.pem";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = |name: &str| folder.join(name).display().to_string();
    (path("ca.pem"), path("server.pem"))
}

#[tokio::test]
async fn tls_is_verified_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, server) = certificates(folder.path());
    let mode = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", &server];
    let server = Mongod::standalone_with(&mode);
    let url = |parameters: &str| format!("mongodb://localhost:{}/school?{parameters}", server.port(0));

    // It is refused for what it is: so the connection itself was fine.
    let error = refused(&url(&format!("tls=true&tlsCAFile={authority}"))).await;
    assert!(error.message().contains("standalone"), "{error}");
    let error = refused(&url("tls=true")).await;
    assert!(error.message().contains("certificate is not trusted"), "{error}");
    assert!(error.fix().unwrap().contains("tlsCAFile"), "{error}");
    let error = refused(&url("")).await;
    assert!(error.exit_code() == 1 && error.fix().unwrap().contains("tls=true"), "{error}");
    let error = refused(&url("tls=true&tlsCAFile=/no/such/file")).await;
    assert!(error.exit_code() == 2 && error.fix().unwrap().contains("tlsCAFile"), "{error}");

    let plain = refused(&format!("{}&tls=true", MongoDatabase::new().url())).await;
    assert!(plain.exit_code() == 1 && plain.to_string().contains("not speak TLS"), "{plain}");
}

#[test]
fn the_program_says_the_same_and_no_secret() {
    let v1 = Database::v1();
    let database = MongoDatabase::new();
    let url = as_user(&database, "v1v2:CANARY");
    let project = Project::into_mongodb(&v1, &database).env("V2_DATABASE_URL", &url);
    for arguments in [["setup", "--verbose"], ["setup", "--json"]] {
        let outcome = project.run(&arguments).expect(1);
        assert!(
            !outcome.stdout.contains("CANARY") && !outcome.stderr.contains("CANARY"),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains("does not let the user"), "{}", outcome.stderr);
    }
    let several = Project::new().env("V2_DATABASE_URL", "mongodb://me:CANARY@127.0.0.1:1,127.0.0.1:2/school");
    let outcome = several.run(&["setup"]).expect(1);
    assert!(outcome.stderr.contains("127.0.0.1:1 and 1 more/school"), "{}", outcome.stderr);
}
