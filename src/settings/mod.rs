//! Every setting, resolved once: files, environment and flags become one [`Settings`] that later code uses.
//!
//! Layers, the later wins: `config/default.toml` (built in), the project file, `.env`, the environment, flags. All of
//! them are read before anything is judged, so that the user sees every bad setting at once, each with its place.

mod connection;
mod layers;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

pub use layers::{Origin, private};
pub use table::{SETTINGS, Setting};
pub use value::did_you_mean;
pub(crate) use value::{COLORS, ON_EDITED, PASSWORD_MODES, duration};

use crate::error::{Error, Result};
use layers::{Given, Layer};
use table::Draft;

/// The lowest layer, and the documentation of all settings.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// How accounts get their passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordMode {
    /// A new one for everybody, derived from the run's secret key.
    Generate,
    /// V1's hash is carried over unchanged.
    Keep,
    /// No password: the account is locked until a reset.
    None,
}

/// What becomes of a row of V2 that somebody has edited since it was migrated, when V1's row changes or goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnEdited {
    /// It stays, and is listed as a conflict.
    #[default]
    Keep,
    /// It becomes what V1 says, and is listed as a conflict.
    Overwrite,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Even into a file or a pipe.
    Always,
    /// Never.
    Never,
}

/// When a run has rejected too many rows to go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxRejects {
    /// More than so many.
    Rows(u64),
    /// More than so many of a hundred that were looked at, once these are [`MaxRejects::ENOUGH`].
    Percent(f64),
}

impl MaxRejects {
    /// Rows from which on a share says something.
    pub const ENOUGH: u64 = 1_000;

    /// Whether that is too many.
    pub fn is_exceeded(self, rejected: u64, looked_at: u64) -> bool {
        match self {
            Self::Rows(most) => rejected > most,
            Self::Percent(most) => {
                looked_at >= Self::ENOUGH && rejected as f64 * 100.0 > looked_at as f64 * most
            }
        }
    }
}

impl std::fmt::Display for MaxRejects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows(most) => most.fmt(f),
            Self::Percent(most) => write!(f, "{most}%"),
        }
    }
}

/// Cost of argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory in KiB. Default 19,456 (19 MiB): OWASP's Password Storage Cheat Sheet.
    pub memory_kib: u32,
    /// Passes over the memory. Default 2: same source.
    pub iterations: u32,
    /// Lanes. Default 1: same source.
    pub parallelism: u32,
}

impl Default for HashCost {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, iterations: 2, parallelism: 1 }
    }
}

