//! Postgres as V2: whether it takes writes, its replicas, its user's privileges, and its disk as far as that can be seen.
//! Postgres has no question for free disk; where its data folder is on this machine, the system answers.

mod bulk;
mod privileges;
mod scripts;

use sqlx::Row;

use super::{Finding, Level, Needs, disk};
use crate::connect::{self, Side};
use crate::error::{Error, Result};
use crate::settings::Settings;

pub(super) async fn look(settings: &Settings, needs: &Needs) -> Result<Vec<Finding>> {
    let place = connect::place(Side::V2, settings)?;
    let label = place.to_string();
    let mut v2 = connect::another(Side::V2, settings).await?;
    let row = sqlx::query(
        "select current_setting('server_version'), pg_is_in_recovery(), \
                current_setting('default_transaction_read_only')::bool, current_setting('data_directory', true), \
                (select count(*) from pg_stat_replication where state is not null and state <> 'streaming')",
    )
    .fetch_one(&mut v2)
    .await
    .map_err(|error| Error::database(&label, &error));
    // Who may not read the data folder's name may not ask for it at all.
    let (version, standby, read_only, folder, behind) = match row {
        Ok(row) => {
            (row.get(0), row.get(1), row.get(2), row.get::<Option<String>, _>(3), row.get::<i64, _>(4))
        }
        Err(error) if error.sqlstate() == Some("42501") => {
            let row = sqlx::query(
                "select current_setting('server_version'), pg_is_in_recovery(), \
                        current_setting('default_transaction_read_only')::bool",
            )
            .fetch_one(&mut v2)
            .await
            .map_err(|error| Error::database(&label, &error))?;
            (row.get(0), row.get(1), row.get(2), None, 0)
        }
        Err(error) => return Err(error),
    };
    let version: String = version;
    let mut findings = vec![Finding::new(Level::Good, format!("{label} runs Postgres {version}"))];
    if standby {
        findings.push(
            Finding::new(Level::Blocking, format!("{label} is a standby and takes no writes"))
                .fix("point V2_DATABASE_URL at the primary"),
        );
    } else if read_only {
        findings.push(
            Finding::new(Level::Blocking, format!("{label} is read-only (default_transaction_read_only)"))
                .fix("alter database … set default_transaction_read_only to off"),
        );
    }
    if behind > 0 {
        findings.push(
            Finding::new(Level::Warning, format!("{label}: {behind} replicas do not stream at the moment"))
                .fix("look at pg_stat_replication"),
        );
    }
    let free = folder.filter(|_| is_here(&place.host)).and_then(|folder| {
        let found = rustix::fs::statvfs(folder.as_str()).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    });
    findings.push(disk(&label, free, needs.bytes));
    if !needs.bulk_into.is_empty() {
        findings.extend(bulk::look(&mut v2, &label, &needs.bulk_into).await?);
    }
    if let Some(pending) = &needs.evolutions {
        findings.extend(privileges::look(&mut v2, &label, pending).await?);
    }
    Ok(findings)
}

/// The server's folders are ours to look at. A name for this machine may still lead into a container, whose folder then
/// does not exist here.
fn is_here(host: &str) -> bool {
    host.starts_with('/') || matches!(host, "localhost" | "127.0.0.1" | "::1")
}
