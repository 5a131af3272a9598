//! A fresh Postgres database for each test, and questions to ask it.
//!
//! Tests assert on what the databases hold, not on what the program claims, so the questions return plain text, as
//! the server writes it. Names carry the machine's boot and the process, so that what a killed test process left
//! behind is found and dropped by the next one, and never the database of a test that still runs.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{LazyLock, Once};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row, ValueRef};

use super::servers::Server;

/// A Postgres database of one test, empty at first, dropped when this value is.
#[derive(Debug)]
pub struct Database {
    /// URL for maintenance.
    server: String,
    name: String,
    url: String,
}

/// What a table holds: how many rows, and a hash of all their values that does not depend on the rows' order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub rows: u64,
    pub hash: String,
}

/// The contents of all tables of some schemas, by `schema.table`. Two that are equal hold the same data; `assert_eq!`
/// on two that are not shows which tables differ.
pub type Digest = BTreeMap<String, Content>;

impl Database {
    /// An empty database on V1's server.
    pub fn v1() -> Self {
        Self::on(Server::V1.url())
    }

    /// An empty database on V2's server.
    pub fn v2() -> Self {
        Self::on(Server::V2.url())
    }

    /// An empty database on any server; the URL is that of a superuser.
    pub fn on(server: &str) -> Self {
        Self::made(server, "template1")
    }

    /// A copy of this one, beside it. Nobody may be connected to it meanwhile.
    pub fn copy(&self) -> Self {
        Self::made(&self.server, &self.name)
    }

    fn made(server: &str, template: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        drop_leftovers();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{}_{number}", *PREFIX, std::process::id());
        execute(server, &format!("create database {name} template {template}"));
        Self { server: server.to_owned(), url: url_of(server, &name), name }
    }

    /// The URL, for the program and for connections of the test's own.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs one or several statements.
    pub fn execute(&self, sql: &str) {
        execute(&self.url, sql);
    }

    /// Every row of a query, each value as the text that Postgres writes for it.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        rows(&self.url, sql)
    }

    /// The only value of a query with one row and one column, which must not be NULL.
    pub fn one(&self, sql: &str) -> String {
        match self.rows(sql).as_mut_slice() {
            [row] if row.len() == 1 => row[0].take().unwrap_or_else(|| panic!("NULL from {sql}")),
            rows => panic!("{} rows instead of one value from {sql}", rows.len()),
        }
    }

    /// The number of rows of a table; the name as in SQL, quoted where it has to be.
    pub fn count(&self, table: &str) -> u64 {
        self.one(&format!("select count(*) from {table}")).parse().unwrap()
    }

    /// The contents of all tables of the schemas, without the columns in `except`, which are named `schema.table.column`,
    /// or `*.column` for the column of every table: those that differ between two equal runs, such as salted hashes.
    pub fn digest(&self, schemas: &[&str], except: &[&str]) -> Digest {
        let mut tables: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for row in self.rows(
            "select n.nspname, c.relname, a.attname
             from pg_class c
             join pg_namespace n on n.oid = c.relnamespace
             left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             where c.relkind in ('r', 'p') and not c.relispartition
             order by n.nspname, c.relname, a.attname collate \"C\"",
        ) {
            let [Some(schema), Some(table), column] = <[_; 3]>::try_from(row).unwrap() else {
                unreachable!("the catalog's names are never NULL")
            };
            if schemas.contains(&schema.as_str()) {
                let hidden = |column: &String| {
                    let full = format!("{schema}.{table}.{column}");
                    except.contains(&full.as_str()) || except.contains(&format!("*.{column}").as_str())
                };
                let column = column.filter(|column| !hidden(column));
                tables.entry((schema, table)).or_default().extend(column);
            }
        }
        // One statement for all tables: a connection for each would take longer than the answers.
        let contents: Vec<String> =
            tables.iter().map(|((schema, table), columns)| content_sql(schema, table, columns)).collect();
        if contents.is_empty() {
            return Digest::new();
        }
        let content = |row: Vec<Option<String>>| {
            let [Some(table), Some(rows), Some(hash)] = <[_; 3]>::try_from(row).unwrap() else {
                unreachable!("none of the three is ever NULL")
            };
            (table, Content { rows: rows.parse().unwrap(), hash })
        };
        self.rows(&contents.join(" union all ")).into_iter().map(content).collect()
    }
}

/// A table's name, the number of its rows, and a hash of the columns' values in all of them.
fn content_sql(schema: &str, table: &str, columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    format!(
        "select '{}', count(*), md5(coalesce(string_agg(line, e'\\n' order by line collate \"C\"), ''))
         from (select row({})::text as line from {}.{}) as lines",
        format!("{schema}.{table}").replace('\'', "''"),
        columns.join(", "),
        quoted(schema),
        quoted(table)
    )
}

impl Drop for Database {
    fn drop(&mut self) {
        // A second panic during a failing test's unwinding would hide the first; the next process drops what stays.
        let sql = format!("drop database if exists {} with (force)", self.name);
        if let Err(error) = try_rows(&self.server, &sql)
            && !std::thread::panicking()
        {
            panic!("{} cannot be dropped: {error}", self.name);
        }
    }
}

/// A name as SQL text.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Start of the names of this boot's test databases. A process id means nothing on another machine or after a reboot.
pub(super) static PREFIX: LazyLock<String> = LazyLock::new(|| {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    format!("v1v2_test_{}_", boot.get(..8).unwrap())
});

/// Drops the databases of test processes that are no more, once per process.
fn drop_leftovers() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        for server in [Server::V1, Server::V2] {
            for row in rows(server.url(), "select datname from pg_database") {
                let name = row[0].as_deref().unwrap();
                let process = name.strip_prefix(PREFIX.as_str()).and_then(|rest| rest.split('_').next());
                if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                    // Another process that starts now may drop it at the same time: it is gone either way.
                    drop(try_rows(server.url(), &format!("drop database if exists {name} with (force)")));
                }
            }
        }
    });
}

/// The server's URL with another database.
pub(super) fn url_of(server: &str, database: &str) -> String {
    let (address, parameters) = server.split_once('?').map_or((server, None), |(a, p)| (a, Some(p)));
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
    let mut url = format!("{}/{database}", &address[..end]);
    if let Some(parameters) = parameters {
        url.push('?');
        url.push_str(parameters);
    }
    url
}

fn execute(url: &str, sql: &str) {
    rows(url, sql);
}

fn rows(url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    try_rows(url, sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
}

// The simple query protocol: it takes several statements and answers in text, whatever the type.
fn try_rows(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
    let (url, sql) = (url.to_owned(), sql.to_owned());
    wait_for(async move {
        let mut connection = PgConnection::connect(&url).await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut connection).await?;
        let texts = rows.iter().map(|row| (0..row.len()).map(|column| text(row, column)).collect());
        let texts = texts.collect::<Result<_, _>>()?;
        connection.close().await?;
        Ok(texts)
    })
}

fn text(row: &sqlx::postgres::PgRow, column: usize) -> Result<Option<String>, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(None);
    }
    value.as_str().map(|text| Some(text.to_owned())).map_err(sqlx::Error::Decode)
}

/// Runs to the end on the support's own runtime, so that a caller may itself be inside of one.
pub(super) fn wait_for<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    });
    let (done, result) = mpsc::channel();
    RUNTIME.spawn(async move { done.send(work.await) });
    // A server that never answers fails the test instead of the whole suite.
    match result.recv_timeout(Duration::from_secs(300)) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("the server has not answered for five minutes"),
        Err(RecvTimeoutError::Disconnected) => panic!("the work panicked; its message is above"),
    }
}
