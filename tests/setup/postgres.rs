//! `setup` on a real Postgres. Every test makes a database of its own, and asserts on what is in it.

use std::fs;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use v1v2::setup::{SetupFiles, SetupSummary, apply, what_clean_removes};

use super::{EMBEDDED, embedded, folder, load, said};
use crate::support::servers::Server;

/// A database that goes when the test ends well; one that failed is left to be looked at.
struct Database {
    server: String,
    name: String,
    conn: PgConnection,
}

impl Database {
    async fn new() -> Self {
        let server = Server::V2.url().to_owned();
        let name = format!("setup_{}", uuid::Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(&server).await.unwrap();
        admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
        admin.close().await.unwrap();
        let conn = Self::connect(&server, &name).await;
        Self { server, name, conn }
    }

    async fn connect(server: &str, name: &str) -> PgConnection {
        let options: sqlx::postgres::PgConnectOptions = server.parse().unwrap();
        PgConnection::connect_with(&options.database(name)).await.unwrap()
    }

    async fn drop(self) {
        self.conn.close().await.unwrap();
        let mut admin = PgConnection::connect(&self.server).await.unwrap();
        admin.execute(AssertSqlSafe(format!("drop database {}", self.name))).await.unwrap();
        admin.close().await.unwrap();
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.conn).await.unwrap();
    }

    async fn setup(&mut self) -> SetupSummary {
        apply(&mut self.conn, &SetupFiles::embedded(), false).await.unwrap()
    }

    async fn number(&mut self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.conn).await.unwrap()
    }

    async fn text(&mut self, sql: &str) -> String {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.conn).await.unwrap()
    }

    /// Every table, view and type outside the system's schemas.
    async fn things(&mut self) -> Vec<String> {
        let sql = "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where n.nspname !~ '^(pg_|information_schema)' and c.relkind in ('r', 'v')
                   union all
                   select n.nspname || '.' || t.typname from pg_type t join pg_namespace n on n.oid = t.typnamespace
                   where n.nspname !~ '^(pg_|information_schema)' and t.typtype = 'e'
                   union all
                   select nspname from pg_namespace where nspname !~ '^(pg_|information_schema)'
                   order by 1";
        sqlx::query_scalar(sql).fetch_all(&mut self.conn).await.unwrap()
    }

    /// Every row of every table, with the transactions that wrote and touched it.
    async fn fingerprint(&mut self) -> Vec<String> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'v1v2') order by 1",
        )
        .fetch_all(&mut self.conn)
        .await
        .unwrap();
        let mut rows = Vec::new();
        for table in tables {
            let sql = format!(
                "select '{table} ' || xmin || ' ' || xmax || ' ' || t::text from {table} t order by 1"
            );
            for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut self.conn).await.unwrap() {
                rows.push(row.get::<String, _>(0));
            }
        }
        rows
    }
}

#[tokio::test]
async fn an_empty_database_gets_everything() {
    let mut db = Database::new().await;
    let summary = db.setup().await;
    assert!(summary.changed());
    assert_eq!(summary.created.len(), 20);
    assert_eq!(summary.schema, "public");
    assert_eq!(summary.database, db.name);

    for (table, rows) in [("UserType", 5), ("Role", 12), ("GradeSystem", 7), ("Curriculum", 8)] {
        assert_eq!(db.number(&format!("select count(*) from \"{table}\"")).await, rows, "{table}");
    }
    assert_eq!(
        db.number("select count(*) from \"RolePermission\" rp join \"Role\" r on r.id = rp.\"roleId\" where r.code = 'SUPER_ADMIN'").await,
        db.number("select count(*) from \"Permission\"").await,
        "`*` stands for all permissions"
    );
    assert_eq!(
        db.text("select string_agg(p.code, ' ' order by p.code) from \"RolePermission\" rp join \"Role\" r on r.id = rp.\"roleId\"
                 join \"Permission\" p on p.id = rp.\"permissionId\" where r.code = 'LIBRARIAN'").await,
        "LIBRARY.CREATE LIBRARY.DELETE LIBRARY.READ LIBRARY.UPDATE SCHOOLS.READ STUDENTS.READ TEACHERS.READ"
    );
    // Every reference leads to where the file says.
    assert_eq!(
        db.text("select s.code || ' ' || l.name from \"GradeLevel\" l join \"GradeSystem\" s on s.id = l.\"gradeSystemId\" where l.code = 'GB-Y7'").await,
        "GB Year 7"
    );
    assert_eq!(db.number("select count(*) from \"Role\" where \"userTypeId\" is null").await, 1);
    assert_eq!(db.text("select value from v1v2.meta where key = 'control_version'").await, "1");
    assert_eq!(db.number("select count(*) from v1v2.setup_objects").await, 23, "20 tables, 3 types");
    // The application's own rows do not meet the files' ids.
    db.run("insert into \"UserType\" (code, name, \"updatedAt\") values ('OWN', 'Own', now())").await;
    assert_eq!(db.number("select id::bigint from \"UserType\" where code = 'OWN'").await, 10000);
    db.drop().await;
}

