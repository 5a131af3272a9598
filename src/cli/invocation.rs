//! Raw arguments become what the program works with: settings resolved over all layers, the command, and the things every
//! command talks through. This happens once; after it nobody looks at flags, files or the environment again.

use std::io::IsTerminal;
use std::sync::Arc;

use super::BackupCommand;
use super::arguments::{Arguments, Command, Global};
use super::interrupt::Interrupt;
use crate::error::Result;
use crate::migrator::Migrators;
use crate::report::{Events, LogFile, Output, Progress, ProgressMode, init_logging, wants_color};
use crate::settings::{Settings, Sources};

/// One call of the program, resolved.
#[derive(Debug)]
pub struct Invocation {
    /// All settings.
    pub settings: Settings,
    /// What to do.
    pub command: Command,
}

/// What every command works with.
#[derive(Debug, Clone)]
pub struct Context {
    /// All settings.
    pub settings: Arc<Settings>,
    /// Results, on stdout.
    pub output: Arc<Output>,
    /// Results for scripts, with `--json`.
    pub events: Events,
    /// Progress, on stderr.
    pub progress: Progress,
    /// Ctrl-C.
    pub interrupt: Interrupt,
    /// The migrators in Rust that the program brings.
    pub migrators: Migrators,
    /// The command line, quoted for a shell: what to run again. The only secrets that can be flags, the URLs of a copy, are
    /// left out.
    pub command_line: String,
}

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done (exit 0).
    Done,
    /// Finished, but some rows could not be migrated (exit 3).
    Rejects,
}

impl Outcome {
    /// The program's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Rejects => 3,
        }
    }
}

impl Invocation {
    /// Resolves arguments, with the files and the environment of the process.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn resolve(arguments: Arguments) -> Result<Self> {
        let Arguments { global, command } = arguments;
        let flags = flags(&global, &command);
        let mut settings = Settings::load(Sources::of_process(flags, global.config))?;
        // A script that reads events wants no bars between them.
        settings.quiet |= settings.json;
        Ok(Self { settings, command })
    }

    /// Whether the command changes a database, and so leaves a log.
    pub fn changes(&self) -> bool {
        match &self.command {
            Command::Migrate(args) => !args.dry_run,
            Command::Setup(_) | Command::Rollback(_) | Command::Repair => true,
            Command::Evolve(command) => command.changes(),
            Command::Backup(BackupCommand::Restore(_) | BackupCommand::Copy(_)) => true,
            _ => false,
        }
    }

    /// The name of the command, for events.
    pub fn name(&self) -> &'static str {
        match self.command {
            Command::Setup(_) => "setup",
            Command::Check(_) => "check",
            Command::Migrate(_) => "migrate",
            Command::Status => "status",
            Command::Validate(_) => "validate",
            Command::Rollback(_) => "rollback",
            Command::Repair => "repair",
            Command::Evolve(_) => "evolve",
            Command::Backup(_) => "backup",
            Command::Sample(_) => "sample",
            Command::Credentials(_) => "credentials",
            Command::Users(_) => "users",
            Command::Settings => "settings",
            Command::Completions(_) => "completions",
        }
    }

    /// Opens output, progress and log.
    pub fn context(&self, interrupt: Interrupt, migrators: Migrators) -> Context {
        let settings = Arc::new(self.settings.clone());
        let output = Arc::new(Output::stdout(settings.json));
        let events = Events::new(settings.json.then(|| Arc::clone(&output)));
        let terminal = std::io::stderr().is_terminal();
        let mode = match (settings.quiet, terminal) {
            (true, _) => ProgressMode::Hidden,
            (false, true) => ProgressMode::Bars,
            (false, false) => ProgressMode::Lines,
        };
        let progress = Progress::with_events(mode, events.clone());
        let log = self.changes().then(|| LogFile::rotate(&settings.log_file, settings.log_keep));
        let (file, problem) = match log {
            Some(Ok(file)) => (Some(file), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        init_logging(&progress, settings.verbose, wants_color(settings.color, terminal), file);
        if let Some(error) = problem {
            tracing::warn!("no log is written to {}: {error}; the run goes on", settings.log_file.display());
        }
        Context { settings, output, events, progress, interrupt, migrators, command_line: command_line() }
    }
}

/// The settings that flags give.
fn flags(global: &Global, command: &Command) -> Vec<(&'static str, String)> {
    let mut flags = Vec::new();
    let mut text = |key, value: &Option<String>| {
        if let Some(value) = value {
            flags.push((key, value.clone()));
        }
    };
    text("migrators_dir", &global.migrators);
    text("evolutions", &global.evolutions);
    text("key_file", &global.key_file);
    text("log_file", &global.log_file);
    text("color", &global.color);
    if let Command::Migrate(args) = command {
        text("batch_size", &args.batch_size);
        text("writers", &args.writers);
        text("passwords", &args.passwords);
        text("on_edited", &args.on_edited);
        text("max_rows_per_second", &args.max_rows_per_second);
        text("max_lag", &args.max_lag);
        text("max_rejects", &args.max_rejects);
        text("require_backup", &args.require_backup);
    }
    if let Command::Check(args) = command {
        text("require_backup", &args.require_backup);
    }
    if let Command::Evolve(super::EvolveCommand::Up(args) | super::EvolveCommand::Down(args)) = command {
        text("require_backup", &args.require_backup);
    }
    let mut switch = |key, on: bool, value: &str| {
        if on {
            flags.push((key, value.to_owned()));
        }
    };
    switch("insecure_tls", global.insecure_tls, "true");
    switch("verbose", global.verbose, "true");
    switch("quiet", global.quiet, "true");
    switch("json", global.json, "true");
    if let Command::Migrate(args) = command {
        switch("bulk", args.no_bulk, "false");
        switch("into_existing", args.into_existing, "true");
    }
    flags
}

/// The command line of this process, such that a shell reads it as it was.
fn command_line() -> String {
    let quoted = std::env::args_os().skip(1).map(|argument| quote(&without_url(&argument.to_string_lossy())));
    std::iter::once("v1v2".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// A URL may hold a password.
fn without_url(argument: &str) -> std::borrow::Cow<'_, str> {
    match argument.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…").into(),
        None => argument.into(),
    }
}

fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@+%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn flags_become_settings() {
        let line =
            ["v1v2", "migrate", "--batch-size", "7", "--no-bulk", "--passwords", "keep", "-q", "--json"];
        let Arguments { global, command } = Arguments::try_parse_from(line).unwrap();
        let found = flags(&global, &command);
        for pair in [
            ("batch_size", "7"),
            ("bulk", "false"),
            ("passwords", "keep"),
            ("quiet", "true"),
            ("json", "true"),
        ] {
            assert!(found.contains(&(pair.0, pair.1.to_owned())), "{pair:?}");
        }
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn the_command_to_run_again_survives_a_shell() {
        assert_eq!(quote("--entities=a,b"), "--entities=a,b");
        assert_eq!(quote("schools:name = 'x y'"), r"'schools:name = '\''x y'\'''");
        assert_eq!(quote(""), "''");
    }
}
