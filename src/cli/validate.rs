//! `v1v2 validate`: proves what was written; exit 4 when something differs.

use std::sync::Arc;

use super::migrate::Bars;
use super::{Context, Outcome, ValidateArgs};
use crate::connect::{self, Side};
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::report::{Align, Event, Table, print_error, printable};
use crate::run;
use crate::source::Snapshot;
use crate::target::{self, Target};
use crate::validate::{self, Only, Report};

/// Differences listed on the terminal; with `--json` the first thousand are.
const SHOWN: usize = 20;

pub(super) async fn run(context: &Context, args: &ValidateArgs) -> Result<Outcome> {
    let target = target::open(&context.settings)?;
    let plan = super::check::compile(context, &*target).await?;
    let counted = validate(context, &*target, &plan, &Only::default(), args.compare_counts).await;
    // All that differs is told, not only what was found first.
    match counted {
        Err(error) if args.compare_fields && error.kind() == Kind::Differences => {
            let fields = compare_fields(context, &*target, plan).await;
            print_error(&error, context.settings.color);
            fields?;
            Err(error)
        }
        Ok(()) if args.compare_fields => {
            compare_fields(context, &*target, plan).await.map(|()| Outcome::Done)
        }
        counted => counted.map(|()| Outcome::Done),
    }
}

/// Compares V2 with what V1's rows become, and prints where it differs.
async fn compare_fields(context: &Context, target: &dyn Target, plan: Plan) -> Result<()> {
    let bars = Arc::new(Bars::new(context.progress.clone()));
    let stop = run::Stop::default();
    let summary = run::compare(target, context.settings.clone(), Arc::new(plan), bars.clone(), stop).await;
    bars.finish();
    let summary = summary?;
    if let Ok(value) = serde_json::to_value(&summary) {
        context.events.emit(&Event::Result { command: "compare-fields".to_owned(), value });
    }
    let compared: u64 = summary.entities.iter().map(|entity| entity.changed).sum();
    if summary.differences.is_empty() {
        context
            .output
            .line(format!("{compared} rows of V1 are in V2 as they would be migrated now, field by field"));
        return Ok(());
    }
    let mut table =
        Table::new([("entity, table or collection, and what differs", Align::Left), ("rows", Align::Right)]);
    for (what, rows) in &summary.differences {
        table.row([what.clone(), rows.to_string()]);
    }
    context.output.table(&table);
    let shown = summary.first_differences.iter().take(SHOWN);
    let lines: Vec<_> = shown
        .map(|of| {
            let column = of.column.as_deref().unwrap_or("the record is missing");
            printable(&format!("  {} {}: {} {column}", of.entity, of.key, of.table)).into_owned()
        })
        .collect();
    let all: u64 = summary.differences.values().sum();
    Err(Error::differences(format!("{all} fields or records of V2 are not what V1's {compared} rows become"))
        .details(lines.join("\n")))
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
        snapshot = Some(Snapshot::take(v1, source, settings.patience(), plan).await?);
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
