//! `v1v2 migrate`: the main job.

use super::{Context, MigrateArgs, Outcome};
use crate::error::{Error, Result};

pub(super) async fn run(_context: &Context, _args: &MigrateArgs) -> Result<Outcome> {
    Err(Error::failed("`v1v2 migrate` is not connected to the engine yet"))
}
