//! `v1v2 users verify-login`: whether somebody can log in.

use super::{Context, Outcome, VerifyLoginArgs};
use crate::error::{Error, Result};

pub(super) async fn verify_login(_context: &Context, _args: &VerifyLoginArgs) -> Result<Outcome> {
    Err(Error::failed("`v1v2 users verify-login` is not connected to the engine yet"))
}