/// All settings of one invocation. `Debug` shows no secret: `SecretString` redacts itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// URL of V1.
    pub v1_url: Option<SecretString>,
    /// URL of V2; the scheme decides between Postgres and MongoDB.
    pub v2_url: Option<SecretString>,
    /// A folder whose files replace the embedded `migrators/` file by file.
    pub migrators_dir: Option<PathBuf>,
    /// A folder whose files replace the embedded `setup/` file by file.
    pub setup_dir: Option<PathBuf>,
    /// The folder of evolutions: V2's own versioned changes.
    pub evolutions: PathBuf,
    /// Rows of V1 in a chunk.
    pub batch_size: usize,
    /// Bytes of V1 (COPY text) in a chunk, whichever limit is met first.
    pub batch_bytes: usize,
    /// Connections that write at the same time.
    pub writers: usize,
    /// Rows of V1 that are written in a second, at most; `None` = as many as V2 takes.
    pub max_rows_per_second: Option<u64>,
    /// How far V2's replicas may be behind before the run pauses; `None` = it does not look.
    pub max_lag: Option<Duration>,
    /// Whether an empty V2 is loaded with foreign keys and derivable indexes put back at the end.
    pub bulk: bool,
    /// What becomes of edited rows of V2 whose rows of V1 have changed.
    pub on_edited: OnEdited,
    /// How accounts get their passwords.
    pub passwords: PasswordMode,
    /// Length of generated passwords, in characters.
    pub password_length: usize,
    /// Cost of argon2id.
    pub hash_cost: HashCost,
    /// Threads that hash; 0 = as many as there are cores.
    pub hash_threads: usize,
    /// The file that holds the secret key from which passwords are derived (mode 0600).
    pub key_file: PathBuf,
    /// Whether to write into a V2 that already has accounts that are not ours.
    pub into_existing: bool,
    /// The folder that holds backups.
    pub backups: PathBuf,
    /// How old the newest verified backup of V2 may be before anything is written; `None` = none is asked for.
    pub require_backup: Option<Duration>,
    /// When so many rows are rejected that the run stops; `None` = never.
    pub max_rejects: Option<MaxRejects>,
    /// Whether to allow a remote server without verified TLS.
    pub insecure_tls: bool,
    /// Where the log file goes; rotated by run.
    pub log_file: PathBuf,
    /// How many logs of earlier runs are kept.
    pub log_keep: usize,
    /// How long to wait for a server to accept a connection.
    pub connect_timeout: Duration,
    /// How long one statement may take on the server; zero = no limit.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock; zero = no limit.
    pub lock_timeout: Duration,
    /// How long to wait for the next answer on an open connection; zero = no limit. See [`Settings::patience`].
    pub answer_timeout: Duration,
    /// Whether every step is told on stderr.
    pub verbose: bool,
    /// Whether progress is hidden.
    pub quiet: bool,
    /// Whether results are NDJSON events.
    pub json: bool,
    /// When to use colours.
    pub color: Color,
}

/// Where settings are read from. A value, so that tests need not change the process's own environment.
#[derive(Default)]
pub struct Sources {
    /// Flags: key of the setting and text.
    pub flags: Vec<(&'static str, String)>,
    /// The environment: name and text.
    pub environment: Vec<(String, String)>,
    /// The folder that may hold `.env` and `v1v2.toml`.
    pub directory: PathBuf,
    /// The project file that `--config` names, instead of `v1v2.toml`.
    pub config: Option<PathBuf>,
}

impl Sources {
    /// The process's environment and working directory. Variables that are not UTF-8 cannot be ours and are left out.
    pub fn of_process(flags: Vec<(&'static str, String)>, config: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
            .collect();
        Self { flags, environment, directory: PathBuf::new(), config }
    }
}

impl Settings {
    /// Reads all layers.
    ///
    /// # Errors
    /// All bad settings in one usage error (exit 2); refused (exit 5) if a file with a secret is readable by others.
    pub fn load(sources: Sources) -> Result<Self> {
        let project = match &sources.config {
            Some(path) => layers::project_file(path, true)?,
            None => layers::project_file(&sources.directory.join("v1v2.toml"), false)?,
        };
        let env_file = layers::env_file(Path::new(&sources.directory))?;
        let environment = layers::environment(sources.environment);
        let mut flags = Layer::default();
        for (key, text) in sources.flags {
            match SETTINGS.iter().find(|setting| setting.key == key) {
                Some(setting) => flags.given.push(Given { setting, text, origin: Origin::Flag }),
                None => flags.problems.push(format!("command line: there is no setting {key}")),
            }
        }
        resolve([project, env_file, environment, flags])
    }

    /// The V1 URL or V2 URL is given.
    ///
    /// # Errors
    /// Usage: says how to give it.
    pub fn require_url(&self, side: crate::connect::Side) -> Result<&SecretString> {
        let url = match side {
            crate::connect::Side::V1 => &self.v1_url,
            crate::connect::Side::V2 => &self.v2_url,
        };
        url.as_ref().ok_or_else(|| {
            Error::usage(format!("no connection to {side} is given")).help(format!(
                "set {side}_DATABASE_URL (or {side}_DB_HOST, _PORT, _NAME, _USER and _PASSWORD) in the \
                 environment or in .env"
            ))
        })
    }

