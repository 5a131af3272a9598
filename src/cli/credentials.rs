//! `v1v2 credentials export`: the hand-out list of generated passwords.

use super::{Context, ExportArgs, Outcome};
use crate::credentials::{self, Credential, ExportOutput, Place, Protection, Recipients};
use crate::error::{Error, Result};
use crate::password;
use crate::report::Event;
use crate::target::{self, FreshAccount};

/// Accounts read ahead of the writer.
const READ_AHEAD: usize = 256;

pub(super) async fn export(context: &Context, args: &ExportArgs) -> Result<Outcome> {
    let output = output(args)?;
    let settings = &context.settings;
    let target = target::open(settings)?;
    let plan = super::check::compile(context, &*target).await?;
    let mut v2 = target.control().await?;
    let key = password::load(&settings.key_file)?;
    let known = crate::run::password_facts(&mut *v2).await?;
    let Some((fingerprint, length)) = known else {
        return Err(Error::refused(format!("{}: no run has generated passwords", target.place()))
            .help("`v1v2 migrate --passwords generate` does"));
    };
    if fingerprint != key.fingerprint() {
        return Err(Error::refused(format!(
            "the key file {} is not the one that the passwords in V2 were derived from (its fingerprint is {}, V2 says {fingerprint})",
            settings.key_file.display(),
            key.fingerprint()
        ))
        .help("use the key file of the runs (`key_file`, V1V2_KEY_FILE)"));
    }
    let length = password::check_length(length)?;

    // The list is encrypted and written on a thread of its own, row by row as V2 sends them.
    let (sender, receiver) = std::sync::mpsc::sync_channel(READ_AHEAD);
    let writing = tokio::task::spawn_blocking(move || credentials::write(receiver.into_iter(), output));
    let mut each = |account: FreshAccount| {
        let password = password::derive(&key, &account.id, length);
        let credential = Credential {
            scope: account.scope,
            entity: account.entity,
            name: account.name,
            login: account.login,
            email: account.email,
            password,
        };
        tokio::task::block_in_place(|| {
            sender.send(Ok(credential)).map_err(|_| Error::failed("the list's writer has stopped"))
        })
    };
    let read = v2.fresh_accounts(&plan, &mut each).await;
    if let Err(error) = &read {
        // Half a list must not pass for a whole one.
        drop(sender.send(Err(Error::failed(error.message()))));
    }
    drop(sender);
    let written = writing.await.map_err(|_| Error::failed("the list's writer panicked"))?;
    let count = written?;
    read?;
    context.events.emit(&Event::Result {
        command: "credentials".to_owned(),
        value: serde_json::json!({ "accounts": count }),
    });
    context.output.line(format!("{count} accounts with a generated password that nobody has changed yet"));
    Ok(Outcome::Done)
}

fn output(args: &ExportArgs) -> Result<ExportOutput> {
    let protection = match (args.recipient.is_empty(), args.plain) {
        (false, false) => Protection::Age { recipients: Recipients::parse(&args.recipient)?, armor: true },
        (true, true) => Protection::Plain,
        (true, false) => {
            return Err(Error::usage("the list holds passwords and must be encrypted")
                .help("name who may read it: --recipient age1… (made by age-keygen), or say --plain"));
        }
        (false, true) => {
            return Err(
                Error::usage("--recipient and --plain exclude each other").help("leave one of them out")
            );
        }
    };
    let place = match (&args.output, &args.per_scope) {
        (Some(file), None) => Place::File(file.clone()),
        (None, Some(folder)) => Place::FolderPerScope(folder.clone()),
        _ => {
            return Err(Error::usage("the list needs one place to go to")
                .help("--output FILE for one list, or --per-scope FOLDER for one file each"));
        }
    };
    Ok(ExportOutput { place, protection })
}
