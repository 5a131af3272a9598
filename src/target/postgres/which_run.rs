//! Which run a rollback takes back.
//!
//! Without an id it is the newest one and no other. Going on to the newest that is *left* would be handy for a person who undoes
//! step by step, and a disaster in a script that repeats a rollback whose answer got lost, or that calls one
//! after a run that failed before its first chunk: it would take back work that nobody spoke of.

use sqlx::PgConnection;
use uuid::Uuid;

use super::replace;
use crate::error::{Error, Result};
use crate::target::{Nothing, RunName, ToTakeBack};

/// Rows that the run `r` brought, changed or removed.
const HAS_WRITTEN: &str = "(exists (select from v1v2.ledger where run = r.no) \
                             or exists (select from v1v2.replaced where run = r.no))";

/// What there is to take back: the run with this id, or the newest one.
pub async fn find_run(connection: &mut PgConnection, id: Option<&str>, place: &str) -> Result<ToTakeBack> {
    let run = match id {
        Some(id) => {
            let uuid = Uuid::parse_str(id).map_err(|_| {
                Error::usage(format!("--run {id:?} is not a run's id"))
                    .help("`v1v2 status` lists the runs with their ids")
            })?;
            // Whoever names a run may also clear the log of one that changed nothing.
            let found = first(connection, place, "true", "id = $1", Some(uuid)).await?;
            found.ok_or_else(|| {
                Error::usage(format!("{place} knows no migration run {id}"))
                    .help("`v1v2 status` lists the runs with their ids")
            })?
        }
        None => first(connection, place, HAS_WRITTEN, "$1::uuid is null", None)
            .await?
            .ok_or_else(|| Error::refused(format!("{place} has no run that could be rolled back")))?,
    };
    let why = match run {
        Run { rolled_back: true, .. } => Nothing::RolledBack,
        Run { has_written: false, .. } => Nothing::ChangedNothing,
        Run { name, .. } => {
            replace::require_latest(connection, name, place).await?;
            return Ok(ToTakeBack::Run(name));
        }
    };
    let before = match id {
        Some(_) => None,
        None => {
            let left = format!("$1::uuid is null and state <> 'rolled_back' and {HAS_WRITTEN}");
            first(connection, place, "true", &left, None).await?.map(|run| run.name)
        }
    };
    Ok(ToTakeBack::Nothing { run: run.name, why, before })
}

struct Run {
    name: RunName,
    rolled_back: bool,
    has_written: bool,
}

/// The newest migration run of which the condition is true; `$1` in it is the id.
async fn first(
    connection: &mut PgConnection,
    place: &str,
    has_written: &str,
    condition: &str,
    id: Option<Uuid>,
) -> Result<Option<Run>> {
    let sql = format!(
        "select no, id, state = 'rolled_back', {has_written} from v1v2.runs r \
         where command = 'migrate' and {condition} order by no desc limit 1"
    );
    let found: Option<(i32, Uuid, bool, bool)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(|error| Error::database(place, &error))?;
    Ok(found.map(|(number, id, rolled_back, has_written)| Run {
        name: RunName { number, id },
        rolled_back,
        has_written,
    }))
}
