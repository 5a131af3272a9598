//! The table of evolutions.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::evolve::{Direction, Evolution, Job, Record, State};
use crate::target::holder;

/// Part of `setup` too; here for databases that it never saw.
const TABLE: &str = include_str!("../../../setup/postgres/evolutions.sql");

/// Makes the table if it is not there. Asks first: even a CREATE that would do nothing needs the right to create.
pub(super) async fn make(connection: &mut PgConnection) -> sqlx::Result<()> {
    let there: (bool, bool) = sqlx::query_as(
        "select to_regnamespace('v1v2') is not null, to_regclass('v1v2.evolutions') is not null",
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut transaction = connection.begin().await?;
    if !there.0 {
        sqlx::raw_sql("create schema v1v2").execute(&mut *transaction).await?;
    }
    if !there.1 {
        sqlx::raw_sql(AssertSqlSafe(TABLE.to_owned())).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// All records, by number; none if there is no table.
pub(super) async fn records(connection: &mut PgConnection) -> sqlx::Result<Vec<Record>> {
    let there: bool = sqlx::query_scalar("select to_regclass('v1v2.evolutions') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "select number, name, direction, state, checksum, transactional, serial, done, begun, done_checksum, applied_by, \
                to_char(started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), duration_ms, tool_version, error \
         from v1v2.evolutions order by number",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(record).collect()
}

fn record(row: &sqlx::postgres::PgRow) -> sqlx::Result<Record> {
    let (direction, state): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Record {
        number: u32::try_from(row.try_get::<i32, _>(0)?).unwrap_or(0),
        name: row.try_get(1)?,
        direction: if direction == "down" { Direction::Down } else { Direction::Up },
        state: State::from_text(&state),
        checksum: row.try_get(4)?,
        transactional: row.try_get(5)?,
        serial: row.try_get(6)?,
        done: usize::try_from(row.try_get::<i32, _>(7)?).unwrap_or(0),
        begun: row.try_get(8)?,
        step: None,
        done_checksum: row.try_get(9)?,
        documents: 0,
        by: row.try_get(10)?,
        started: row.try_get(11)?,
        duration_ms: row.try_get(12)?,
        tool_version: row.try_get(13)?,
        error: row.try_get(14)?,
    })
}

/// It begins: from now on a program that dies leaves a record that says so. Going back keeps who applied it, as it may
/// fail.
pub(super) async fn begin(
    connection: &mut PgConnection,
    job: &Job<'_>,
    transactional: bool,
) -> sqlx::Result<()> {
    let evolution = job.evolution;
    sqlx::query(
        "insert into v1v2.evolutions as e (number, name, direction, state, checksum, transactional, serial, applied_by, tool_version) \
         values ($1, $2, $3, 'running', $4, $5, $6, $7, $8) \
         on conflict (number) do update set name = excluded.name, direction = excluded.direction, state = 'running', \
           checksum = excluded.checksum, transactional = excluded.transactional, serial = excluded.serial, error = null, \
           done = case when $9 then e.done else 0 end, begun = $9 and e.begun, \
           done_checksum = case when $9 then e.done_checksum end, \
           applied_by = case $3 when 'up' then excluded.applied_by else e.applied_by end, \
           started_at = case $3 when 'up' then excluded.started_at else e.started_at end, \
           duration_ms = case $3 when 'up' then null else e.duration_ms end, \
           tool_version = case $3 when 'up' then excluded.tool_version else e.tool_version end",
    )
    .bind(number(evolution))
    .bind(&evolution.name)
    .bind(job.direction.as_str())
    .bind(&evolution.checksum)
    .bind(transactional)
    .bind(job.serial)
    .bind(holder())
    .bind(env!("CARGO_PKG_VERSION"))
    .bind(job.resume.is_some())
    .execute(connection)
    .await
    .map(drop)
}

/// It is done; part of its transaction if there is one. `took` is in milliseconds.
pub(super) async fn finish(connection: &mut PgConnection, job: &Job<'_>, took: i64) -> sqlx::Result<()> {
    let state = match job.direction {
        Direction::Up => State::Applied,
        Direction::Down => State::Reverted,
    };
    let done = sqlx::query(
        "update v1v2.evolutions set state = $2, duration_ms = $3, applied_by = $4, tool_version = $5, error = null, done = 0, \
           begun = false, done_checksum = null, \
           started_at = case direction when 'down' then clock_timestamp() - make_interval(secs => $3 / 1000.0) else started_at end \
         where number = $1 and state = 'running'",
    )
    .bind(number(job.evolution))
    .bind(state.as_str())
    .bind(took)
    .bind(holder())
    .bind(env!("CARGO_PKG_VERSION"))
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// It failed, and nobody was killed. What was all or nothing is as it was before: applied, if it was to be taken back.
pub(super) async fn fail(connection: &mut PgConnection, job: &Job<'_>, error: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update v1v2.evolutions set error = $2, \
           state = case when transactional and direction = 'down' then 'applied' else 'failed' end, \
           direction = case when transactional then 'up' else direction end \
         where number = $1 and state = 'running'",
    )
    .bind(number(job.evolution))
    .bind(error)
    .execute(connection)
    .await
    .map(drop)
}

/// A statement that commits by itself begins, with so many done before it.
pub(super) async fn advance(
    connection: &mut PgConnection,
    job: &Job<'_>,
    (done, begun): (usize, bool),
    checksum: &str,
) -> sqlx::Result<()> {
    sqlx::query("update v1v2.evolutions set done = $2, begun = $3, done_checksum = $4 where number = $1")
        .bind(number(job.evolution))
        .bind(i32::try_from(done).unwrap_or(i32::MAX))
        .bind(begun)
        .bind(checksum)
        .execute(connection)
        .await
        .map(drop)
}

/// The folder is right.
pub(super) async fn accept(connection: &mut PgConnection, evolution: &Evolution) -> sqlx::Result<()> {
    sqlx::query("update v1v2.evolutions set checksum = $2, name = $3 where number = $1")
        .bind(number(evolution))
        .bind(&evolution.checksum)
        .bind(&evolution.name)
        .execute(connection)
        .await
        .map(drop)
}

fn number(evolution: &Evolution) -> i32 {
    i32::try_from(evolution.number).unwrap_or(i32::MAX)
}
