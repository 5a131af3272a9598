//! Looks ahead: what would stop a run in its middle, or leave no way back from it, is told before anything is written, and
//! all of it at once. What a server does not tell (Postgres its free disk, MongoDB its members to a user without the
//! role) is said to be unknown and stops nobody.

mod mongodb;
mod postgres;

use std::time::Duration;

use serde::Serialize;

use crate::backup;
use crate::connect::{self, Scheme, Side};
use crate::error::{Error, Result};
use crate::evolve::Pending;
use crate::plan::TableName;
use crate::settings::Settings;

/// What a finding means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// Nobody can tell from here.
    Unknown,
    /// Worth knowing; the run may go on.
    Warning,
    /// The run must not begin.
    Blocking,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What it means.
    pub level: Level,
    /// The finding, in a sentence.
    pub what: String,
    /// What can be done about it.
    pub fix: Option<String>,
}

impl Finding {
    fn new(level: Level, what: impl Into<String>) -> Self {
        Self { level, what: what.into(), fix: None }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// What the run will need.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Bytes that it will write at least, if that can be estimated; see [`rows_of_v1`].
    pub bytes: Option<u64>,
    /// How old the newest verified backup of V2 may be; `None` = none is asked for.
    pub backup: Option<Duration>,
    /// Postgres: the tables that a bulk load is to fill, if one is allowed.
    pub bulk_into: Vec<TableName>,
    /// Evolutions that are about to be applied or taken back, for the privileges which these and their records need. `None`
    /// where nothing evolves: what a migration needs is checked with its definitions.
    pub evolutions: Option<Vec<Pending>>,
}

/// A run writes rows, their indexes, ledger lines and the server's journal of all these: what is free should be this many
/// times what V1 holds. A rule of thumb, so that less is a warning only; less than V1 itself is not enough for sure.
const COMFORT: u64 = 3;

/// Looks at V2 in every respect. What cannot even be connected to is an error of the connection.
///
/// # Errors
/// As connecting to V2.
pub async fn look(settings: &Settings, needs: &Needs) -> Result<Vec<Finding>> {
    let mut findings = match connect::scheme(Side::V2, settings)? {
        Scheme::Postgres => postgres::look(settings, needs).await?,
        Scheme::MongoDb => mongodb::look(settings, needs).await?,
    };
    if let Some(most) = needs.backup {
        findings.push(fresh_backup(settings, most).await?);
    }
    Ok(findings)
}

/// As [`look`], and stops at what is blocking: with all of it.
///
/// # Errors
/// Refused, with every blocking finding; else as [`look`].
pub async fn require(settings: &Settings, needs: &Needs) -> Result<Vec<Finding>> {
    let findings = look(settings, needs).await?;
    let blocking = findings.iter().filter(|of| of.level == Level::Blocking);
    let obstacle = |of: &Finding| match &of.fix {
        Some(fix) => Error::refused(&of.what).help(fix),
        None => Error::refused(&of.what),
    };
    Error::in_the_way(blocking.map(obstacle).collect())?;
    Ok(findings)
}

/// Bytes of V1's tables, without indexes: what a run reads, and the least that it writes.
///
/// # Errors
/// As connecting to V1.
pub async fn rows_of_v1(settings: &Settings) -> Result<u64> {
    let mut v1 = connect::another(Side::V1, settings).await?;
    let sql = "select coalesce(sum(pg_table_size(c.oid)), 0)::int8 from pg_class c \
               join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";
    let bytes: i64 =
        sqlx::query_scalar(sql).fetch_one(&mut v1).await.map_err(|error| Error::database("V1", &error))?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}

async fn fresh_backup(settings: &Settings, most: Duration) -> Result<Finding> {
    let folder = settings.backups.display();
    let fix = "`v1v2 backup create` takes one and reads it back";
    let Some(found) = backup::latest_verified(settings).await? else {
        return Ok(Finding::new(
            Level::Blocking,
            format!("a backup is required, and {folder} holds no verified one of this V2"),
        )
        .fix(fix));
    };
    let age = found.age().unwrap_or(Duration::MAX);
    if age > most {
        return Ok(Finding::new(
            Level::Blocking,
            format!(
                "a backup of the last {} is required, and the newest verified one of this V2 is {} old ({})",
                time(most),
                time(age),
                found.name()
            ),
        )
        .fix(fix));
    }
    Ok(Finding::new(Level::Good, format!("the backup {} is verified and {} old", found.name(), time(age))))
}

/// Free disk against what will be written.
fn disk(place: &str, free: Option<u64>, needed: Option<u64>) -> Finding {
    let (Some(free), Some(needed)) = (free, needed) else {
        let what = match free {
            None => format!("{place} does not tell its free disk"),
            Some(free) => format!("{place} has {} MiB of free disk", free >> 20),
        };
        return Finding::new(if free.is_none() { Level::Unknown } else { Level::Good }, what);
    };
    let level = match free {
        free if free < needed => Level::Blocking,
        free if free < needed.saturating_mul(COMFORT) => Level::Warning,
        _ => Level::Good,
    };
    let what =
        format!("{place} has {} MiB of free disk, and V1's rows alone are {} MiB", free >> 20, needed >> 20);
    match level {
        Level::Good => Finding::new(level, what),
        _ => Finding::new(level, what)
            .fix(format!("free disk on V2's server: {COMFORT} times V1's rows is comfortable")),
    }
}

fn time(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_is_judged_by_what_will_be_written() {
        let level = |free, needed| disk("V2", free, needed).level;
        assert_eq!(level(None, Some(1)), Level::Unknown);
        assert_eq!(level(Some(10), None), Level::Good);
        assert_eq!(level(Some(9), Some(10)), Level::Blocking);
        assert_eq!(level(Some(29), Some(10)), Level::Warning);
        assert_eq!(level(Some(30), Some(10)), Level::Good);
    }
}
