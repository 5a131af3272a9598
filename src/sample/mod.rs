//! Generates the example V1: the only place that knows the example.
//!
//! A migration can only be tried on data that is as messy as real data, and real data about children cannot be
//! handed around. So this makes up a school database in an empty Postgres database: the same people for the same
//! seed and size, on every machine and in every year; names, emails, phones and addresses as people type them;
//! duplicates, shared phones and people with several roles at known rates, which the summary reports.
//!
//! All addresses are on reserved domains (RFC 2606). Phone numbers are random and may exist.

mod column;
mod contact;
mod copy_text;
mod family;
mod lists;
mod person;
mod random;
mod tables;
mod world;

use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use family::Counts;
use tables::{Gone, Tables};
use world::World;

/// V1's schema in its three parts: see the file's own comments.
const SCHEMA: &str = include_str!("../../setup/sample/schema.sql");

const ANALYZE: &str =
    r#"ANALYZE "School", "Subject", "Teacher", "Parent", "Student", "_SubjectToTeacher", "_ParentToStudent""#;

/// The most people that a sample can have. Beyond it the numbers in keys would repeat.
pub const MOST_PEOPLE: u64 = 100_000_000;

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOptions {
    /// Teachers (6 %), parents (38 %) and students (56 %) together; there is one school for 400 people.
    pub people: u64,
    /// The same seed and number of people give the same database, byte for byte.
    pub seed: u64,
    /// Leave out three foreign keys and make rows that would break them: 0.5 % of the teachers and of the students
    /// with a school, and 0.7 % of the students with a parent, that is not there.
    pub orphans: bool,
}

/// What was generated: rows of each table, and how much of the mess is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SampleSummary {
    /// Rows of "School".
    pub schools: u64,
    /// Rows of "Subject".
    pub subjects: u64,
    /// Rows of "Teacher".
    pub teachers: u64,
    /// Rows of "Parent".
    pub parents: u64,
    /// Rows of "Student".
    pub students: u64,
    /// Rows of "_SubjectToTeacher".
    pub teacher_subjects: u64,
    /// Rows of "_ParentToStudent".
    pub guardianships: u64,
    /// People whose email an earlier one has too, apart from case and spaces.
    pub duplicate_emails: u64,
    /// People whose email is NULL, empty, blank or "N/A".
    pub missing_emails: u64,
    /// People whose email is not one.
    pub unusable_emails: u64,
    /// People who gave a phone that is not theirs alone: the household's, or that of the same person's other row.
    pub shared_phones: u64,
    /// Parents who have a teacher's email: nine in ten are that teacher, the others the spouse.
    pub teachers_who_are_parents: u64,
    /// Admin contacts of schools who are teachers there, with the same email.
    pub admins_who_teach: u64,
    /// Teachers whose school is not there.
    pub orphan_teachers: u64,
    /// Students whose school is not there.
    pub orphan_students: u64,
    /// Rows of "_ParentToStudent" whose parent is not there.
    pub orphan_guardianships: u64,
}

