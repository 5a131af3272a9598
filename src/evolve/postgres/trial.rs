//! `--dry-run`: everything is executed in one transaction, which is rolled back. So the database itself says whether it
//! would work. What cannot be in a transaction ends the trial: what follows may need it. (Numbers taken from sequences
//! are not given back, as ever; and locks are held until the end, as they would be.)

use sqlx::PgConnection;

use super::work::{execute, plain};
use crate::error::{Error, Result};
use crate::evolve::Job;

pub(super) async fn attempt(
    connection: &mut PgConnection,
    jobs: &[Job<'_>],
    place: &str,
) -> Result<Vec<Vec<String>>> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    plain(connection, "begin").await.map_err(failed)?;
    let tried = all(connection, jobs, place).await;
    plain(connection, "rollback").await.map_err(failed)?;
    tried
}

async fn all(connection: &mut PgConnection, jobs: &[Job<'_>], place: &str) -> Result<Vec<Vec<String>>> {
    let failed = |error: sqlx::Error| Error::database(place, &error);
    let mut told = Vec::new();
    let mut ended: Option<&str> = None;
    for job in jobs {
        let Some(script) = job.script else {
            told.push(vec!["would only be noted as taken back".to_owned()]);
            continue;
        };
        let statements = match script.parts() {
            1 => "1 statement".to_owned(),
            parts => format!("{parts} statements"),
        };
        if let Some(cause) = ended {
            told.push(vec![format!("{statements}; not tried, because {cause} was not")]);
            continue;
        }
        if !job.evolution.transaction {
            told.push(vec![format!("{statements}; not tried, as they cannot be rolled back")]);
            ended = Some(&job.evolution.name);
            continue;
        }
        let mut rows = 0;
        for index in 0..script.parts() {
            rows += execute(connection, script, index, place).await?;
        }
        plain(connection, "reset role").await.map_err(failed)?;
        let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
        told.push(vec![format!("{statements}, {rows} changed; rolled back")]);
    }
    plain(connection, "set constraints all immediate").await.map_err(failed)?;
    Ok(told)
}
