//! `v1v2 rollback`: undoes a run.

use super::{Context, Outcome, RollbackArgs};
use crate::error::{Error, Result};

pub(super) async fn run(_context: &Context, _args: &RollbackArgs) -> Result<Outcome> {
    Err(Error::failed("`v1v2 rollback` is not connected to the engine yet"))
}
