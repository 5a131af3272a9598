//! The generator of the example V1, judged by what the database holds afterwards.
//!
//! Each test makes a database of its own and drops it.

// Clippy's leave for tests does not reach the functions that tests share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::servers::Server;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use v1v2::error::Kind;
use v1v2::sample::{SampleOptions, SampleSummary, generate};

/// A database of one test.
struct Database {
    server: PgConnection,
    name: String,
    conn: PgConnection,
}

impl Database {
    async fn create(name: &str) -> Self {
        let url = Server::V1.url();
        let options: PgConnectOptions = url.parse().unwrap();
        let name = format!("sample_{name}_{}", std::process::id());
        let mut server = PgConnection::connect_with(&options).await.unwrap();
        let create = format!("create database {name} encoding 'UTF8' template template0");
        server.execute(AssertSqlSafe(create)).await.unwrap();
        let conn = PgConnection::connect_with(&options.database(&name)).await.unwrap();
        Self { server, name, conn }
    }

    async fn drop(mut self) {
        self.conn.close().await.unwrap();
        self.server.execute(AssertSqlSafe(format!("drop database {}", self.name))).await.unwrap();
    }

    async fn fill(&mut self, people: u64, seed: u64, orphans: bool) -> SampleSummary {
        let options = SampleOptions { people, seed, orphans };
        let mut last = 0;
        let summary = generate(&mut self.conn, &options, &mut |people| {
            assert!(people >= last, "progress went back");
            last = people;
        })
        .await
        .unwrap();
        assert_eq!(last, people);
        summary
    }

    async fn count(&mut self, sql: &str) -> u64 {
        let count: i64 =
            sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.conn).await.unwrap();
        u64::try_from(count).unwrap()
    }

    /// All rows of all tables, in the order in which they lie in the table.
    async fn digest(&mut self) -> String {
        let mut parts = String::new();
        for table in TABLES {
            let sql = format!(
                r#"select coalesce(md5(string_agg(t::text, E'\n' order by ctid)), '-') from "{table}" t"#
            );
            let part: String =
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.conn).await.unwrap();
            parts.push_str(&part);
        }
        parts
    }
}

const TABLES: [&str; 7] =
    ["School", "Subject", "Teacher", "Parent", "Student", "_SubjectToTeacher", "_ParentToStudent"];

/// Emails of all people, normalised as far as case and spaces go.
const EMAILS: &str = r#"(
    select lower(btrim(email, E' \t')) as email, name, 'teacher' as kind from "Teacher"
    union all select lower(btrim(email, E' \t')), name, 'parent' from "Parent"
    union all select lower(btrim(email, E' \t')), name, 'student' from "Student") people"#;

const ORPHANS: [&str; 3] = [
    r#"select count(*) from "Teacher" t where not exists (select from "School" s where s.id = t."schoolId")"#,
    r#"select count(*) from "Student" t where not exists (select from "School" s where s.id = t."schoolId")"#,
    r#"select count(*) from "_ParentToStudent" l where not exists (select from "Parent" p where p.id = l."A")"#,
];

