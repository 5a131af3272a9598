//! `v1v2 check`: compiles all definitions against both live databases and tells every problem at once.

use std::collections::BTreeSet;

use super::{CheckArgs, Context, Outcome};
use crate::connect::{self, Side};
use crate::definition::Definitions;
use crate::error::Result;
use crate::plan::{Plan, TableName};
use crate::preflight::{self, Finding, Level, Needs};
use crate::report::Event;
use crate::source::despite_locks;
use crate::source::files::{self, Load};
use crate::target::{self, Target};

pub(super) async fn run(context: &Context, args: &CheckArgs) -> Result<Outcome> {
    let target = target::open(&context.settings)?;
    let plan = compile(context, &*target).await?;
    let wanted = (!args.entities.is_empty()).then_some(args.entities.as_slice());
    crate::run::select(&plan, wanted, "--entities")?;
    let findings = look_ahead(context, &needs_of_a_run(context, &plan).await?).await?;
    let names: Vec<String> = plan.entities.iter().map(|entity| entity.name.to_string()).collect();
    context.events.emit(&Event::Result {
        command: "check".to_owned(),
        value: serde_json::json!({ "entities": names, "preflight": findings }),
    });
    for note in &plan.notes {
        context.output.line(format!("note: {note}"));
    }
    let tables: BTreeSet<_> =
        plan.entities.iter().flat_map(|entity| &entity.writes).map(|write| &write.table).collect();
    context.output.line(format!(
        "no problems: {} write {} tables of V2, in the order {}",
        count(names.len(), "entity", "entities"),
        tables.len(),
        names.join(" → ")
    ));
    Ok(Outcome::Done)
}

/// What a migration needs.
pub(super) async fn needs_of_a_run(context: &Context, plan: &Plan) -> Result<Needs> {
    let bytes = Some(preflight::rows_of_v1(&context.settings).await?);
    let tables: BTreeSet<&TableName> =
        plan.entities.iter().flat_map(|entity| &entity.writes).map(|write| &write.table).collect();
    let bulk_into = tables.into_iter().filter(|_| context.settings.bulk).cloned().collect();
    Ok(Needs { bytes, backup: context.settings.require_backup, bulk_into, evolutions: None })
}

/// What would stop the work of these settings later.
pub(super) async fn look_ahead(context: &Context, needs: &Needs) -> Result<Vec<Finding>> {
    let findings = preflight::require(&context.settings, needs).await?;
    for Finding { level, what, fix } in &findings {
        match (level, fix) {
            (Level::Warning, Some(fix)) => tracing::warn!("{what}; {fix}"),
            (Level::Warning, None) => tracing::warn!("{what}"),
            _ => tracing::info!("{what}"),
        }
    }
    Ok(findings)
}

fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// The definitions, checked against both databases.
pub(super) async fn compile(context: &Context, target: &dyn Target) -> Result<Plan> {
    let settings = &context.settings;
    let definitions = Definitions::load(settings.migrators_dir.as_deref())?;
    let mut v1 = connect::postgres(Side::V1, settings).await?;
    let place = connect::place(Side::V1, settings)?.to_string();
    files::load(&mut v1, &place, &definitions.tables_from_files(), Load::Columns).await?;
    let mut plan = despite_locks(settings, &mut v1, async |v1| target.plan(&definitions, v1).await).await?;
    context.migrators.join(&mut plan)?;
    Ok(plan)
}
