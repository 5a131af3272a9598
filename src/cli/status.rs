//! `v1v2 status`: what V2 says about the migration. Needs V2 alone.

use sqlx::{PgConnection, Row as _};

use super::{Context, Outcome};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::report::{Align, Event, Table};
use crate::target::postgres::bulk;
use crate::target::postgres::lock::require_control_schema;

/// Missing objects listed on the terminal; with `--json` all of them are.
const SHOWN: usize = 10;

pub(super) async fn run(context: &Context) -> Result<Outcome> {
    let settings = &context.settings;
    let place = connect::place(Side::V2, settings)?.to_string();
    let mut v2 = connect::postgres(Side::V2, settings).await?;
    require_control_schema(&mut v2, &place).await?;
    let failed = |error: sqlx::Error| Error::database(&place, &error);
    let output = &context.output;

    let accounting = Section {
        title: "rows of V1",
        columns: &[
            ("entity", Align::Left),
            ("migrated", Align::Right),
            ("merged", Align::Right),
            ("skipped", Align::Right),
            ("rejected", Align::Right),
            ("total", Align::Right),
        ],
        sql: "select entity, migrated::text, merged::text, skipped::text, rejected::text, total::text \
              from v1v2.accounting order by (select min(run) from v1v2.ledger l where l.entity = accounting.entity), entity",
        empty: "nothing was migrated yet",
    };
    let rejects = Section {
        title: "rejected",
        columns: &[("entity", Align::Left), ("code", Align::Left), ("rows", Align::Right)],
        sql: "select entity, code, count(*)::text from v1v2.ledger where outcome = 'r' group by 1, 2 order by 1, 2",
        empty: "",
    };
    let conflicts = Section {
        title: "conflicts",
        columns: &[
            ("entity", Align::Left),
            ("kind", Align::Left),
            ("decision", Align::Left),
            ("rows", Align::Right),
        ],
        sql: "select entity, kind, decision, count(*)::text from v1v2.conflicts group by 1, 2, 3 order by 1, 2, 3",
        empty: "",
    };
    let runs = Section {
        title: "runs, newest first (times in UTC)",
        columns: &[
            ("run", Align::Left),
            ("command", Align::Left),
            ("state", Align::Left),
            ("started", Align::Left),
            ("seconds", Align::Right),
            ("error", Align::Left),
        ],
        sql: "select id::text, command, state, to_char(started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), \
              coalesce(round(extract(epoch from finished_at - started_at)::numeric, 1)::text, ''), coalesce(error, '') \
              from v1v2.runs order by no desc limit 10",
        empty: "",
    };
    let mut found = serde_json::Map::new();
    for section in [accounting, rejects, conflicts, runs] {
        let rows = section.read(&mut v2).await.map_err(failed)?;
        section.print(context, &rows);
        found.insert(
            section.title.split(',').next().unwrap_or_default().replace(' ', "_"),
            serde_json::json!(rows),
        );
    }
    let holder: Option<String> = sqlx::query_scalar(
        "select l.holder || ', since ' || to_char(l.since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC' \
         from v1v2.lock l join pg_stat_activity a on a.pid = l.pid",
    )
    .fetch_optional(&mut v2)
    .await
    .map_err(failed)?;
    if let Some(holder) = &holder {
        output.line(format!("running now: {holder}"));
    }
    let missing = bulk::missing(&mut v2, &place).await?;
    if !missing.is_empty() {
        output.line(format!(
            "{} foreign keys and indexes are not back yet after a bulk load that did not finish:",
            missing.len()
        ));
        for object in missing.iter().take(SHOWN) {
            output.line(format!("  {} {}", object.table.name, object.name));
        }
        if missing.len() > SHOWN {
            output.line(format!("  and {} more (v1v2.dropped)", missing.len() - SHOWN));
        }
        output.line("`v1v2 migrate` goes on and brings them back; `v1v2 repair` brings them back at once");
    }
    let missing: Vec<_> = missing.iter().map(|object| object.name.clone()).collect();
    found.insert("holder".to_owned(), serde_json::json!(holder));
    found.insert("missing".to_owned(), serde_json::json!(missing));
    context.events.emit(&Event::Result { command: "status".to_owned(), value: found.into() });
    Ok(Outcome::Done)
}

/// One table of the status.
struct Section {
    title: &'static str,
    columns: &'static [(&'static str, Align)],
    sql: &'static str,
    /// What is said when there is nothing; nothing if empty.
    empty: &'static str,
}

impl Section {
    async fn read(&self, v2: &mut PgConnection) -> sqlx::Result<Vec<Vec<String>>> {
        let rows = sqlx::query(self.sql).fetch_all(v2).await?;
        rows.iter().map(|row| (0..self.columns.len()).map(|index| row.try_get(index)).collect()).collect()
    }

    fn print(&self, context: &Context, rows: &[Vec<String>]) {
        if rows.is_empty() {
            if !self.empty.is_empty() {
                context.output.line(self.empty);
            }
            return;
        }
        let mut table = Table::new(self.columns.iter().copied());
        for row in rows {
            table.row(row);
        }
        context.output.line(self.title);
        context.output.table(&table);
        context.output.line("");
    }
}
