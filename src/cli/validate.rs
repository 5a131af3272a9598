//! `v1v2 validate`: whether V2 holds what it should.

use super::{Context, Outcome, ValidateArgs};
use crate::error::{Error, Result};

pub(super) async fn run(_context: &Context, _args: &ValidateArgs) -> Result<Outcome> {
    Err(Error::failed("`v1v2 validate` is not connected to the engine yet"))
}
