//! `v1v2 repair`: puts back what an interrupted bulk load left out.

use super::{Context, Outcome};
use crate::error::{Error, Result};

pub(super) async fn run(_context: &Context) -> Result<Outcome> {
    Err(Error::failed("`v1v2 repair` is not connected to the engine yet"))
}