#[tokio::test]
async fn a_second_setup_touches_no_row() {
    let mut db = Database::new().await;
    db.setup().await;
    let before = (db.things().await, db.fingerprint().await);
    let summary = db.setup().await;
    assert!(!summary.changed(), "{summary:?}");
    assert!((db.things().await, db.fingerprint().await) == before);
    db.drop().await;
}

#[tokio::test]
async fn only_what_differs_is_written_and_own_rows_stay() {
    let mut db = Database::new().await;
    db.setup().await;
    db.run("update \"Role\" set name = 'Edited' where code = 'BURSAR'; delete from \"Subject\" where code = 'LAT';
            insert into \"Subject\" (\"categoryId\", code, name, \"updatedAt\") values (1, 'KLI', 'Klingon', now())")
        .await;
    let untouched =
        "select count(*) from \"Role\" where xmin = (select xmin from \"Role\" where code = 'NURSE')";
    let summary = db.setup().await;
    let of = |table: &str| summary.tables.iter().find(|t| t.table == table).unwrap();
    assert_eq!((of("Role").inserted, of("Role").updated, of("Role").unchanged), (0, 1, 11));
    assert_eq!((of("Subject").inserted, of("Subject").others), (1, 1));
    assert_eq!(db.text("select name from \"Role\" where code = 'BURSAR'").await, "Bursar");
    assert_eq!(db.number(untouched).await, 11);
    assert_eq!(db.number("select count(*) from \"Subject\" where code in ('LAT', 'KLI')").await, 2);
    db.drop().await;
}

#[tokio::test]
async fn clean_removes_exactly_what_setup_made() {
    let mut db = Database::new().await;
    assert!(what_clean_removes(&mut db.conn).await.unwrap().is_empty());
    db.run("create table mine (id int); insert into mine values (1); create type mood as enum ('fine')")
        .await;
    db.setup().await;
    let things = db.things().await;
    db.run(
        "insert into \"User\" (id, \"userTypeId\", email, username, \"firstName\", \"updatedAt\")
            values (gen_random_uuid(), 1, 'a@example.com', 'a', 'A', now())",
    )
    .await;

    let plan = what_clean_removes(&mut db.conn).await.unwrap();
    assert_eq!(plan.database, db.name);
    let user = plan.tables.iter().find(|table| table.name == "\"public\".\"User\"").unwrap();
    assert_eq!(user.rows, 1);
    assert!(plan.others.contains(&"type \"public\".\"Sex\"".to_owned()), "{:?}", plan.others);
    assert!(!plan.tables.iter().any(|table| table.name.contains("mine")));

    let summary = apply(&mut db.conn, &SetupFiles::embedded(), true).await.unwrap();
    assert_eq!(summary.removed, plan.tables.len() + plan.others.len());
    assert_eq!(db.number("select count(*) from \"User\"").await, 0);
    assert_eq!(db.number("select count(*) from mine").await, 1);
    assert_eq!(db.things().await, things);
    db.drop().await;
}

#[tokio::test]
async fn clean_refuses_what_others_depend_on_and_a_running_migration() {
    let mut db = Database::new().await;
    db.setup().await;
    db.run("create table badge (holder uuid references \"User\" (id))").await;
    let before = db.fingerprint().await;
    let error = apply(&mut db.conn, &SetupFiles::embedded(), true).await.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.more().unwrap().contains("badge"), "{error}");
    assert!(db.fingerprint().await == before);

    db.run("drop table badge; create view people as select email from \"User\"").await;
    let error = apply(&mut db.conn, &SetupFiles::embedded(), true).await.unwrap_err();
    assert!(error.more().unwrap().contains("view people"), "{error}");

    db.run("drop view people; insert into v1v2.lock (run, holder, pid) values (1, 'run 1 on host a', pg_backend_pid())").await;
    let error = apply(&mut db.conn, &SetupFiles::embedded(), true).await.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.message().contains("run 1 on host a"), "{error}");

    // A holder that died is no holder.
    db.run("update v1v2.lock set pid = -1").await;
    apply(&mut db.conn, &SetupFiles::embedded(), true).await.unwrap();
    assert_eq!(db.number("select count(*) from v1v2.lock").await, 0);
    db.drop().await;
}

