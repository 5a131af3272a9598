//! `v1v2 setup`: creates what V2 needs.

use super::{Context, Outcome, SetupArgs};
use crate::error::{Error, Result};

pub(super) async fn run(_context: &Context, _args: &SetupArgs) -> Result<Outcome> {
    Err(Error::failed("`v1v2 setup` is not connected to the engine yet"))
}
