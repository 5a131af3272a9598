//! `v1v2 check`: every problem of the definitions, before anything runs.

use super::{CheckArgs, Context, Outcome};
use crate::error::{Error, Result};

pub(super) async fn run(_context: &Context, _args: &CheckArgs) -> Result<Outcome> {
    Err(Error::failed("`v1v2 check` is not connected to the engine yet"))
}