#[tokio::test]
async fn a_failure_inside_leaves_nothing() {
    // The database finds this one: two systems' levels cannot share a place in the order.
    let dir = folder(&[(
        "reference/grade_levels.csv",
        "id,code,gradeSystem,sequence,typicalAge,name\n1,A,NG,1,6,One\n2,B,NG,1,7,Two\n",
    )]);
    let mut db = Database::new().await;
    let before = db.things().await;
    let error = apply(&mut db.conn, &load(dir.path()), false).await.unwrap_err();
    assert!(error.message().contains("grade_levels.csv"), "{error}");
    assert_eq!(error.exit_code(), 1);
    assert_eq!(db.things().await, before);
    // The same connection is good for the next try.
    db.setup().await;
    db.drop().await;
}

#[tokio::test]
async fn two_setups_at_once_are_one_too_many() {
    let mut db = Database::new().await;
    let mut other = Database::connect(&db.server, &db.name).await;
    let mut tx = other.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(0x7631_7632_0001_i64)
        .execute(&mut *tx)
        .await
        .unwrap();
    let error = apply(&mut db.conn, &SetupFiles::embedded(), false).await.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.message().contains("V2 is in use by another run: "), "{error}");
    assert_eq!(db.things().await, ["public"]);
    tx.rollback().await.unwrap();
    other.close().await.unwrap();
    db.drop().await;
}

#[tokio::test]
async fn a_folder_replaces_one_file() {
    let dir = folder(&[
        (
            "reference/user_types.csv",
            "\u{feff}# ours\n\nname,code,id,description\n\"Boss, big\",ADMIN,1,\nStaff,STAFF,2,x\nG,GUARDIAN,3,\nL,LEARNER,4,\n",
        ),
        ("README.md", "notes"),
    ]);
    let mut db = Database::new().await;
    db.setup().await;
    let summary = apply(&mut db.conn, &load(dir.path()), false).await.unwrap();
    assert_eq!(summary.tables[0].updated, 4);
    assert_eq!(summary.tables[0].others, 1);
    assert_eq!(db.text("select name from \"UserType\" where code = 'ADMIN'").await, "Boss, big");
    assert_eq!(db.number("select count(*) from \"UserType\" where description is null").await, 3);
    assert!(summary.tables[1..].iter().all(|table| table.inserted + table.updated == 0));
    db.drop().await;
}

