//! `--safe`: look ahead, take a backup, do the work, validate it; when that fails, take it back, and when that fails too, restore the
//! backup. Whatever the end is, it is told in full: what failed, what was done about it, and what state V2 is in.

use std::path::Path;

use super::backup::Bars;
use super::{Context, Outcome};
use crate::backup::{self, Restoring};
use crate::error::{Error, Kind, Result};
use crate::failpoint;

/// Does `work`, for which the look ahead has found no obstacle, under the protection of a fresh, verified backup. `undo` takes back what the work did; it returns `false` if the
/// work had changed nothing.
pub(super) async fn guard(
    context: &Context,
    work: impl AsyncFnOnce() -> Result<Outcome>,
    undo: impl AsyncFnOnce() -> Result<bool>,
) -> Result<Outcome> {
    // Whoever interrupts means the work; taking it back is seen through.
    let _finishing = context.interrupt.finish_first();
    let bars = Bars::new(context.progress.clone());
    let made = backup::create(&context.settings, None, &bars).await;
    bars.finish();
    let made = made.map_err(|error| {
        let why = format!(
            "the backup that --safe begins with failed, and nothing was changed: {}",
            error.message()
        );
        copy_of(&error, why)
    })?;
    context.output.line(format!("backup: {}, read back and whole", made.path.display()));
    failpoint::reach("safe.backed_up")?;
    let worked = work().await;
    let error = match worked.and_then(|outcome| Ok(failpoint::reach("safe.worked").map(|()| outcome)?)) {
        Ok(outcome) => return Ok(outcome),
        Err(error) => error,
    };
    tracing::error!("{}; taking it back", error.message());
    let undone = undo().await;
    let end = match undone.and_then(|changed| Ok(failpoint::reach("safe.undone").map(|()| changed)?)) {
        Ok(false) => "it had changed nothing in V2".to_owned(),
        Ok(true) => "it was taken back: V2 is as it was before".to_owned(),
        Err(refused) => {
            tracing::error!("taking it back failed: {}; restoring the backup", refused.message());
            match restore(context, &made.path).await {
                Ok(()) => format!(
                    "taking it back failed ({}), so the backup was restored: V2 is as it was before (backup {})",
                    refused.message(),
                    made.path.display()
                ),
                Err(lost) => {
                    let why = format!(
                        "{}; taking it back failed as well: {}; and so did restoring the backup: {}",
                        error.message(),
                        refused.message(),
                        lost.message()
                    );
                    return Err(copy_of(&error, why).help(format!(
                        "V2 is in between: once the cause is mended, `v1v2 backup restore {} --clean` makes it what it was",
                        made.path.display()
                    )));
                }
            }
        }
    };
    let why = format!("{}; {end}", error.message());
    Err(copy_of(&error, why))
}

async fn restore(context: &Context, path: &Path) -> Result<()> {
    let bars = Bars::new(context.progress.clone());
    let how = Restoring { clean: true, no_owner: false };
    failpoint::reach("safe.restore")?;
    let restored = backup::restore(&context.settings, path, how, &bars).await;
    bars.finish();
    restored.map(drop)
}

/// The same kind of error, exit code, fix and details, with another sentence.
fn copy_of(error: &Error, message: String) -> Error {
    let copy = match error.kind() {
        Kind::Usage => Error::usage(message),
        Kind::Refused => Error::refused(message),
        Kind::Differences => Error::differences(message),
        Kind::Interrupted => Error::interrupted(message),
        Kind::Failed => Error::failed(message),
    };
    let copy = match error.fix() {
        Some(fix) => copy.help(fix),
        None => copy,
    };
    match error.more() {
        Some(more) => copy.details(more),
        None => copy,
    }
}
