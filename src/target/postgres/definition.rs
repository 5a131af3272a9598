//! Keeps by which definition an entity's rows are in V2 (`target/definition.rs`).

use sqlx::PgConnection;

use crate::target::definition::{Applied, HISTORY, History, SEVERAL, fact};

/// From now on the entity's rows are in V2 by this definition. The run that applied it remembers which one was before.
pub async fn keep(connection: &mut PgConnection, run: i32, entity: &str, now: &Applied) -> sqlx::Result<()> {
    let was: (Option<String>, Option<String>) = sqlx::query_as(
        "select (select definition_hash from v1v2.entities where entity = $1), (select value from v1v2.meta where key = $2)",
    )
    .bind(entity)
    .bind(fact(entity))
    .fetch_one(&mut *connection)
    .await?;
    let mut facts = vec![(fact(entity), now.parts.clone().unwrap_or_default())];
    if let (Some(hash), parts) = was
        && hash != now.hash
    {
        let mut history = history(connection, entity).await?;
        history.replace(run, Applied { hash, parts });
        facts.extend(history.text().map(|text| (format!("{HISTORY}{entity}"), text)));
    }
    let (keys, values): (Vec<String>, Vec<String>) = facts.into_iter().unzip();
    // One statement: all of it or nothing, and no COMMIT whose answer could be lost.
    sqlx::query(
        "with kept as (insert into v1v2.meta (key, value) select * from unnest($3::text[], $4::text[]) \
           on conflict (key) do update set value = excluded.value) \
         update v1v2.entities set definition_hash = $2 where entity = $1",
    )
    .bind(entity)
    .bind(&now.hash)
    .bind(keys)
    .bind(values)
    .execute(connection)
    .await
    .map(drop)
}

/// A rollback begins: rows that the run wrote by its definition, and rows as they were before, stand side by side.
pub async fn begin_rollback(connection: &mut PgConnection, run: i32) -> sqlx::Result<()> {
    for entity in of_run(connection, run).await? {
        sqlx::query("update v1v2.entities set definition_hash = $2 where entity = $1")
            .bind(&entity)
            .bind(SEVERAL)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The run is taken back.
pub async fn end_rollback(connection: &mut PgConnection, run: i32) -> sqlx::Result<()> {
    for entity in of_run(connection, run).await? {
        let mut history = history(connection, &entity).await?;
        if let Some(now) = history.take_back(run) {
            set_fact(connection, &format!("{HISTORY}{entity}"), history.text().as_deref()).await?;
            set(connection, &entity, &now).await?;
        }
    }
    Ok(())
}

/// The entities whose definition the run has replaced.
async fn of_run(connection: &mut PgConnection, run: i32) -> sqlx::Result<Vec<String>> {
    let all: Vec<(String, String)> =
        sqlx::query_as("select substr(key, length($1) + 1), value from v1v2.meta where starts_with(key, $1)")
            .bind(HISTORY)
            .fetch_all(connection)
            .await?;
    let mine = all.into_iter().filter(|(_, history)| History::parse(Some(history)).holds(run));
    Ok(mine.map(|(entity, _)| entity).collect())
}

async fn history(connection: &mut PgConnection, entity: &str) -> sqlx::Result<History> {
    let text: Option<String> = sqlx::query_scalar("select value from v1v2.meta where key = $1")
        .bind(format!("{HISTORY}{entity}"))
        .fetch_optional(connection)
        .await?;
    Ok(History::parse(text.as_deref()))
}

async fn set(connection: &mut PgConnection, entity: &str, now: &Applied) -> sqlx::Result<()> {
    set_fact(connection, &fact(entity), now.parts.as_deref()).await?;
    let set = sqlx::query("update v1v2.entities set definition_hash = $2 where entity = $1")
        .bind(entity)
        .bind(&now.hash);
    set.execute(connection).await.map(drop)
}

async fn set_fact(connection: &mut PgConnection, key: &str, value: Option<&str>) -> sqlx::Result<()> {
    let sql = match value {
        Some(_) => {
            "insert into v1v2.meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value"
        }
        None => "delete from v1v2.meta where key = $1 and $2::text is null",
    };
    sqlx::query(sql).bind(key).bind(value).execute(connection).await.map(drop)
}