/// What the generating thread sends to the connection.
enum Piece {
    /// A table begins: its COPY statement.
    Table(&'static str),
    /// Whole lines, and how many people have been made by then.
    Lines(Vec<u8>, u64),
}

/// Makes the example V1 in an empty database.
///
/// Everything happens in one transaction, so a failure leaves the database empty. `progress` is called with the
/// number of people written so far.
///
/// # Errors
///
/// A usage error if `people` is 0 or above [`MOST_PEOPLE`]; refused, with nothing written, if the database holds any
/// table, view, sequence or type of a user, or cannot hold all of Unicode; else what the server reported. After an
/// error other than a usage error or a refusal the connection may be out of step with the server: close it.
pub async fn generate(
    conn: &mut PgConnection,
    options: &SampleOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<SampleSummary> {
    if options.people == 0 || options.people > MOST_PEOPLE {
        return Err(Error::usage(format!("a sample of {} people cannot be made", options.people))
            .help(format!("give --people a number from 1 to {MOST_PEOPLE}")));
    }
    let [tables, keys, strict_keys] = schema_parts()?;
    let mut transaction = conn.begin().await.map_err(database_error)?;
    refuse_unless_empty(&mut transaction).await?;

    transaction.execute(tables).await.map_err(database_error)?;
    let world = World { seed: options.seed, counts: Counts::of(options.people), orphans: options.orphans };
    let summary = fill(&mut transaction, world, progress).await?;
    transaction.execute(keys).await.map_err(database_error)?;
    if !options.orphans {
        transaction.execute(strict_keys).await.map_err(database_error)?;
    }
    // Without statistics the first queries of a migration would be planned as if the tables were tiny.
    transaction.execute(ANALYZE).await.map_err(database_error)?;
    transaction.commit().await.map_err(database_error)?;
    Ok(summary)
}

fn schema_parts() -> Result<[&'static str; 3]> {
    let parts: Vec<&str> = SCHEMA.split("\n-- part ").skip(1).collect();
    // What stays of the heading ("1: types and tables") is not SQL.
    let without_heading = |part: &'static str| part.split_once('\n').map_or("", |(_, sql)| sql);
    match parts[..] {
        [tables, keys, strict_keys] => Ok([tables, keys, strict_keys].map(without_heading)),
        _ => Err(Error::failed("the sample's schema does not have its three parts")),
    }
}

fn database_error(error: sqlx::Error) -> Error {
    Error::database("V1", &error)
}

/// Objects of users: relations that are no index or system table, and types that are no table's row type. What an
/// extension brought along is no reason to refuse: many servers put `pg_stat_statements` into every new database.
const OBJECTS_OF_USERS: &str = r"
    select what || ' ' || name, count(*) over () from (
        select case relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
                            when 'f' then 'foreign table' else 'table' end as what,
               c.oid::regclass::text as name, relkind = 'S' as last
        from pg_class c join pg_namespace n on n.oid = relnamespace
        where relkind in ('r', 'p', 'v', 'm', 'S', 'f') and nspname !~ '^pg_' and nspname <> 'information_schema'
          and not exists (select from pg_depend d
                          where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
        union all
        select 'type', t.oid::regtype::text, true
        from pg_type t join pg_namespace n on n.oid = typnamespace
        where typtype in ('e', 'd') and nspname !~ '^pg_' and nspname <> 'information_schema'
          and not exists (select from pg_depend d
                          where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e')
    ) found
    order by last, name limit 5";

async fn refuse_unless_empty(conn: &mut PgConnection) -> Result<()> {
    let (database, encoding): (String, String) =
        sqlx::query_as("select current_database()::text, current_setting('server_encoding')")
            .fetch_one(&mut *conn)
            .await
            .map_err(database_error)?;
    if encoding != "UTF8" {
        return Err(Error::refused(format!(
            "the database \"{database}\" has the encoding {encoding}, which cannot hold the sample's names"
        ))
        .help("create the database with `encoding 'UTF8' template template0`"));
    }
    let found: Vec<(String, i64)> =
        sqlx::query_as(OBJECTS_OF_USERS).fetch_all(&mut *conn).await.map_err(database_error)?;
    let Some((_, all)) = found.first() else { return Ok(()) };
    let named: Vec<&str> = found.iter().map(|(object, _)| object.as_str()).collect();
    let more = *all - found.len() as i64;
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Error::refused(format!(
        "the database \"{database}\" is not empty: it has {}{and_more}; the sample is only made in an empty one",
        named.join(", ")
    ))
    .help("create a new database and point V1_DATABASE_URL at it; nothing was written here"))
}

/// Makes rows on a thread of their own and sends them through COPY, so that making and storing overlap.
async fn fill(conn: &mut PgConnection, world: World, progress: &mut dyn FnMut(u64)) -> Result<SampleSummary> {
    // A few chunks: enough that neither side waits for the other's hiccups.
    let (sender, mut receiver) = mpsc::channel(4);
    let producer = tokio::task::spawn_blocking(move || {
        Tables::new(world, |piece| sender.blocking_send(piece).map_err(|_| Gone)).write()
    });
    let mut next = receiver.recv().await;
    while let Some(Piece::Table(statement)) = next.take() {
        let mut copy = conn.copy_in_raw(statement).await.map_err(database_error)?;
        loop {
            next = receiver.recv().await;
            let Some(Piece::Lines(lines, people)) = &next else { break };
            copy.send(lines.as_slice()).await.map_err(database_error)?;
            progress(*people);
        }
        copy.finish().await.map_err(database_error)?;
    }
    match producer.await {
        Ok(Ok(summary)) => Ok(summary),
        Ok(Err(Gone)) | Err(_) => Err(Error::failed("making the sample's rows stopped before the end")),
    }
}
