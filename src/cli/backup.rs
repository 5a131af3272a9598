//! `v1v2 backup`: takes, lists, verifies and restores backups of V2, and copies MongoDB databases.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use secrecy::SecretString;

use super::{Context, Outcome};
use crate::backup::{self, BackupInfo, Copied, Observer, Occupied, Restored, Restoring, State};
use crate::error::{Error, Kind, Result};
use crate::report::{self, Align, EntityProgress, Event, Progress, Table, printable};

/// `v1v2 backup`
#[derive(Debug, Clone, Subcommand)]
pub enum BackupCommand {
    /// Take a backup of V2 and read it back
    Create(BackupCreateArgs),
    /// Show all backups with their state
    List(BackupListArgs),
    /// Read everything of a backup back and compare it with its checksums and counts
    Verify(BackupVerifyArgs),
    /// Put a backup into V2
    Restore(BackupRestoreArgs),
    /// Copy a MongoDB database to another server or another name
    Copy(BackupCopyArgs),
}

/// `v1v2 backup create`
#[derive(Debug, Clone, Args)]
pub struct BackupCreateArgs {
    /// Folder that gets the backup's own folder, instead of the setting `backups`
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub to: Option<PathBuf>,
}

/// `v1v2 backup list`
#[derive(Debug, Clone, Args)]
pub struct BackupListArgs {
    /// Folder of the backups, instead of the setting `backups`
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: Option<PathBuf>,
}

/// `v1v2 backup verify`
#[derive(Debug, Clone, Args)]
pub struct BackupVerifyArgs {
    /// The backup's folder, or its name in the setting `backups`; the newest if not given
    #[arg(value_name = "BACKUP", value_hint = ValueHint::DirPath)]
    pub backup: Option<PathBuf>,
}

/// `v1v2 backup restore`
#[derive(Debug, Clone, Args)]
pub struct BackupRestoreArgs {
    /// The backup's folder, or its name in the setting `backups`
    #[arg(value_name = "BACKUP", value_hint = ValueHint::DirPath)]
    pub backup: PathBuf,
    /// Remove everything from V2 first, whoever made it
    #[arg(long)]
    pub clean: bool,
    /// Postgres: give everything to the user of the URL, without owners and grants
    #[arg(long)]
    pub no_owner: bool,
    /// Do not ask
    #[arg(long)]
    pub force: bool,
}

/// `v1v2 backup copy`
#[derive(Debug, Clone, Args)]
pub struct BackupCopyArgs {
    /// URL of the database to copy; arguments show in process lists, so a password is better given in the environment
    #[arg(long, value_name = "URI", env = "V1V2_COPY_FROM", hide_env_values = true, value_parser = secret)]
    pub from: SecretString,
    /// URL of the database to make; the same holds
    #[arg(long, value_name = "URI", env = "V1V2_COPY_TO", hide_env_values = true, value_parser = secret)]
    pub to: SecretString,
    /// Remove what an interrupted copy left in the target first
    #[arg(long)]
    pub start_over: bool,
}

// A type of its own, so that no Debug text of arguments shows it.
fn secret(text: &str) -> std::result::Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}

pub(super) async fn run(context: &Context, command: &BackupCommand) -> Result<Outcome> {
    let bars = Bars::new(context.progress.clone());
    let done = match command {
        BackupCommand::Create(args) => create(context, args, &bars).await,
        BackupCommand::List(args) => list(context, args),
        BackupCommand::Verify(args) => verify(context, args, &bars).await,
        BackupCommand::Restore(args) => restore(context, args, &bars).await,
        BackupCommand::Copy(args) => copy(context, args, &bars).await,
    };
    bars.finish();
    done.map(|()| Outcome::Done)
}

fn tell(context: &Context, value: serde_json::Result<serde_json::Value>) {
    if let Ok(value) = value {
        context.events.emit(&Event::Result { command: "backup".to_owned(), value });
    }
}

async fn create(context: &Context, args: &BackupCreateArgs, bars: &Bars) -> Result<()> {
    let made = backup::create(&context.settings, args.to.as_deref(), bars).await?;
    bars.finish();
    tell(context, serde_json::to_value(&made));
    if let Some(manifest) = &made.manifest {
        let mut table = Table::new([("in the backup", Align::Left), ("rows", Align::Right)]);
        for content in &manifest.contents {
            table.row([printable(&content.full_name()).into_owned(), content.rows.to_string()]);
        }
        context.output.table(&table);
        context.output.line(format!("contents of {}", printable(&manifest.consistency)));
    }
    context.output.line(format!("{}: {}, read back and whole", made.path.display(), size(made.size)));
    Ok(())
}