    /// How long an open connection may be silent in the middle of short steps. The server's own limits come first: what
    /// it gives up by itself is no dead link, and its word about it needs a moment to arrive.
    pub fn patience(&self) -> Duration {
        if self.answer_timeout.is_zero() {
            return Duration::MAX;
        }
        let of_the_server = self.statement_timeout.max(self.lock_timeout) + Duration::from_secs(2);
        self.answer_timeout.max(of_the_server)
    }

    /// A value for each field, before the embedded defaults are laid on it; a test sees to it that they set all.
    fn blank() -> Self {
        Self {
            v1_url: None,
            v2_url: None,
            migrators_dir: None,
            setup_dir: None,
            evolutions: PathBuf::new(),
            batch_size: 1,
            batch_bytes: 1,
            writers: 1,
            max_rows_per_second: None,
            max_lag: None,
            bulk: false,
            on_edited: OnEdited::Keep,
            passwords: PasswordMode::None,
            password_length: 0,
            hash_cost: HashCost::default(),
            hash_threads: 0,
            key_file: PathBuf::new(),
            into_existing: false,
            backups: PathBuf::new(),
            require_backup: None,
            max_rejects: None,
            insecure_tls: false,
            log_file: PathBuf::new(),
            log_keep: 0,
            connect_timeout: Duration::ZERO,
            statement_timeout: Duration::ZERO,
            lock_timeout: Duration::ZERO,
            answer_timeout: Duration::ZERO,
            verbose: false,
            quiet: false,
            json: false,
            color: Color::Never,
        }
    }
}

impl Default for Settings {
    /// The embedded defaults alone, without connections.
    #[expect(clippy::expect_used, reason = "the defaults are part of the program, and a test loads them")]
    fn default() -> Self {
        resolve([]).expect("the embedded defaults are valid")
    }
}

/// Lays the layers over the defaults, lowest first, and judges every value, also those that a higher layer
/// replaces: a bad line in a file is worth telling even on the day it does not matter.
fn resolve<const N: usize>(layers: [Layer; N]) -> Result<Settings> {
    let mut draft = Draft {
        settings: Settings::blank(),
        v1: connection::Parts::default(),
        v2: connection::Parts::default(),
    };
    let mut problems = Vec::new();
    let defaults = layers::toml_text(DEFAULTS, |_| Origin::Default);
    for (rank, layer) in std::iter::once(defaults).chain(layers).enumerate() {
        (draft.v1.layer, draft.v2.layer) = (rank, rank);
        problems.extend(layer.problems);
        for given in layer.given {
            if let Err(wanted) = (given.setting.apply)(&mut draft, &given.text) {
                problems.push(bad(&given, &wanted));
            }
        }
    }
    let Draft { mut settings, v1, v2 } = draft;
    for (prefix, parts, url) in [("V1", v1, &mut settings.v1_url), ("V2", v2, &mut settings.v2_url)] {
        match parts.into_url(prefix) {
            Ok(found) => *url = found,
            Err(problem) => problems.push(problem),
        }
    }
    match problems.as_slice() {
        [] => Ok(settings),
        [one] => Err(Error::usage(format!("a setting is wrong: {one}")).help(FIX)),
        many => {
            let list: Vec<String> = many.iter().map(|problem| format!("  - {problem}")).collect();
            Err(Error::usage(format!("{} settings are wrong", many.len())).help(FIX).details(list.join("\n")))
        }
    }
}

const FIX: &str = "`v1v2 settings` prints every setting with its names, unit and default";

/// One bad value: place, name, text (unless it may be a secret), and what it must be.
fn bad(given: &Given, wanted: &str) -> String {
    let Given { origin, text, setting } = given;
    if setting.secret {
        format!("{origin}: {} {wanted}", given.name())
    } else {
        format!("{origin}: {} {wanted}, not {:?}", given.name(), text)
    }
}
