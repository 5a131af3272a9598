//! `v1v2 credentials export`: the hand-out list, encrypted.

use super::{Context, ExportArgs, Outcome};
use crate::error::{Error, Result};

pub(super) async fn export(_context: &Context, _args: &ExportArgs) -> Result<Outcome> {
    Err(Error::failed("`v1v2 credentials export` is not connected to the engine yet"))
}
