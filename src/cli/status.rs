//! `v1v2 status`: what V2 says about the migration. Needs V2 alone.

use super::{Context, Outcome};
use crate::error::Result;
use crate::report::{Align, Event, Table};
use crate::target;

/// Missing objects listed on the terminal; with `--json` all of them are.
const SHOWN: usize = 10;

pub(super) async fn run(context: &Context) -> Result<Outcome> {
    use Align::{Left, Right};
    let mut v2 = target::open(&context.settings)?.control().await?;
    let overview = v2.overview().await?;
    let missing = v2.missing().await?;
    let output = &context.output;

    if overview.accounting.is_empty() {
        output.line("nothing was migrated yet");
    }
    section(
        context,
        "rows of V1",
        [
            ("entity", Left),
            ("migrated", Right),
            ("merged", Right),
            ("skipped", Right),
            ("rejected", Right),
            ("total", Right),
        ],
        &overview.accounting,
    );
    section(context, "rejected", [("entity", Left), ("code", Left), ("rows", Right)], &overview.rejected);
    section(
        context,
        "conflicts",
        [("entity", Left), ("kind", Left), ("decision", Left), ("rows", Right)],
        &overview.conflicts,
    );
    section(
        context,
        "runs, newest first (times in UTC)",
        [
            ("run", Left),
            ("command", Left),
            ("state", Left),
            ("started", Left),
            ("seconds", Right),
            ("error", Left),
        ],
        &overview.runs,
    );
    if let Some(holder) = &overview.holder {
        output.line(format!("running now: {holder}"));
    }
    if !missing.is_empty() {
        output.line(format!(
            "{} foreign keys and indexes are not back yet after a bulk load that did not finish:",
            missing.len()
        ));
        for (table, name) in missing.iter().take(SHOWN) {
            output.line(format!("  {table} {name}"));
        }
        if missing.len() > SHOWN {
            output.line(format!("  and {} more", missing.len() - SHOWN));
        }
        output.line("`v1v2 migrate` goes on and brings them back; `v1v2 repair` brings them back at once");
    }
    let missing: Vec<_> = missing.into_iter().map(|(_, name)| name).collect();
    let value = serde_json::json!({
        "rows_of_V1": overview.accounting,
        "rejected": overview.rejected,
        "conflicts": overview.conflicts,
        "runs": overview.runs,
        "holder": overview.holder,
        "missing": missing,
    });
    context.events.emit(&Event::Result { command: "status".to_owned(), value });
    Ok(Outcome::Done)
}

/// One table of the status; nothing if it is empty.
fn section<const WIDTH: usize>(
    context: &Context,
    title: &str,
    columns: [(&str, Align); WIDTH],
    rows: &[[String; WIDTH]],
) {
    if rows.is_empty() {
        return;
    }
    let mut table = Table::new(columns);
    for row in rows {
        table.row(row);
    }
    context.output.line(title);
    context.output.table(&table);
    context.output.line("");
}
