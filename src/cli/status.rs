//! `v1v2 status`: what the ledger says, in a table.

use super::{Context, Outcome};
use crate::error::{Error, Result};

pub(super) async fn run(_context: &Context) -> Result<Outcome> {
    Err(Error::failed("`v1v2 status` is not connected to the engine yet"))
}
