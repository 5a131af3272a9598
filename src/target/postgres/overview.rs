//! What `status` shows, in V2's own words.

use sqlx::{PgConnection, Row as _};

use crate::target::Overview;

/// Reads it.
pub async fn read(connection: &mut PgConnection) -> sqlx::Result<Overview> {
    Ok(Overview {
        accounting: lines(
            connection,
            "select entity, migrated::text, merged::text, skipped::text, rejected::text, total::text \
             from v1v2.accounting order by (select min(run) from v1v2.ledger l where l.entity = accounting.entity), entity",
        )
        .await?,
        rejected: lines(
            connection,
            "select entity, code, count(*)::text from v1v2.ledger where outcome = 'r' group by 1, 2 order by 1, 2",
        )
        .await?,
        conflicts: lines(
            connection,
            "select entity, kind, decision, count(*)::text from v1v2.conflicts group by 1, 2, 3 order by 1, 2, 3",
        )
        .await?,
        runs: lines(
            connection,
            "select id::text, command, state, to_char(started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), \
             coalesce(round(extract(epoch from finished_at - started_at)::numeric, 1)::text, ''), coalesce(error, '') \
             from v1v2.runs order by no desc limit 10",
        )
        .await?,
        holder: sqlx::query_scalar(
            "select l.holder || ', since ' || to_char(l.since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC' \
             from v1v2.lock l join pg_stat_activity a on a.pid = l.pid",
        )
        .fetch_optional(connection)
        .await?,
    })
}

async fn lines<const WIDTH: usize>(
    connection: &mut PgConnection,
    sql: &'static str,
) -> sqlx::Result<Vec<[String; WIDTH]>> {
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let mut line = [const { String::new() }; WIDTH];
        for (index, cell) in line.iter_mut().enumerate() {
            *cell = row.try_get(index)?;
        }
        lines.push(line);
    }
    Ok(lines)
}