#[tokio::test]
async fn the_same_seed_gives_the_same_database() {
    let mut digests = Vec::new();
    for (name, people, seed) in [("one", 3000, 7), ("two", 3000, 7), ("other", 3000, 8)] {
        let mut database = Database::create(&format!("same_{name}")).await;
        database.fill(people, seed, false).await;
        digests.push(database.digest().await);
        database.drop().await;
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
}

#[tokio::test]
async fn the_mess_is_as_large_as_promised() {
    let mut database = Database::create("mess").await;
    let summary = database.fill(20_000, 1, false).await;

    for (table, expected) in TABLES.iter().zip([
        summary.schools,
        summary.subjects,
        summary.teachers,
        summary.parents,
        summary.students,
        summary.teacher_subjects,
        summary.guardianships,
    ]) {
        assert_eq!(database.count(&format!(r#"select count(*) from "{table}""#)).await, expected, "{table}");
    }
    assert_eq!((summary.teachers, summary.parents, summary.students), (1200, 7600, 11_200));

    let missing = format!("select count(*) from {EMAILS} where coalesce(email, '') in ('', 'n/a')");
    assert_eq!(database.count(&missing).await, summary.missing_emails);
    assert!((1800..=2200).contains(&summary.missing_emails), "{summary:?}");

    let present = format!("from {EMAILS} where coalesce(email, '') not in ('', 'n/a')");
    let duplicates = format!("select count(email) - count(distinct email) {present}");
    assert_eq!(database.count(&duplicates).await, summary.duplicate_emails);
    assert!((500..=700).contains(&summary.duplicate_emails), "{summary:?}");
    for kind in ["teacher", "parent", "student"] {
        let inside = format!("select count(email) - count(distinct email) {present} and kind = '{kind}'");
        assert!(database.count(&inside).await > 0, "no duplicates among {kind}s");
    }
    let variants = r#"select count(*) from "Parent" where email <> lower(btrim(email))"#;
    assert!(database.count(variants).await > 100);

    let both = format!(
        "select count(*) from (select email {present} and kind <> 'student' group by email
                               having count(distinct kind) = 2) both_kinds"
    );
    assert_eq!(database.count(&both).await, summary.teachers_who_are_parents);
    assert_eq!(summary.teachers_who_are_parents, 100);

    let admins = r#"select count(*) from "School" s join "Teacher" t
        on t."schoolId" = s.id and lower(btrim(t.email)) = lower(btrim(s."adminEmail", E' \t'))"#;
    assert!(database.count(admins).await >= summary.admins_who_teach);
    assert!(summary.admins_who_teach > 0);

    for awkward in [r"E'\t'", r"E'\n'", r"E'\\N'", "'script'", "'🎓'"] {
        let found = format!(
            r#"select count(*) from (select occupation as text from "Parent" union all select address from "Parent"
               union all select "className" from "Student") free where strpos(text, {awkward}) > 0"#
        );
        assert!(database.count(&found).await > 0, "{awkward}");
    }

    let guardians = r#"select max(links) from (select count(l."A") as links from "Student" s
        left join "_ParentToStudent" l on l."B" = s.id group by s.id) per_student"#;
    assert_eq!(database.count(guardians).await, 3);
    let without = r#"select count(*) from "Student" s
        where not exists (select from "_ParentToStudent" l where l."B" = s.id)"#;
    assert!((200..=1200).contains(&database.count(without).await));
    assert!(summary.shared_phones > 4000, "{summary:?}");

    let bcrypt = r#"select count(*) from "Teacher" where password !~ '^\$2[ab]\$10\$[./A-Za-z0-9]{53}$'"#;
    assert_eq!(database.count(bcrypt).await, 0);
    let years = r#"select count(*) from "Student"
        where "gradeLevel" !~* '^(grade|year|yr|y|primary|pry|p|jss|j\.s\.s\.|sss|ss|g)? *[0-9]+$'"#;
    assert_eq!(database.count(years).await, 0);
    database.drop().await;
}

#[tokio::test]
async fn orphans_come_only_when_asked_for() {
    let mut whole = Database::create("whole").await;
    let summary = whole.fill(1000, 3, false).await;
    assert_eq!((summary.orphan_teachers, summary.orphan_students, summary.orphan_guardianships), (0, 0, 0));
    for orphans in ORPHANS {
        assert_eq!(whole.count(orphans).await, 0);
    }
    let foreign_keys = "select count(*) from pg_constraint where contype = 'f' and convalidated";
    assert_eq!(whole.count(foreign_keys).await, 7);
    whole.drop().await;

    let mut broken = Database::create("broken").await;
    let summary = broken.fill(1000, 3, true).await;
    let reported = [summary.orphan_teachers, summary.orphan_students, summary.orphan_guardianships];
    for (orphans, expected) in ORPHANS.iter().zip(reported) {
        assert!(expected > 0, "{summary:?}");
        assert_eq!(broken.count(orphans).await, expected);
    }
    assert_eq!(broken.count(foreign_keys).await, 4);
    broken.drop().await;
}

#[tokio::test]
async fn a_handful_of_people_works() {
    for people in [1, 2, 10, 17] {
        for orphans in [false, true] {
            let mut database = Database::create(&format!("tiny_{people}_{orphans}")).await;
            let summary = database.fill(people, 5, orphans).await;
            assert_eq!(summary.schools, 1);
            assert_eq!(summary.teachers + summary.parents + summary.students, people);
            database.drop().await;
        }
    }
}

#[tokio::test]
async fn a_database_that_is_not_empty_is_refused_and_left_alone() {
    for (name, object, said) in [
        ("table", "create table customers (id int)", "table customers"),
        ("view", "create schema old; create view old.report as select 1 as one", "view old.report"),
        ("sequence", "create sequence invoice_numbers", "sequence invoice_numbers"),
        ("type", r#"create type "Sex" as enum ('F', 'M')"#, r#"type "Sex""#),
    ] {
        let mut database = Database::create(&format!("refused_{name}")).await;
        database.conn.execute(object).await.unwrap();
        let relations = "select count(*) from pg_class";
        let before = database.count(relations).await;

        let options = SampleOptions { people: 10, seed: 1, orphans: false };
        let error = generate(&mut database.conn, &options, &mut |_| {}).await.unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (Kind::Refused, 5), "{name}");
        assert!(error.message().contains(said), "{error}");
        assert!(error.fix().is_some());
        // On the same connection: the refusal must have ended its transaction.
        assert_eq!(database.count(relations).await, before, "{name}");
        database.drop().await;
    }
}

#[tokio::test]
async fn a_second_sample_is_refused_and_the_first_one_kept() {
    let mut database = Database::create("twice").await;
    database.fill(50, 1, false).await;
    let before = database.digest().await;
    let options = SampleOptions { people: 50, seed: 2, orphans: false };
    let error = generate(&mut database.conn, &options, &mut |_| {}).await.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert_eq!(database.digest().await, before);
    database.drop().await;
}

#[tokio::test]
async fn a_failure_half_way_leaves_the_database_empty() {
    let mut database = Database::create("half_way").await;
    // The server cancels what takes longer: 300,000 people do.
    database.conn.execute("set statement_timeout = '150ms'").await.unwrap();
    let options = SampleOptions { people: 300_000, seed: 1, orphans: false };
    let error = generate(&mut database.conn, &options, &mut |_| {}).await.unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");

    let url = Server::V1.url();
    let options: PgConnectOptions = url.parse().unwrap();
    let fresh = PgConnection::connect_with(&options.database(&database.name)).await.unwrap();
    let broken = std::mem::replace(&mut database.conn, fresh);
    drop(broken);
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    assert_eq!(database.count(tables).await, 0);
    database.drop().await;
}

#[tokio::test]
async fn sizes_that_make_no_sense_are_a_usage_error() {
    let mut database = Database::create("sizes").await;
    for people in [0, v1v2::sample::MOST_PEOPLE + 1] {
        let options = SampleOptions { people, seed: 1, orphans: false };
        let error = generate(&mut database.conn, &options, &mut |_| {}).await.unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
    database.drop().await;
}
