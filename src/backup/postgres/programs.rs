//! Postgres's own programs: where they are, whether they are new enough, and what they may say. Their messages can quote
//! rows, so only those are passed on that speak of structure.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::connect::{Side, program_environment};
use crate::error::{Error, Result};
use crate::settings::Settings;

/// Where Debian and its kin keep all versions, beside PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

/// `pg_dump` and `pg_restore` of one version.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    dump: PathBuf,
    restore: PathBuf,
    /// `15.14`.
    pub(super) version: String,
}

impl Programs {
    /// Those on PATH; else the newest that Debian keeps.
    ///
    /// # Errors
    /// Failed: there are none, or they do not run.
    pub(super) async fn find() -> Result<Self> {
        let missing = || {
            Error::failed("pg_dump and pg_restore are not on PATH")
                .help("install Postgres's client programs (Debian: postgresql-client), of the server's version or a later one")
        };
        let folder = on_path("pg_dump").or_else(newest_of_debian).ok_or_else(missing)?;
        let (dump, restore) = (folder.join("pg_dump"), folder.join("pg_restore"));
        if !restore.exists() {
            return Err(Error::failed(format!("{} has pg_dump, but no pg_restore", folder.display()))
                .help("install all of Postgres's client programs"));
        }
        let output = Command::new(&dump).arg("--version").stdin(Stdio::null()).output().await;
        let text = output.ok().filter(|output| output.status.success());
        let text = text.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let version = text.as_deref().and_then(version).ok_or_else(|| {
            Error::failed(format!("{} does not tell its version", dump.display())).help("install it anew")
        })?;
        Ok(Self { dump, restore, version })
    }

    /// Refuses a `pg_dump` that is older than the server: it would stop, or leave out what it does not know.
    ///
    /// # Errors
    /// Refused.
    pub(super) fn require_for_server(&self, server: &str) -> Result<()> {
        if major(&self.version) >= major(server) {
            return Ok(());
        }
        Err(Error::refused(format!(
            "{} has version {} and cannot back up a server of version {server}",
            self.dump.display(),
            self.version
        ))
        .help(format!("put the client programs of Postgres {} or later first on PATH", major(server))))
    }

    /// Refuses a `pg_restore` that is older than the `pg_dump` of the backup.
    ///
    /// # Errors
    /// Refused.
    pub(super) fn require_for_dump(&self, dumped_by: &str) -> Result<()> {
        if major(&self.version) >= major(dumped_by) {
            return Ok(());
        }
        Err(Error::refused(format!(
            "{} has version {} and cannot read a backup made by version {dumped_by}",
            self.restore.display(),
            self.version
        ))
        .help(format!("put the client programs of Postgres {} or later first on PATH", major(dumped_by))))
    }

    /// `pg_dump`, connected to V2.
    pub(super) fn dump(&self, settings: &Settings) -> Result<Command> {
        connected(&self.dump, settings)
    }

    /// `pg_restore`, connected to V2.
    pub(super) fn restore(&self, settings: &Settings) -> Result<Command> {
        connected(&self.restore, settings)
    }

    /// `pg_restore` that reads an archive and connects to nobody.
    pub(super) fn read_only(&self) -> Command {
        command(&self.restore)
    }
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env("LC_ALL", "C");
    command
}

fn connected(program: &Path, settings: &Settings) -> Result<Command> {
    let mut command = command(program);
    for (name, value) in program_environment(Side::V2, settings)? {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ok(command)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| folder.join(program).is_file())
}

fn newest_of_debian() -> Option<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN).ok()?.flatten().map(|entry| entry.path().join("bin"));
    let number = |path: &PathBuf| path.parent()?.file_name()?.to_str()?.parse::<f32>().ok();
    let found: Vec<_> = versions.filter(|path| path.join("pg_dump").is_file()).collect();
    found
        .into_iter()
        .max_by(|one, other| number(one).partial_cmp(&number(other)).unwrap_or(std::cmp::Ordering::Equal))
}

/// `pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`
fn version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("(PostgreSQL) ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// `15` of `15.14`, `18` of `18beta1`.
fn major(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Words of messages that speak of objects, rights and connections and hold nothing out of a row.
const STRUCTURAL: [&str; 16] = [
    "already exists",
    "does not exist",
    "permission denied",
    "must be owner",
    "must be superuser",
    "must be member",
    "must be able to SET ROLE",
    "connection to server",
    "password authentication failed",
    "server version mismatch",
    "could not open extension control file",
    "is not available",
    "canceling statement",
    "out of memory",
    "No space left on device",
    "row-level security",
];

/// Why a program failed, from what it wrote to stderr.
pub(super) fn failure(what: &str, stderr: &[u8]) -> Error {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().filter(|line| line.contains("error:") || line.contains("ERROR:"));
    let reason = lines
        .filter(|line| STRUCTURAL.iter().any(|words| line.contains(words)))
        .filter(|line| !line.contains("COPY failed"))
        .map(|line| line.rsplit_once("rror: ").map_or(line, |(_, rest)| rest).trim())
        .next();
    let error = match reason {
        Some(reason) => Error::failed(format!("{what} failed: {reason}")),
        None => Error::failed(format!("{what} failed; the server's log says why")),
    };
    let rights = ["must be owner", "must be member", "SET ROLE", "permission denied"];
    match reason {
        Some(reason) if rights.iter().any(|words| reason.contains(words)) => error.help(
            "use a user with these rights, or (for a restore) --no-owner, which gives everything to the user of the URL",
        ),
        Some(reason) if reason.contains("extension") => error.help("install the extension on the target's server"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let of = |text| version(text).unwrap();
        assert_eq!(of("pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), "15.14");
        assert_eq!(of("pg_dump (PostgreSQL) 18beta1\n"), "18beta1");
        assert!(major("18beta1") == 18 && major("9.6.24") == 9 && major("?") == 0);
        let programs =
            Programs { dump: "/x/pg_dump".into(), restore: "/x/pg_restore".into(), version: "9.6.24".into() };
        let error = programs.require_for_server("15.14").unwrap_err();
        assert!(error.exit_code() == 5 && error.message().contains("9.6.24"), "{error}");
        assert!(programs.require_for_server("9.6.1").is_ok());
        assert_eq!(programs.require_for_dump("15.1").unwrap_err().exit_code(), 5);
    }

    #[test]
    fn rows_are_not_told() {
        let stderr = b"pg_restore: error: COPY failed for table \"User\": ERROR:  duplicate key value already exists CANARY\n\
            DETAIL:  Key (email)=(CANARY) already exists.\n\
            pg_restore: error: could not execute query: ERROR:  role \"app\" does not exist\n";
        let error = failure("pg_restore", stderr);
        assert_eq!(
            error.message(),
            "pg_restore failed: could not execute query: ERROR:  role \"app\" does not exist"
        );
        let error =
            failure("pg_restore", b"pg_restore: error: COPY failed for table \"x\": ERROR:  bad CANARY\n");
        assert!(!error.to_string().contains("CANARY"));
    }
}
