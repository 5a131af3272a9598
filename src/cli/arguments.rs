//! The command line as clap sees it: raw text and switches. Nothing else in the program reads these types' settings;
//! [`super::Invocation`] resolves them once. Values of settings stay text here, so that a bad flag is listed together with
//! bad files and variables.

use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::settings::{COLORS, ON_EDITED, PASSWORD_MODES};

/// Moves an application's people and records from its old database (V1) to its new one (V2).
#[derive(Debug, Parser)]
#[command(name = "v1v2", version, propagate_version = true, max_term_width = 100, after_help = AFTER)]
pub struct Arguments {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
Connections: V1_DATABASE_URL and V2_DATABASE_URL, or V1_DB_HOST, _PORT, _NAME, _USER, _PASSWORD and V2_DB_…,
in the environment or in .env. `v1v2 settings` prints every setting.

Exit codes: 0 done · 1 failed · 2 usage or a definition problem · 3 finished, with rejects ·
4 verification found differences · 5 refused · 130 interrupted";

/// Options of all commands.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Global {
    /// Settings file to use instead of v1v2.toml
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Folder whose files replace the built-in definitions
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub migrators: Option<String>,
    /// Folder of V2's own versioned changes
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub evolutions: Option<String>,
    /// File of the secret key that passwords are derived from
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key_file: Option<String>,
    /// Log file of runs that change something
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log_file: Option<String>,
    /// Allow a remote server whose certificate is not verified
    #[arg(long, global = true)]
    pub insecure_tls: bool,
    /// Show every step on stderr
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// No progress, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Results as NDJSON events on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_parser = Hinted(COLORS))]
    pub color: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create V2's tables, reference data and control schema
    Setup(SetupArgs),
    /// Compile all definitions against both databases and report every problem
    Check(CheckArgs),
    /// Move people and records from V1 to V2
    Migrate(MigrateArgs),
    /// Show what has been migrated so far, and what is left
    Status,
    /// Compare V2 with what it should hold
    Validate(ValidateArgs),
    /// Remove what a run made
    Rollback(RollbackArgs),
    /// Put back the indexes and foreign keys that an interrupted bulk load left out; accept edited evolutions
    Repair,
    /// Change V2 itself, by versioned scripts that can be taken back
    #[command(subcommand)]
    Evolve(super::EvolveCommand),
    /// Take, verify and restore backups of V2, and copy MongoDB databases
    #[command(subcommand)]
    Backup(super::BackupCommand),
    /// Fill an empty V1 with the built-in example
    Sample(SampleArgs),
    /// Hand out the generated passwords
    #[command(subcommand)]
    Credentials(CredentialsCommand),
    /// Look at single accounts
    #[command(subcommand)]
    Users(UsersCommand),
    /// Print every setting with its names, unit and default
    Settings,
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// `v1v2 setup`
#[derive(Debug, Clone, Args)]
pub struct SetupArgs {
    /// Remove everything from V2 first
    #[arg(long)]
    pub clean: bool,
    /// Do not ask
    #[arg(long)]
    pub force: bool,
}

/// `v1v2 check`
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Only these entities
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub entities: Vec<String>,
    /// Refuse without a verified backup of V2 that is not older than this
    #[arg(long, value_name = "AGE", num_args = 0..=1, default_missing_value = "24h")]
    pub require_backup: Option<String>,
}

/// `v1v2 migrate`
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// Only these entities; what they depend on must be in V2 already
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub entities: Vec<String>,
    /// Only rows of V1 that meet a SQL condition, for one entity; may be repeated
    #[arg(long, value_name = "ENTITY:SQL", value_parser = filter)]
    pub filter: Vec<Filter>,
    /// Decide and count everything, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub force: bool,
    /// Rows of V1 in a chunk
    #[arg(long, value_name = "ROWS")]
    pub batch_size: Option<String>,
    /// Connections that write at the same time
    #[arg(long, value_name = "N")]
    pub writers: Option<String>,
    /// Write no more rows of V1 in a second than that
    #[arg(long, value_name = "N")]
    pub max_rows_per_second: Option<String>,
    /// Pause while one of V2's replicas is further behind than that
    #[arg(long, value_name = "DURATION")]
    pub max_lag: Option<String>,
    /// Keep foreign keys and indexes in place while loading
    #[arg(long)]
    pub no_bulk: bool,
    /// How accounts get their passwords
    #[arg(long, value_name = "MODE", value_parser = Hinted(PASSWORD_MODES))]
    pub passwords: Option<String>,
    /// Try again the rows that were rejected
    #[arg(long)]
    pub retry_rejected: bool,
    /// Remove from V2 what was migrated from rows that V1 no longer has
    #[arg(long)]
    pub prune: bool,
    /// What becomes of rows of V2 that somebody has edited, when V1's row has changed
    #[arg(long, value_name = "WHAT", value_parser = Hinted(ON_EDITED))]
    pub on_edited: Option<String>,
    /// Stop when more rows than that are rejected; with %, of those looked at
    #[arg(long, value_name = "N|N%")]
    pub max_rejects: Option<String>,
    /// Go on although V2's tables have changed since rows were first migrated into them
    #[arg(long)]
    pub accept_changes: bool,
    /// Write into a V2 that already has accounts that are not ours
    #[arg(long)]
    pub into_existing: bool,
    /// Refuse without a verified backup of V2 that is not older than this
    #[arg(long, value_name = "AGE", num_args = 0..=1, default_missing_value = "24h")]
    pub require_backup: Option<String>,
    /// Take a backup of V2 first; if the run or its validation fails, take it back, and if that fails, restore the backup
    #[arg(long, conflicts_with_all = ["dry_run", "skip_validation"])]
    pub safe: bool,
    /// Do not validate at the end
    #[arg(long)]
    pub skip_validation: bool,
}

