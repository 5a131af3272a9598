//! Definitions against real servers: what compiles, and what every kind of mistake looks like.

mod accepted;
mod circles;
mod documents;
mod fields;
mod later;
mod normalised;
mod problems;
mod reading;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::servers::Server;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use v1v2::definition::Definitions;
use v1v2::plan::{Plan, compile};
use v1v2::setup::SetupFiles;

const V1_SCHEMA: &str = include_str!("../setup/sample/schema.sql");
const V2_SCHEMA: &str = include_str!("../setup/postgres/schema.sql");

/// A pair of databases of one test; dropped at its end, left for a look when it fails.
struct Pair {
    names: [String; 2],
    options: [PgConnectOptions; 2],
    v1: PgConnection,
    v2: PgConnection,
}

impl Pair {
    async fn new(v1_sql: &str, v2_sql: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let names = ["v1", "v2"].map(|side| format!("check_{side}_{}_{number}", std::process::id()));
        let mut options =
            [Server::V1, Server::V2].map(|server| server.url().parse::<PgConnectOptions>().unwrap());
        for (name, options) in names.iter().zip(&mut options) {
            let mut server = options.connect().await.unwrap();
            server.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
            *options = options.clone().database(name);
        }
        let mut v1 = options[0].connect().await.unwrap();
        let mut v2 = options[1].connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(v1_sql.to_owned())).execute(&mut v1).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(v2_sql.to_owned())).execute(&mut v2).await.unwrap();
        Self { names, options, v1, v2 }
    }

    async fn school() -> Self {
        let mut pair = Self::new(V1_SCHEMA, "select 1").await;
        v1v2::setup::apply(&mut pair.v2, &SetupFiles::embedded(), false).await.unwrap();
        pair
    }

    async fn compile(&mut self, definitions: &Definitions) -> v1v2::Result<Plan> {
        compile(definitions, &mut self.v1, &mut self.v2).await
    }

    /// The rendered problems of definitions that must not compile.
    async fn problems(&mut self, files: &[(&str, &str)]) -> String {
        let error = self.compile(&Definitions::from_texts(files)).await.expect_err("must not compile");
        assert_eq!(error.exit_code(), 2);
        let details = error.more().unwrap().to_owned();
        assert_eq!(details.matches('×').count().to_string(), error.message().split(' ').next().unwrap());
        details
    }

    async fn drop(self) {
        let Self { names, options, v1, v2 } = self;
        drop((v1, v2));
        for (name, options) in names.iter().zip(options) {
            let mut server = options.database("postgres").connect().await.unwrap();
            server.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await.unwrap();
        }
    }
}

fn tables(plan: &Plan, entity: &str) -> Vec<String> {
    let entity = plan.entities.iter().find(|candidate| &*candidate.name == entity).unwrap();
    entity.writes.iter().map(|write| write.table.name.clone()).collect()
}

const SHOP_V1: &str = r#"
    create type color as enum ('RED', 'BLUE', 'MAUVE');
    create table customer (id integer primary key, name text not null, nick text, color color, born text, score numeric);
    create table purchase (no bigint primary key, customer_id integer references customer, items text[] not null)"#;
const SHOP_V2: &str = r#"
    create type color as enum ('RED', 'BLUE');
    create table client (id uuid primary key, label text not null, color color, born date, vip boolean not null,
                         code text generated always as (upper(label)) stored);
    create table kind (id integer primary key, code text not null);
    create table sale (id uuid primary key, client_id uuid not null references client, kind_id integer references kind);
    create table line (sale_id uuid references sale, item text not null)"#;

const CUSTOMERS: &str = r#"entity = "customers"
[source]
key = "id"
query = "select id, name, color::text as color, born::date as born from customer"
[[postgres]]
table = "client"
[postgres.columns]
id = { id = true }
label = "name"
vip = { value = true }
"#;

/// The blocks of the documentation's example that begin with this line (without its mark of a comment).
fn block<'t>(documentation: &'t str, language: &str, first_line: &str) -> &'t str {
    let mark = if language == "sql" { "--" } else { "#" };
    let start = format!("```{language}\n{mark} {first_line}\n");
    let (_, rest) = documentation.split_once(&start).unwrap_or_else(|| panic!("no block {first_line}"));
    rest.split_once("```").unwrap().0
}
