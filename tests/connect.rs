//! Connections against real servers: here Postgres, below MongoDB.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod mongodb;

use std::time::{Duration, Instant};

use sqlx::{Connection, Row, postgres::PgConnection};
use url::Url;
use v1v2::connect::{self, Side};
use v1v2::settings::Settings;

use crate::support::servers::Server;

fn server() -> Url {
    Url::parse(Server::V1.url()).unwrap()
}

fn to(url: &Url) -> Settings {
    let url = url.to_string();
    Settings { v1_url: Some(url.clone().into()), v2_url: Some(url.into()), ..Settings::default() }
}

async fn refused(url: &Url) -> v1v2::Error {
    connect::postgres(Side::V1, &to(url)).await.expect_err("no connection")
}

async fn show(connection: &mut PgConnection, name: &str) -> String {
    sqlx::query("select current_setting($1)").bind(name).fetch_one(connection).await.unwrap().get(0)
}

#[tokio::test]
async fn the_session_is_pinned_whatever_the_role_prefers() {
    let mut admin = connect::postgres(Side::V1, &to(&server())).await.unwrap();
    let role = format!("pinned_{}", uuid::Uuid::now_v7().simple());
    let sql = format!(
        "create role {role} login superuser password 'p@ss:/?#'; \
         alter role {role} set datestyle = 'German'; alter role {role} set timezone = 'Asia/Tokyo'; \
         alter role {role} set bytea_output = 'escape'; alter role {role} set intervalstyle = 'iso_8601'; \
         alter role {role} set extra_float_digits = -5; alter role {role} set standard_conforming_strings = off"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();

    let mut url = server();
    url.set_username(&role).unwrap();
    url.set_password(Some("p@ss:/?#")).unwrap();
    let mut connection = connect::postgres(Side::V1, &to(&url)).await.unwrap();
    for (name, value) in [
        ("DateStyle", "ISO, YMD"),
        ("TimeZone", "UTC"),
        ("bytea_output", "hex"),
        ("IntervalStyle", "postgres"),
        ("extra_float_digits", "3"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("application_name", "v1v2"),
        ("statement_timeout", "0"),
        ("lock_timeout", "30s"),
        ("row_security", "off"),
    ] {
        assert_eq!(show(&mut connection, name).await, value, "{name}");
    }
    let mut target = connect::another(Side::V2, &to(&url)).await.unwrap();
    assert_eq!(show(&mut target, "row_security").await, "on");
    connection.close().await.unwrap();
    target.close().await.unwrap();
    let sql = format!("drop role {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let mut url = server();
    url.set_path("/no_such_database");
    let error = refused(&url).await;
    assert_eq!(error.exit_code(), 1);
    assert!(error.message().contains("no database \"no_such_database\""), "{error}");
    assert!(error.fix().unwrap().contains("V1_DATABASE_URL"));
}

#[tokio::test]
async fn a_wrong_password_is_told_without_the_password() {
    let mut admin = connect::postgres(Side::V1, &to(&server())).await.unwrap();
    // A role that must not log in is turned away like a wrong password, also where pg_hba.conf trusts everybody.
    let role = format!("nologin_{}", uuid::Uuid::now_v7().simple());
    let sql = format!("create role {role} nologin");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
    let mut url = server();
    url.set_username(&role).unwrap();
    url.set_password(Some("CANARY")).unwrap();
    let error = refused(&url).await;
    assert!(error.exit_code() == 1 && error.message().contains("does not let user"), "{error}");
    assert!(!error.to_string().contains("CANARY") && !format!("{error:?}").contains("CANARY"));
    let sql = format!("drop role {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
}

#[tokio::test]
async fn nobody_listens() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let error = refused(&Url::parse(&format!("postgres://me:CANARY@127.0.0.1:{port}/school")).unwrap()).await;
    assert_eq!(
        error.message(),
        format!("V1 (127.0.0.1:{port}/school) cannot be reached: nothing listens there")
    );
}

#[tokio::test]
async fn an_unknown_host_is_named() {
    let error = refused(&Url::parse("postgres://me:CANARY@no-such-host.invalid/school").unwrap()).await;
    assert!(error.message().contains("no-such-host.invalid is not known"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = Url::parse(&format!("postgres://me@127.0.0.1:{port}/school")).unwrap();
    let settings = Settings { connect_timeout: Duration::from_millis(300), ..to(&url) };
    let started = Instant::now();
    let error = connect::postgres(Side::V1, &settings).await.err().unwrap();
    assert!(error.message().contains("did not answer within 0.3 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn tls_that_was_demanded_and_is_not_there_is_an_error() {
    let mut url = server();
    url.query_pairs_mut().append_pair("sslmode", "verify-full");
    let error = refused(&url).await;
    assert!(error.exit_code() == 1 && error.fix().unwrap().contains("sslrootcert"), "{error}");
}

#[tokio::test]
async fn the_source_may_not_be_the_target() {
    let settings = to(&server());
    let (v1, v2) =
        (connect::place(Side::V1, &settings).unwrap(), connect::place(Side::V2, &settings).unwrap());
    let mut one = connect::postgres(Side::V1, &settings).await.unwrap();
    let mut same = connect::postgres(Side::V2, &settings).await.unwrap();
    let error = connect::same_database((&v1, &mut one), (&v2, &mut same)).await.unwrap_err();
    assert_eq!(error.exit_code(), 5);

    let mut url = server();
    url.set_path("/template1");
    let other = to(&url);
    let place = connect::place(Side::V2, &other).unwrap();
    let mut template = connect::another(Side::V2, &other).await.unwrap();
    connect::same_database((&v1, &mut one), (&place, &mut template)).await.unwrap();

    let here = connect::identity(&v1, &mut one).await.unwrap();
    assert!(here.system.is_some_and(|system| system.len() > 10));
}
