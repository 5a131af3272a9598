//! The one table of settings. A setting exists because it has a row here: the row gives its key in files, its
//! name in the environment, its flag and its meaning, so that the layers, the error messages and
//! `config/default.toml` cannot drift apart (a test compares them).

use std::time::Duration;

use super::connection::Parts;
use super::{Settings, value};

/// Settings while the layers are laid over each other: connections are still URL or parts.
#[derive(Debug)]
pub(super) struct Draft {
    pub settings: Settings,
    pub v1: Parts,
    pub v2: Parts,
}

/// One setting.
pub struct Setting {
    /// Key in files: `batch_size`, `v1.url`.
    pub key: &'static str,
    /// Name in the environment and in `.env`: `V1V2_BATCH_SIZE`, `V1_DATABASE_URL`.
    pub environment: &'static str,
    /// Flag, for what people change per run: `--batch-size`.
    pub flag: Option<&'static str>,
    /// Whether there is a default in `config/default.toml`.
    pub has_default: bool,
    /// Whether the value holds, or may hold, a password: it is never shown.
    pub secret: bool,
    /// Takes the text; otherwise says what it must be.
    pub(super) apply: fn(&mut Draft, &str) -> Result<(), String>,
}

/// A row of the table. The words after the semicolon mark what is unusual: `unset` has no default, `secret` is
/// never shown.
macro_rules! setting {
    ($key:literal, $environment:literal, $flag:expr, $apply:expr) => {
        Setting {
            key: $key,
            environment: $environment,
            flag: $flag,
            has_default: true,
            secret: false,
            apply: $apply,
        }
    };
    ($key:literal, $environment:literal, $flag:expr, $apply:expr; unset) => {
        Setting { has_default: false, ..setting!($key, $environment, $flag, $apply) }
    };
    ($key:literal, $environment:literal, $flag:expr, $apply:expr; secret) => {
        Setting { secret: true, ..setting!($key, $environment, $flag, $apply; unset) }
    };
}

/// Assigns a parsed value to a field of the draft.
macro_rules! into {
    ($($field:ident).+, $parse:expr) => {
        |draft, text| {
            draft.$($field).+ = $parse(text)?;
            Ok(())
        }
    };
}

