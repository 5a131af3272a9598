//! `v1v2 settings`: the documented defaults, ready to be saved as `v1v2.toml`.

use super::{Context, Outcome};
use crate::error::Result;
use crate::settings::DEFAULTS;

pub(super) fn run(context: &Context) -> Result<Outcome> {
    context.output.raw(DEFAULTS);
    Ok(Outcome::Done)
}
