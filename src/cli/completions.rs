//! `v1v2 completions SHELL`: made from the same definition that parses, so they cannot be out of date.

use clap::CommandFactory;

use super::{Arguments, CompletionsArgs, Context, Outcome};
use crate::error::{Error, Result};

pub(super) fn run(context: &Context, args: &CompletionsArgs) -> Result<Outcome> {
    // Into memory first: the generator panics if its writer fails, as stdout does after `| head`.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "v1v2", &mut script);
    let script = String::from_utf8(script).map_err(|_| Error::failed("the completions are not UTF-8"))?;
    context.output.raw(&script);
    Ok(Outcome::Done)
}
