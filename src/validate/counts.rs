//! Counts on both sides: every row of V1 in the ledger once, every ledger line's records in V2, no orphans, no
//! duplicates.

use super::{Check, Report};
use crate::error::Result;
use crate::ledger::{Beside, Gone};
use crate::plan::{Entity, Plan};
use crate::row::unescape;
use crate::source::Snapshot;
use crate::target::Control;

/// Counts and compares. Without a snapshot of V1, V2 is compared with its own ledger only.
pub async fn compare_counts(
    plan: &Plan,
    mut snapshot: Option<&mut Snapshot>,
    v2: &mut dyn Control,
    only: &Only<'_>,
) -> Result<Report> {
    let mut report = Report::default();
    for entity in plan.entities.iter().filter(|entity| only.wants(&entity.name)) {
        let mut counts = v2.accounting(&entity.name).await?;
        if let Some(snapshot) = snapshot.as_deref_mut() {
            let found = beside(entity, snapshot, v2).await?;
            counts.source_rows = Some(found.rows);
            if !only.is_partial(&entity.name) {
                report.checks.push(Check {
                    what: format!("{} in V1", entity.name),
                    found: found.missing,
                    meaning: "rows of V1 that the ledger does not account for".into(),
                });
            }
            report.checks.push(Check {
                what: format!("{} in the ledger", entity.name),
                found: found.gone,
                meaning: "lines of rows that V1 no longer has".into(),
            });
        }
        report.entities.push(counts);
        report.checks.extend(v2.check_records(entity).await?);
    }
    let (tables, checks) = v2.check_tables(plan).await?;
    report.tables = tables;
    report.checks.extend(checks);
    report.checks.push(Check {
        what: "foreign keys and indexes".into(),
        found: v2.missing().await?.len() as u64,
        meaning: "taken away by a bulk load and not back yet: run `v1v2 repair`".into(),
    });
    Ok(report)
}

/// Which part of the job is to be complete.
#[derive(Debug, Clone, Copy, Default)]
pub struct Only<'o> {
    /// These entities; all with `None`.
    pub entities: Option<&'o [String]>,
    /// Of these entities only a part was migrated, so V1 may have more rows than the ledger.
    pub partial: &'o [String],
}

impl Only<'_> {
    fn wants(&self, entity: &str) -> bool {
        self.entities.is_none_or(|names| names.iter().any(|name| name == entity))
    }

    fn is_partial(&self, entity: &str) -> bool {
        self.partial.iter().any(|name| name == entity)
    }
}

/// V1 beside the ledger.
#[derive(Default)]
struct Sides {
    rows: u64,
    missing: u64,
    gone: u64,
}

/// Reads V1's keys side by side with the ledger's: equal numbers alone would not show that one row is missing and
/// another one gone.
async fn beside(entity: &Entity, snapshot: &mut Snapshot, v2: &mut dyn Control) -> Result<Sides> {
    let source = &entity.source;
    let mut found = Sides::default();
    let mut gone = Gone::default();
    let mut ledger = Beside::open(v2.ledger(&entity.name, source.key_kind).await?, source.key_kind).await?;
    snapshot
        .read(source, Some(&[&source.key]), None, async |line| {
            let key = unescape(line.strip_suffix(b"\n").unwrap_or(line));
            found.rows += 1;
            found.missing += u64::from(ledger.find(&key, &mut gone).await?.is_none());
            Ok(true)
        })
        .await?;
    ledger.finish(&mut gone).await?;
    found.gone = gone.count;
    Ok(found)
}