/// Every setting.
pub static SETTINGS: &[Setting] = &[
    setting!("migrators_dir", "V1V2_MIGRATORS_DIR", Some("--migrators"),
        into!(settings.migrators_dir, |t| value::path(t).map(Some)); unset),
    setting!("setup_dir", "V1V2_SETUP_DIR", None, into!(settings.setup_dir, |t| value::path(t).map(Some)); unset),
    setting!("evolutions", "V1V2_EVOLUTIONS", Some("--evolutions"), into!(settings.evolutions, value::path)),
    setting!(
        "batch_size",
        "V1V2_BATCH_SIZE",
        Some("--batch-size"),
        into!(settings.batch_size, |t| value::count(t, 1..=1_000_000))
    ),
    setting!("batch_bytes", "V1V2_BATCH_BYTES", None, into!(settings.batch_bytes, value::bytes)),
    setting!(
        "writers",
        "V1V2_WRITERS",
        Some("--writers"),
        into!(settings.writers, |t| value::count(t, 1..=64))
    ),
    setting!("on_edited", "V1V2_ON_EDITED", Some("--on-edited"), into!(settings.on_edited, value::on_edited)),
    setting!("max_rows_per_second", "V1V2_MAX_ROWS_PER_SECOND", Some("--max-rows-per-second"),
        into!(settings.max_rows_per_second, |t| value::number(t, 1..=1_000_000_000).map(Some)); unset),
    setting!("max_lag", "V1V2_MAX_LAG", Some("--max-lag"),
        into!(settings.max_lag, |t| match value::duration(t) {
            Ok(short) if short < Duration::from_secs(1) => Err("must be at least 1s".to_owned()),
            other => other.map(Some),
        }); unset),
    setting!("bulk", "V1V2_BULK", Some("--no-bulk"), into!(settings.bulk, value::truth)),
    setting!(
        "passwords",
        "V1V2_PASSWORDS",
        Some("--passwords"),
        into!(settings.passwords, value::password_mode)
    ),
    setting!(
        "password_length",
        "V1V2_PASSWORD_LENGTH",
        None,
        into!(settings.password_length, |t| value::count(t, 8..=128))
    ),
    // The limits are those of argon2 itself (RFC 9106, section 3.1), memory capped at 4 GiB less one block.
    setting!(
        "hash_memory_kib",
        "V1V2_HASH_MEMORY_KIB",
        None,
        into!(settings.hash_cost.memory_kib, |t| narrow(value::number(t, 8..=4_194_303)))
    ),
    setting!(
        "hash_iterations",
        "V1V2_HASH_ITERATIONS",
        None,
        into!(settings.hash_cost.iterations, |t| narrow(value::number(t, 1..=1_000)))
    ),
    setting!(
        "hash_parallelism",
        "V1V2_HASH_PARALLELISM",
        None,
        into!(settings.hash_cost.parallelism, |t| narrow(value::number(t, 1..=255)))
    ),
    setting!(
        "hash_threads",
        "V1V2_HASH_THREADS",
        None,
        into!(settings.hash_threads, |t| value::count(t, 0..=1_024))
    ),
    setting!("key_file", "V1V2_KEY_FILE", Some("--key-file"), into!(settings.key_file, value::path)),
    setting!(
        "into_existing",
        "V1V2_INTO_EXISTING",
        Some("--into-existing"),
        into!(settings.into_existing, value::truth)
    ),
    setting!("backups", "V1V2_BACKUPS", None, into!(settings.backups, value::path)),
    setting!("require_backup", "V1V2_REQUIRE_BACKUP", Some("--require-backup"),
        into!(settings.require_backup, |t| value::duration(t).map(Some)); unset),
    setting!("max_rejects", "V1V2_MAX_REJECTS", Some("--max-rejects"),
        into!(settings.max_rejects, |t| value::max_rejects(t).map(Some)); unset),
    setting!(
        "insecure_tls",
        "V1V2_INSECURE_TLS",
        Some("--insecure-tls"),
        into!(settings.insecure_tls, value::truth)
    ),
    setting!(
        "connect_timeout",
        "V1V2_CONNECT_TIMEOUT",
        None,
        into!(settings.connect_timeout, |t| match value::duration(t) {
            Ok(zero) if zero.is_zero() => Err("must be longer than 0".to_owned()),
            other => other,
        })
    ),
    setting!(
        "statement_timeout",
        "V1V2_STATEMENT_TIMEOUT",
        None,
        into!(settings.statement_timeout, value::duration)
    ),
    setting!("lock_timeout", "V1V2_LOCK_TIMEOUT", None, into!(settings.lock_timeout, value::duration)),
    setting!("answer_timeout", "V1V2_ANSWER_TIMEOUT", None, into!(settings.answer_timeout, value::duration)),
    setting!("log_file", "V1V2_LOG_FILE", Some("--log-file"), into!(settings.log_file, value::path)),
    setting!("log_keep", "V1V2_LOG_KEEP", None, into!(settings.log_keep, |t| value::count(t, 0..=1_000))),
    setting!("verbose", "V1V2_VERBOSE", Some("--verbose"), into!(settings.verbose, value::truth)),
    setting!("quiet", "V1V2_QUIET", Some("--quiet"), into!(settings.quiet, value::truth)),
    setting!("json", "V1V2_JSON", Some("--json"), into!(settings.json, value::truth)),
    setting!("color", "V1V2_COLOR", Some("--color"), into!(settings.color, value::color)),
    setting!("v1.url", "V1_DATABASE_URL", None, |draft, text| draft.v1.set_url(text); secret),
    setting!("v1.host", "V1_DB_HOST", None, |draft, text| draft.v1.set_host(text); unset),
    setting!("v1.port", "V1_DB_PORT", None, |draft, text| draft.v1.set_port(text); unset),
    setting!("v1.name", "V1_DB_NAME", None, |draft, text| draft.v1.set_name(text); unset),
    setting!("v1.user", "V1_DB_USER", None, |draft, text| draft.v1.set_user(text); unset),
    setting!("v1.password", "V1_DB_PASSWORD", None, |draft, text| draft.v1.set_password(text); secret),
    setting!("v2.url", "V2_DATABASE_URL", None, |draft, text| draft.v2.set_url(text); secret),
    setting!("v2.host", "V2_DB_HOST", None, |draft, text| draft.v2.set_host(text); unset),
    setting!("v2.port", "V2_DB_PORT", None, |draft, text| draft.v2.set_port(text); unset),
    setting!("v2.name", "V2_DB_NAME", None, |draft, text| draft.v2.set_name(text); unset),
    setting!("v2.user", "V2_DB_USER", None, |draft, text| draft.v2.set_user(text); unset),
    setting!("v2.password", "V2_DB_PASSWORD", None, |draft, text| draft.v2.set_password(text); secret),
];

/// The ranges above fit 32 bits.
fn narrow(number: Result<u64, String>) -> Result<u32, String> {
    u32::try_from(number?).map_err(|_| "is too large".to_owned())
}
