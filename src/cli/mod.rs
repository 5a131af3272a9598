//! The command line: raw arguments become an [`Invocation`], the invocation one call of the engine, and its end an exit code.
//!
//! One small file for each command: parse, call the library, print. The command runs on a thread of its own, so that the
//! main thread can always answer Ctrl-C, whatever the command is busy with, and survives if it panics.

mod arguments;
mod backup;
mod check;
mod completions;
mod credentials;
mod evolve;
mod interrupt;
mod invocation;
mod migrate;
mod repair;
mod rollback;
mod safe;
mod sample;
mod settings;
mod setup;
mod status;
mod users;
mod validate;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use tokio::sync::oneshot;

pub use arguments::*;
pub use backup::{
    BackupCommand, BackupCopyArgs, BackupCreateArgs, BackupListArgs, BackupRestoreArgs, BackupVerifyArgs,
};
pub use evolve::{EvolveArgs, EvolveCommand, EvolveNewArgs};
pub use interrupt::{Finishing, Interrupt};
pub use invocation::{Context, Invocation, Outcome};

use crate::error::{Error, Result};
use crate::migrator::{Definition, Migrator, Migrators};
use crate::report::{Event, print_error};
use crate::settings::Color;
use interrupt::Signal;

/// The program, with migrators in Rust that it brings.
#[derive(Debug, Default)]
pub struct Program {
    migrators: Migrators,
}

/// The program with a migrator of one's own for an entity: `with("people", People).main()`, where `People` makes the
/// migrator of the one that runs the entity's definition. `examples/own_migrator.rs` is such a program.
pub fn with<M: Migrator + 'static>(
    entity: &str,
    make: impl Fn(Definition) -> M + Send + Sync + 'static,
) -> Program {
    Program::default().with(entity, make)
}

/// Runs the program as it is.
pub fn main() -> ExitCode {
    Program::default().main()
}

impl Program {
    /// One more migrator, for another entity.
    #[must_use]
    pub fn with<M: Migrator + 'static>(
        mut self,
        entity: &str,
        make: impl Fn(Definition) -> M + Send + Sync + 'static,
    ) -> Self {
        self.migrators.add(entity, Arc::new(move |definition| Box::new(make(definition))));
        self
    }

    /// Runs the program.
    pub fn main(self) -> ExitCode {
        run(self.migrators)
    }
}

fn run(migrators: Migrators) -> ExitCode {
    std::panic::set_hook(Box::new(report_panic));
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A reader of `--help | head` may be gone.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // Before the settings are known, the flag alone says what to do about colours.
    let color = match arguments.global.color.as_deref() {
        Some("never") => Color::Never,
        Some("always") => Color::Always,
        _ => Color::Auto,
    };
    match Invocation::resolve(arguments) {
        Ok(invocation) => ExitCode::from(invoke(invocation, migrators)),
        Err(error) => {
            print_error(&error, color);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs an invocation and tells its end.
fn invoke(invocation: Invocation, migrators: Migrators) -> u8 {
    let started = Instant::now();
    let color = invocation.settings.color;
    let name = invocation.name();
    let (signal, interrupt) = interrupt::pair();
    let context = invocation.context(interrupt, migrators);
    let events = context.events.clone();
    let progress = context.progress.clone();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    // Completions and settings print text whatever the mode.
    let told = !matches!(name, "completions" | "settings");
    if told {
        events.emit(&Event::Started { command: name.to_owned(), version });
    }
    let ended = supervise(context, invocation.command, &signal);
    let exit_code = match &ended {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            events.emit(&Event::Error {
                message: error.message().to_owned(),
                fix: error.fix().map(str::to_owned),
                details: error.more().map(str::to_owned),
            });
            tracing::debug!(exit_code = error.exit_code(), "ended: {}", error.message());
            progress.suspend(|| print_error(error, color));
            error.exit_code()
        }
    };
    if told {
        events.emit(&Event::Finished { exit_code, seconds: started.elapsed().as_secs_f64() });
    }
    exit_code
}

/// Runs the command on its own thread and answers signals meanwhile.
fn supervise(context: Context, command: Command, signal: &Signal) -> Result<Outcome> {
    let failed = |error: std::io::Error| Error::failed(format!("the program cannot start: {error}"));
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (sender, receiver) = oneshot::channel();
    // 8 MiB: what a main thread has.
    let thread = std::thread::Builder::new().name("command".to_owned()).stack_size(8 << 20);
    thread
        .spawn(move || {
            let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
                Ok(runtime) => {
                    let result = runtime.block_on(dispatch(&context, &command));
                    // Nobody waits for hashes that no one needs any more.
                    runtime.shutdown_background();
                    result
                }
                Err(error) => Err(failed(error)),
            };
            // The receiver is gone only if the user has quit.
            drop(sender.send(result));
        })
        .map_err(failed)?;
    waiting.block_on(async {
        let mut receiver = receiver;
        loop {
            tokio::select! {
                result = &mut receiver => {
                    // The sender is dropped without a word only by a panic, which the hook has told.
                    return result.unwrap_or_else(|_| Err(panicked()));
                }
                caught = interrupt::signal() => {
                    if caught.is_err() || signal.raise() {
                        return Err(Error::interrupted("interrupted").help(
                            "run the same command again: it goes on where it stopped",
                        ));
                    }
                    tracing::warn!("finishing the chunk; press Ctrl-C again to quit at once");
                }
            }
        }
    })
}

fn panicked() -> Error {
    Error::failed("the program hit a bug of its own and stopped; what was committed is safe")
        .help("report it with the line above; run the same command again to go on")
}

/// One arm for each command.
async fn dispatch(context: &Context, command: &Command) -> Result<Outcome> {
    match command {
        Command::Setup(args) => setup::run(context, args).await,
        Command::Check(args) => check::run(context, args).await,
        Command::Migrate(args) => migrate::run(context, args).await,
        Command::Status => status::run(context).await,
        Command::Validate(args) => validate::run(context, args).await,
        Command::Rollback(args) => rollback::run(context, args).await,
        Command::Repair => repair::run(context).await,
        Command::Evolve(command) => evolve::run(context, command).await,
        Command::Backup(command) => backup::run(context, command).await,
        Command::Sample(args) => sample::run(context, args).await,
        Command::Credentials(CredentialsCommand::Export(args)) => credentials::export(context, args).await,
        Command::Users(UsersCommand::VerifyLogin(args)) => users::verify_login(context, args).await,
        Command::Settings => settings::run(context),
        Command::Completions(args) => completions::run(context, args),
    }
}

/// Tells where a panic happened and nothing else: its message may hold a cell's value.
fn report_panic(info: &std::panic::PanicHookInfo<'_>) {
    let place = match info.location() {
        Some(at) => format!("{}:{}", at.file(), at.line()),
        None => "an unknown place".to_owned(),
    };
    let backtrace = std::backtrace::Backtrace::capture();
    let mut text = format!("error: internal error at {place}\n");
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        text.push_str(&backtrace.to_string());
    }
    // Without stderr there is nobody to tell.
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