#[tokio::test]
async fn a_folder_replaces_everything() {
    let dir = folder(&[
        ("postgres/schema.sql", "create domain score as numeric(4,1);
            create function twice(integer) returns integer language sql as 'select $1 * 2';
            create table colour (id smallint primary key, name varchar(20) unique, weight score, since date);
            create view colours as select name, twice(id) from colour;"),
        ("reference/manifest.toml", "[[table]]\nfile = 'colours.csv'\ntable = 'colour'\nkey = ['name']\nid = 'id'\n
            [table.columns]\nid = 'integer'\nname = 'text'\nweight = { type = 'text', from = 'w' }\nsince = 'text'\n"),
        ("reference/colours.csv", "id,name,w,since\n1,red,1.50,2020-1-2\n2,blue,7,2021-12-31\n"),
    ]);
    let files = load(dir.path());
    let mut db = Database::new().await;
    apply(&mut db.conn, &files, false).await.unwrap();
    assert_eq!(
        db.text("select string_agg(c::text, ' ' order by id) from colour c").await,
        "(1,red,1.5,2020-01-02) (2,blue,7.0,2021-12-31)"
    );
    // The database compares in its own types: 1.50 is 1.5.
    assert!(!apply(&mut db.conn, &files, false).await.unwrap().changed());
    assert_eq!(apply(&mut db.conn, &files, true).await.unwrap().created, ["colour"]);

    // A code is renamed: the row keeps its id.
    fs::write(
        dir.path().join("reference/colours.csv"),
        "id,name,w,since\n1,crimson,1.5,2020-01-02\n2,blue,7,2021-12-31\n",
    )
    .unwrap();
    let summary = apply(&mut db.conn, &load(dir.path()), false).await.unwrap();
    assert_eq!((summary.tables[0].updated, summary.tables[0].inserted), (1, 0));
    // An id is changed: refused, rows may point at it.
    fs::write(
        dir.path().join("reference/colours.csv"),
        "id,name,w,since\n1,crimson,1.5,2020-01-02\n3,blue,7,2021-12-31\n",
    )
    .unwrap();
    let error = apply(&mut db.conn, &load(dir.path()), false).await.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(
        error
            .message()
            .contains("colours.csv:3: the file gives this row the id 3, but in V2's \"colour\" it has 2"),
        "{error}"
    );
    db.drop().await;
}

#[tokio::test]
async fn another_structure_is_refused() {
    let mut db = Database::new().await;
    let cases = [
        ("create table \"User\" (id int)", "table \"Curriculum\" is missing"),
        ("@alter table \"User\" drop column suffix", "column \"User\".\"suffix\" is missing"),
        (
            "@alter table \"School\" alter name type varchar(9)",
            "column \"School\".\"name\" is character varying(9), not text",
        ),
        (
            "@alter table \"Student\" alter \"admissionNo\" drop not null",
            "column \"Student\".\"admissionNo\" is nullable, not NOT NULL",
        ),
        (
            "@alter table \"User\" alter \"createdAt\" drop default",
            "column \"User\".\"createdAt\" has no default",
        ),
        ("@drop index \"User_email_key\"", "\"User\" has no unique (email)"),
        (
            "@alter table \"Teacher\" add budget int not null",
            "column \"Teacher\".\"budget\" is NOT NULL without a default",
        ),
        ("@drop table \"ParentSchool\"", "table \"ParentSchool\" is missing"),
    ];
    for (change, sentence) in cases {
        db.run("drop schema public cascade; create schema public; drop schema if exists v1v2 cascade").await;
        if let Some(change) = change.strip_prefix('@') {
            db.setup().await;
            db.run(change).await;
        } else {
            db.run(change).await;
        }
        let before = (db.things().await, db.fingerprint().await);
        let error = apply(&mut db.conn, &SetupFiles::embedded(), false).await.unwrap_err();
        assert_eq!(error.exit_code(), 5, "{error}");
        assert!(said(&error).contains(sentence), "{error}");
        assert!((db.things().await, db.fingerprint().await) == before, "{change}");
    }
    db.drop().await;
}

#[tokio::test]
async fn a_v2_that_has_grown_or_is_in_bulk_load_is_fine() {
    let mut db = Database::new().await;
    db.setup().await;
    db.run("alter table \"User\" add nickname text; alter type \"Sex\" add value 'UNKNOWN'; create index on \"User\" (city);
            insert into v1v2.dropped (kind, schema_name, table_name, name, definition, run)
            select 'index', 'public', 'Teacher', 'Teacher_userId_key', pg_get_indexdef('\"Teacher_userId_key\"'::regclass), 1;
            drop index \"Teacher_userId_key\"")
        .await;
    assert!(!db.setup().await.changed());
    db.drop().await;
}

#[tokio::test]
async fn errors_in_sql_name_the_line() {
    let dir = folder(&[("postgres/schema.sql", "create table a (id int);\n\ncreate tabel b (id int);\n")]);
    let mut db = Database::new().await;
    let error = apply(&mut db.conn, &load(dir.path()), false).await.unwrap_err();
    assert!(error.message().contains("schema.sql:3"), "{error}");
    let dir = folder(&[("postgres/schema.sql", "-- needs: postgres 99\ncreate table a (id int);")]);
    let error = apply(&mut db.conn, &load(dir.path()), false).await.unwrap_err();
    assert!(error.message().contains("needs 99 or later"), "{error}");
    assert_eq!(db.things().await, ["public"]);
    db.drop().await;
}

#[tokio::test]
async fn columns_that_v2_lacks_are_named() {
    let dir = folder(&[(
        EMBEDDED,
        &embedded(EMBEDDED)
            .replace("sequence = \"integer\"", "sequense = { type = \"integer\", from = \"sequence\" }"),
    )]);
    let mut db = Database::new().await;
    let error = apply(&mut db.conn, &load(dir.path()), false).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.message().ends_with(
            "table \"PermissionModule\" of V2 has no column \"sequense\"; did you mean \"sequence\"?"
        ),
        "{error}"
    );
    assert_eq!(db.things().await, ["public"]);
    db.drop().await;
}
