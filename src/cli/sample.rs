//! `v1v2 sample`: an example V1 to try everything on.

use super::{Context, Outcome, SampleArgs};
use crate::error::{Error, Result};

pub(super) async fn run(_context: &Context, _args: &SampleArgs) -> Result<Outcome> {
    Err(Error::failed("`v1v2 sample` is not connected to the engine yet"))
}
