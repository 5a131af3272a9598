//! `v1v2 evolve status`: what is applied, what is not, and what to do about what stopped half way.

use serde_json::json;

use super::result;
use crate::cli::{Context, Outcome};
use crate::error::Result;
use crate::evolve::{Evolution, Record, Session, State, order};
use crate::report::{Align, Table, printable};

pub(super) async fn run(context: &Context) -> Result<Outcome> {
    let session = Session::open(&context.settings).await?;
    let edited: Vec<u32> =
        order::edited(&session.evolutions, &session.records).iter().map(|record| record.number).collect();
    let mut rows: Vec<Row<'_>> = session
        .evolutions
        .list
        .iter()
        .map(|evolution| {
            let record = session.records.iter().find(|record| record.number == evolution.number);
            Row { evolution: Some(evolution), record, edited: edited.contains(&evolution.number) }
        })
        .collect();
    let strangers = session.strangers();
    rows.extend(strangers.into_iter().map(|record| Row {
        evolution: None,
        record: Some(record),
        edited: false,
    }));
    let columns = ["evolution", "state", "when (UTC)", "who"].map(|name| (name, Align::Left));
    let mut table =
        Table::new(columns.into_iter().chain([("seconds", Align::Right), ("description", Align::Left)]));
    let mut list = Vec::new();
    for row in &rows {
        let seconds = row.shown().and_then(|record| record.duration_ms).map(|ms| ms as f64 / 1_000.0);
        let text = |of: fn(&Record) -> &String| row.shown().map(of).cloned().unwrap_or_default();
        let description =
            row.evolution.and_then(|evolution| evolution.description.clone()).unwrap_or_default();
        list.push(json!({
            "name": row.name(), "state": row.state(), "edited": row.edited, "started": text(|of| &of.started), "by": text(|of| &of.by),
            "seconds": seconds, "description": description, "error": row.record.and_then(|record| record.error.clone()),
        }));
        let note = match row {
            Row { edited: true, .. } => ", edited since",
            row if row.is_unfilled() => ", not filled in",
            _ => "",
        };
        let state = format!("{}{note}", row.state());
        let seconds = seconds.map(|seconds| format!("{seconds:.1}")).unwrap_or_default();
        let cells =
            [row.name().to_owned(), state, text(|of| &of.started), text(|of| &of.by), seconds, description];
        table.row(cells.iter().map(|cell| printable(cell)));
    }
    result(context, json!({ "command": "status", "evolutions": list }));
    if rows.is_empty() {
        context.output.line(format!("there are no evolutions in {}", session.evolutions.folder.display()));
    } else {
        context.output.table(&table);
    }
    for row in &rows {
        if let Some(advice) = row.advice() {
            for line in advice {
                context.output.line(printable(&line));
            }
        }
    }
    Ok(Outcome::Done)
}

/// One line of `status`.
struct Row<'r> {
    evolution: Option<&'r Evolution>,
    record: Option<&'r Record>,
    edited: bool,
}

impl Row<'_> {
    fn name(&self) -> &str {
        match (self.evolution, self.record) {
            (Some(evolution), _) => &evolution.name,
            (None, Some(record)) => &record.name,
            (None, None) => "",
        }
    }

    /// What was taken back is pending again.
    fn shown(&self) -> Option<&Record> {
        self.record.filter(|record| record.state != State::Reverted)
    }

    fn is_unfilled(&self) -> bool {
        self.shown().is_none() && self.evolution.is_some_and(|of| of.unfilled().next().is_some())
    }

    fn state(&self) -> &'static str {
        match self.shown().map(|record| record.state) {
            None => "pending",
            Some(_) if self.evolution.is_none() => "applied, not in the folder",
            Some(state) => state.as_str(),
        }
    }

    /// What to do next about one that is not done.
    fn advice(&self) -> Option<Vec<String>> {
        let record = self.shown()?;
        let name = self.name();
        let (state, way) = (record.state, record.direction.as_str());
        if state == State::Applied {
            let error = record.error.as_ref()?;
            let next = "remove the cause (if you mend its script, let `v1v2 repair` accept it) and run `v1v2 evolve down` again";
            return Some(vec![
                format!("{name}: it is applied; taking it back failed: {error}"),
                format!("  next: {next}"),
            ]);
        }
        let who = if state == State::Running {
            "it is being worked on now, or the program ended without a word (killed, or its machine went down)".to_owned()
        } else {
            record.trouble()
        };
        let documents = match record.documents {
            0 => String::new(),
            documents => format!(", {documents} documents of the next one"),
        };
        let next = if record.is_applied() {
            format!("it is still applied as a whole; run `v1v2 evolve {way}` again")
        } else if record.is_partial() {
            let parts = record.done;
            format!(
                "{parts} of its parts are done{documents}; run `v1v2 evolve {way}` again: it goes on where it stopped"
            )
        } else {
            format!("nothing of it is in V2; run `v1v2 evolve {way}` again")
        };
        Some(vec![format!("{name}: {who}"), format!("  next: {next}")])
    }
}
