//! `v1v2 setup`: creates what V2 needs.

use super::{Context, Outcome, SetupArgs};
use crate::connect::{self, Scheme, Side};
use crate::error::{Error, Result};
use crate::report::{self, Align, Event, Table};
use crate::setup::{self, CleanPlan, SetupFiles, SetupSummary};

pub(super) async fn run(context: &Context, args: &SetupArgs) -> Result<Outcome> {
    let settings = &context.settings;
    let files = SetupFiles::load(settings.setup_dir.as_deref())?;
    let asks = args.clean && !args.force;
    let summary = match connect::scheme(Side::V2, settings)? {
        Scheme::Postgres => {
            let mut v2 = connect::postgres(Side::V2, settings).await?;
            if asks {
                ask(context, &setup::what_clean_removes(&mut v2).await?)?;
            }
            setup::apply(&mut v2, &files, args.clean).await?
        }
        Scheme::MongoDb => {
            if asks {
                let v2 = connect::mongodb(settings).await?;
                ask(context, &setup::mongodb::what_clean_removes(&v2).await?)?;
            }
            setup::mongodb::apply(settings, &files, args.clean).await?
        }
    };
    print(context, &summary);
    Ok(Outcome::Done)
}

/// Shows what goes, and lets the user type the database's name.
fn ask(context: &Context, plan: &CleanPlan) -> Result<()> {
    if plan.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([("what goes", Align::Left), ("rows", Align::Right)]);
    for of in &plan.tables {
        table.row([of.name.clone(), of.rows.to_string()]);
    }
    context.output.table(&table);
    report::type_to_confirm(
        &format!("This removes {} rows from {} and cannot be undone.", plan.rows(), plan.database),
        &plan.database,
    )
    .map_err(|error| match error.kind() {
        crate::error::Kind::Usage => {
            Error::usage(error.message()).help("add --force to remove everything without being asked")
        }
        _ => error,
    })
}

fn print(context: &Context, summary: &SetupSummary) {
    let tables: Vec<_> = summary
        .tables
        .iter()
        .map(|of| serde_json::json!({ "table": of.table, "inserted": of.inserted, "updated": of.updated, "unchanged": of.unchanged, "others": of.others }))
        .collect();
    context.events.emit(&Event::Result {
        command: "setup".to_owned(),
        value: serde_json::json!({ "database": summary.database, "removed": summary.removed, "created": summary.created, "altered": summary.altered, "tables": tables }),
    });
    if !summary.changed() {
        context.output.line(format!("{} is as it should be; nothing was changed", summary.database));
        return;
    }
    let columns = ["inserted", "updated", "unchanged", "others"].map(|name| (name, Align::Right));
    let mut table = Table::new(std::iter::once(("reference data", Align::Left)).chain(columns));
    for of in &summary.tables {
        let counts = [of.inserted, of.updated, of.unchanged, of.others].map(|count| count.to_string());
        table.row(std::iter::once(of.table.clone()).chain(counts));
    }
    context.output.table(&table);
    for what in &summary.altered {
        context.output.line(format!("brought up to date: {what}"));
    }
    // In MongoDB there is no schema.
    let kind = if summary.schema.is_empty() { "collections" } else { "tables" };
    context.output.line(format!(
        "{}: {} {kind} created, {} objects removed before",
        summary.database,
        summary.created.len(),
        summary.removed
    ));
}
