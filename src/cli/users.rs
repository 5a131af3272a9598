//! `v1v2 users verify-login`: whether one person's password opens the account, checked as the application would.

use secrecy::ExposeSecret;

use super::{Context, Outcome, VerifyLoginArgs};
use crate::connect::{self, Side};
use crate::credentials::{LoginCheck, check_login};
use crate::error::{Error, Result};
use crate::report::{self, Event};
use crate::target::postgres::accounts;

pub(super) async fn verify_login(context: &Context, args: &VerifyLoginArgs) -> Result<Outcome> {
    let settings = &context.settings;
    let target = connect::place(Side::V2, settings)?.to_string();
    let plan = super::check::compile(context).await?;
    let mut v2 = connect::postgres(Side::V2, settings).await?;
    let Some(login) = accounts::login(&mut v2, &plan, &target, &args.email).await? else {
        return Err(Error::differences(format!("{target} has no account with that email or user name"))
            .help(
                "look it up in the accounts table; suffixed and placeholder emails are in v1v2.conflicts",
            ));
    };
    let password = report::password("Password: ")?;
    // A hash takes tens of milliseconds: not on the threads that answer the network.
    let check = tokio::task::spawn_blocking(move || {
        check_login(login.hash.as_deref(), login.locked, password.expose_secret())
    })
    .await
    .map_err(|_| Error::failed("the check of the password panicked"))?;
    context.events.emit(&Event::Result {
        command: "verify-login".to_owned(),
        value: serde_json::json!({ "accepted": check.accepted() }),
    });
    match check {
        check if check.accepted() => {
            context.output.line("the password opens the account");
            Ok(Outcome::Done)
        }
        LoginCheck::Locked => Err(Error::differences("the account is locked")),
        _ => Err(Error::differences("the password does not open the account")),
    }
}
