//! `v1v2 validate`: proves what was written; exit 4 when something differs.

use super::{Context, Outcome, ValidateArgs};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::report::{Align, Event, Table};
use crate::source::Snapshot;
use crate::target::{self, Target};
use crate::validate::{self, Only, Report};

pub(super) async fn run(context: &Context, args: &ValidateArgs) -> Result<Outcome> {
    let target = target::open(&context.settings)?;
    let plan = super::check::compile(context, &*target).await?;
    validate(context, &*target, &plan, &Only::default(), args.compare_counts).await?;
    Ok(Outcome::Done)
}

/// Compares V2 with its ledger, and the ledger with V1 if wanted, and prints what was found.
pub(super) async fn validate(
    context: &Context,
    target: &dyn Target,
    plan: &Plan,
    only: &Only<'_>,
    with_v1: bool,
) -> Result<()> {
    let settings = &context.settings;
    let mut snapshot = None;
    if with_v1 {
        let source = connect::place(Side::V1, settings)?.to_string();
        let v1 = connect::postgres(Side::V1, settings).await?;
        snapshot = Some(Snapshot::take(v1, source, settings.patience()).await?);
    }
    let mut v2 = target.control().await?;
    let report = validate::compare_counts(plan, snapshot.as_mut(), &mut *v2, only).await?;
    print(context, &report);
    let differences: Vec<_> = report.differences().collect();
    if differences.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = differences
        .iter()
        .map(|check| format!("  {}: {} {}", check.what, check.found, check.meaning))
        .collect();
    Err(Error::differences(format!("the validation found {} differences", differences.len()))
        .details(lines.join("\n")))
}

fn print(context: &Context, report: &Report) {
    if let Ok(value) = serde_json::to_value(report) {
        context.events.emit(&Event::Result { command: "validate".to_owned(), value });
    }
    let columns = ["rows in V1", "migrated", "merged", "skipped", "rejected", "accounted for"];
    let columns = columns.map(|name| (name, Align::Right));
    let mut table = Table::new(std::iter::once(("entity", Align::Left)).chain(columns));
    for of in &report.entities {
        let rows = of.source_rows.map_or_else(|| "not asked".to_owned(), |rows| rows.to_string());
        let counts = [of.migrated, of.merged, of.skipped, of.rejected, of.accounted()];
        table.row([of.entity.clone(), rows].into_iter().chain(counts.map(|count| count.to_string())));
    }
    context.output.table(&table);
    context.output.line("");
    let mut table = Table::new([("table in V2", Align::Left), ("rows", Align::Right)]);
    for (name, rows) in &report.tables {
        table.row([name.clone(), rows.to_string()]);
    }
    context.output.table(&table);
    context.output.line("");
    let good = report.checks.iter().filter(|check| check.found == 0).count();
    context.output.line(format!(
        "{good} of {} checks found nothing: counts, records, accounts, roles, orphans, duplicates",
        report.checks.len()
    ));
}