/// `v1v2 validate`
#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// Compare V1 with the ledger too: every row of V1 must have its line. Without it, V2 alone is compared with its ledger
    #[arg(long)]
    pub compare_counts: bool,
    /// Convert all rows of V1 again and compare them with V2, column by column, or field by field of each document. What somebody has edited in V2, and what V1 has
    /// changed since, differs too
    #[arg(long)]
    pub compare_fields: bool,
}

/// `v1v2 rollback`
#[derive(Debug, Clone, Args)]
pub struct RollbackArgs {
    /// The run to undo. Without it the newest run: if that was rolled back already or has changed nothing, nothing is done,
    /// and the run before it is named
    #[arg(long, value_name = "ID")]
    pub run: Option<uuid::Uuid>,
    /// Do not ask
    #[arg(long)]
    pub force: bool,
}

/// `v1v2 sample`
#[derive(Debug, Clone, Args)]
pub struct SampleArgs {
    /// How many people
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub people: u64,
    /// The same seed gives the same data
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// With rows whose reference leads nowhere
    #[arg(long)]
    pub orphans: bool,
}

/// `v1v2 credentials`
#[derive(Debug, Clone, Subcommand)]
pub enum CredentialsCommand {
    /// Write the hand-out list as CSV, encrypted to age recipients
    Export(ExportArgs),
}

/// `v1v2 credentials export`
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("protection").required(true).args(["recipient", "plain"]))]
pub struct ExportArgs {
    /// Who can open the list: an age public key (age1…); may be repeated
    #[arg(long, value_name = "AGE")]
    pub recipient: Vec<String>,
    /// Do not encrypt (the file has mode 0600)
    #[arg(long)]
    pub plain: bool,
    /// File to write; it must not exist
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, conflicts_with = "per_scope")]
    pub output: Option<PathBuf>,
    /// Folder for one file per scope (a school)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub per_scope: Option<PathBuf>,
}

/// `v1v2 users`
#[derive(Debug, Clone, Subcommand)]
pub enum UsersCommand {
    /// Check that an account's password verifies; the password comes from a prompt or stdin
    VerifyLogin(VerifyLoginArgs),
}

/// `v1v2 users verify-login`
#[derive(Debug, Clone, Args)]
pub struct VerifyLoginArgs {
    /// The account's email address
    pub email: String,
}

/// `v1v2 completions`
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// A condition on one entity's rows of V1: raw SQL, checked where it is compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The entity.
    pub entity: String,
    /// The condition, as SQL of V1.
    pub condition: String,
}

/// Reads `entity:SQL`. The entity's name ends at the first colon, so the SQL may hold casts (`::date`).
fn filter(text: &str) -> Result<Filter, String> {
    let wanted = "write it as ENTITY:SQL, such as schools:\"isActive\"";
    let (entity, condition) = text.split_once(':').ok_or(wanted)?;
    let (entity, condition) = (entity.trim(), condition.trim());
    let named = !entity.is_empty() && entity.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    // `id::text = '1'` without an entity would pass for the entity `id`.
    if !named || condition.is_empty() || condition.starts_with(':') {
        return Err(wanted.to_owned());
    }
    Ok(Filter { entity: entity.to_owned(), condition: condition.to_owned() })
}

/// Text with known values, for help and completions only: the settings judge it.
#[derive(Clone)]
struct Hinted(&'static [&'static str]);

impl TypedValueParser for Hinted {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(|name| PossibleValue::new(*name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_filter_is_an_entity_and_sql() {
        let parsed = filter("schools: \"createdAt\"::date > '2020-01-01'").unwrap();
        assert_eq!(parsed.entity, "schools");
        assert_eq!(parsed.condition, "\"createdAt\"::date > '2020-01-01'");
        for bad in ["schools", "schools:", ":id = 1", "id::text = '1'", "id = 1 or x:y"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
