//! `v1v2 users verify-login`: whether one person's password opens the account, checked as the application would.

use secrecy::ExposeSecret;

use super::{Context, Outcome, VerifyLoginArgs};
use crate::credentials::{LoginCheck, check_login};
use crate::error::{Error, Result};
use crate::report::{self, Event};
use crate::target;

pub(super) async fn verify_login(context: &Context, args: &VerifyLoginArgs) -> Result<Outcome> {
    let target = target::open(&context.settings)?;
    let plan = super::check::compile(context, &*target).await?;
    let mut v2 = target.control().await?;
    let Some(login) = v2.login(&plan, &args.email).await? else {
        let place = target.place();
        return Err(Error::differences(format!("{place} has no account with that email or user name")).help(
            "look it up in the accounts table; suffixed and placeholder emails are in the conflict log",
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