fn list(context: &Context, args: &BackupListArgs) -> Result<()> {
    let folder = args.folder.as_deref().unwrap_or(&context.settings.backups);
    let found = backup::list(folder)?;
    tell(context, serde_json::to_value(&found));
    if found.is_empty() {
        context.output.line(format!("no backup in {}", folder.display()));
        return Ok(());
    }
    let mut table = Table::new([
        ("backup", Align::Left),
        ("database", Align::Left),
        ("size", Align::Right),
        ("age", Align::Right),
        ("state", Align::Left),
    ]);
    for of in &found {
        let database =
            of.manifest.as_ref().map(|manifest| format!("{} ({})", manifest.database, manifest.kind));
        let age = of.age().map(age).unwrap_or_default();
        let row = [of.name(), database.unwrap_or_default(), size(of.size), age, state(of)];
        table.row(row.map(|cell| printable(&cell).into_owned()));
    }
    context.output.table(&table);
    Ok(())
}

fn state(of: &BackupInfo) -> String {
    match &of.state {
        State::Complete => "complete, not verified".to_owned(),
        State::Verified { at } => format!("verified at {}", at.split('.').next().unwrap_or(at)),
        State::Damaged { problems } => {
            format!("damaged: {}", problems.first().map(String::as_str).unwrap_or_default())
        }
        State::Partial => "partial: never finished, or under way".to_owned(),
        State::Unreadable { problem } => format!("unreadable: {problem}"),
    }
}

async fn verify(context: &Context, args: &BackupVerifyArgs, bars: &Bars) -> Result<()> {
    let path = backup::find(&context.settings, args.backup.as_deref())?;
    let found = backup::verify(&path, bars).await?;
    bars.finish();
    tell(context, serde_json::to_value(&found));
    let rows = found.manifest.as_ref().map_or(0, |manifest| manifest.rows);
    context.output.line(format!("{} is whole: {rows} rows read back", path.display()));
    Ok(())
}

async fn restore(context: &Context, args: &BackupRestoreArgs, bars: &Bars) -> Result<()> {
    let settings = &context.settings;
    let path = backup::find(settings, Some(&args.backup))?;
    if args.clean && !args.force {
        ask(context, &backup::what_is_there(settings).await?)?;
    }
    let how = Restoring { clean: args.clean, no_owner: args.no_owner };
    let restored = backup::restore(settings, &path, how, bars).await?;
    bars.finish();
    tell(context, serde_json::to_value(&restored));
    let Restored { database, contents, rows, .. } = &restored;
    context.output.line(format!(
        "{}: {contents} tables or collections with {rows} rows restored and compared",
        printable(database)
    ));
    Ok(())
}

/// Shows what goes, and lets the user type the database's name.
fn ask(context: &Context, there: &Occupied) -> Result<()> {
    if there.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([("what goes", Align::Left), ("rows, about", Align::Right)]);
    for (name, rows) in &there.contents {
        table.row([printable(name).into_owned(), rows.to_string()]);
    }
    context.output.table(&table);
    let question = format!("This removes everything from {} and cannot be undone.", there.place);
    report::type_to_confirm(&question, &there.database).map_err(|error| match error.kind() {
        Kind::Usage => {
            Error::usage(error.message()).help("add --force to remove everything without being asked")
        }
        _ => error,
    })
}

async fn copy(context: &Context, args: &BackupCopyArgs, bars: &Bars) -> Result<()> {
    let copied = backup::copy(&context.settings, &args.from, &args.to, args.start_over, bars).await?;
    bars.finish();
    tell(context, serde_json::to_value(&copied));
    let Copied { from, to, collections, documents } = &copied;
    let mut table = Table::new([("collection", Align::Left), ("documents", Align::Right)]);
    for (name, documents) in collections {
        table.row([printable(name).into_owned(), documents.to_string()]);
    }
    context.output.table(&table);
    context.output.line(format!("{documents} documents copied from {from} to {to}, and compared"));
    Ok(())
}

/// `1.5 MiB`
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// One bar at a time.
pub(super) struct Bars {
    progress: Progress,
    current: Mutex<Option<EntityProgress>>,
}

impl Bars {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, current: Mutex::default() }
    }

    fn show(&self, next: Option<EntityProgress>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *current, next) {
            before.finish();
        }
    }

    pub(super) fn finish(&self) {
        self.show(None);
    }
}

impl Observer for Bars {
    fn step(&self, what: &str) {
        tracing::info!("{}", printable(what));
    }

    fn begin(&self, name: &str, rows: Option<u64>) {
        self.show(Some(self.progress.entity(name, rows)));
    }

    fn advance(&self, rows: u64) {
        if let Some(current) = &*self.current.lock().unwrap_or_else(PoisonError::into_inner) {
            current.advance(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!(
            (size(17), size(1536), size(3 << 30)),
            ("17 B".into(), "1.5 KiB".into(), "3.0 GiB".into())
        );
        let of = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(
            (of(3), of(600), of(7_200), of(200_000)),
            ("3 s".into(), "10 min".into(), "2 h".into(), "2 days".into())
        );
    }

    #[test]
    fn no_text_of_arguments_shows_a_url() {
        let args = BackupCopyArgs {
            from: secret("CANARY").unwrap(),
            to: secret("CANARY").unwrap(),
            start_over: false,
        };
        assert!(!format!("{args:?}").contains("CANARY"));
    }
}
