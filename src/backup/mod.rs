//! Backups of V2, and copies of MongoDB databases. A migration and every later change of V2 is only as safe as the way
//! back, so a backup here is more than files: it is taken from one moment of the database, read back before it gets its
//! name, and restored only after it was read once more. See `docs/backups.md`.
//!
//! Postgres goes through its own `pg_dump` and `pg_restore`, which know every kind of object of their version; MongoDB
//! through the driver. What both share is here: the folder, the manifest, the list.

mod checksum;
mod folder;
mod manifest;
pub(crate) mod mongodb;
mod postgres;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

pub use self::manifest::{Content, FORMAT, FileEntry, Kind, Manifest, Verification};
pub use self::mongodb::{Copied, copy};
use crate::connect::{self, Scheme, Side};
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::target::Held as _;

/// What an interrupted restore or copy is known by: a schema in Postgres, a collection in MongoDB.
pub const MARKER: &str = "v1v2_restore";

/// Is told how the work goes on.
pub trait Observer: Send + Sync {
    /// A step began.
    fn step(&self, _what: &str) {}
    /// A table or collection began, with the number of its rows if it is known.
    fn begin(&self, _name: &str, _rows: Option<u64>) {}
    /// Rows more of what began last.
    fn advance(&self, _rows: u64) {}
}

/// Nobody looks on.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// Whether a backup can be relied on, as far as is known without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// All files are there; nobody has read them back since they were changed or copied here.
    Complete,
    /// Read back and found whole.
    Verified {
        /// When, RFC 3339 in UTC.
        at: String,
    },
    /// Something is missing or changed.
    Damaged {
        /// What, in words.
        problems: Vec<String>,
    },
    /// Its making was cut short, or is under way.
    Partial,
    /// It is not one that this program can read.
    Unreadable {
        /// Why.
        problem: String,
    },
}

/// One backup of a folder.
#[derive(Debug, Clone, Serialize)]
pub struct BackupInfo {
    /// Its folder.
    pub path: PathBuf,
    /// What it is worth.
    #[serde(flatten)]
    pub state: State,
    /// Bytes on disk.
    pub size: u64,
    /// When it was begun; `None` if its manifest cannot be read.
    #[serde(skip)]
    pub taken: Option<Timestamp>,
    /// What it says about itself.
    pub manifest: Option<Manifest>,
}

impl BackupInfo {
    /// The folder's name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// How long ago its contents were read. Zero if a clock goes wrong.
    pub fn age(&self) -> Option<Duration> {
        Some(Timestamp::now().duration_since(self.taken?).try_into().unwrap_or_default())
    }

    fn look(path: PathBuf) -> Self {
        let size = size(&path);
        let mut this = Self { path, state: State::Partial, size, taken: None, manifest: None };
        if this.path.to_string_lossy().ends_with(folder::PARTIAL) {
            return this;
        }
        this.state = match folder::manifest(&this.path) {
            Err(error) if error.kind() == crate::error::Kind::Differences => {
                State::Damaged { problems: vec![error.message().to_owned()] }
            }
            Err(error) => State::Unreadable { problem: error.message().to_owned() },
            Ok(manifest) => {
                let problems = folder::quick_problems(&this.path, &manifest);
                this.taken = manifest.taken();
                this.manifest = Some(manifest);
                match folder::verification(&this.path) {
                    _ if !problems.is_empty() => State::Damaged { problems },
                    None => State::Complete,
                    Some(found) if found.problems.is_empty() => State::Verified { at: found.at },
                    Some(found) => State::Damaged { problems: found.problems },
                }
            }
        };
        this
    }
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// Takes a backup of V2 into a folder of its own below `to`, or below the folder of the settings. It is read back before
/// it gets its name, so it is verified when this returns.
///
/// # Errors
/// Refused: V2 holds what cannot be backed up, or `pg_dump` is too old. Failed: the server or the disk fails, or the
/// contents cannot be had from one moment. Nothing is left behind then.
pub async fn create(settings: &Settings, to: Option<&Path>, observer: &dyn Observer) -> Result<BackupInfo> {
    let root = to.unwrap_or(&settings.backups);
    let path = match connect::scheme(Side::V2, settings)? {
        Scheme::Postgres => postgres::create(settings, root, observer).await?,
        Scheme::MongoDb => mongodb::create(settings, root, observer).await?,
    };
    folder::keep_verification(&path, &[]);
    Ok(BackupInfo::look(path))
}

/// Reads everything of a backup back: every file against its checksum, every row and document against the counts and
/// checksums of the manifest. The finding is kept beside the backup.
///
/// # Errors
/// Differences: it is damaged; the details say where. Usage: there is no backup. Failed: it cannot be read.
pub async fn verify(path: &Path, observer: &dyn Observer) -> Result<BackupInfo> {
    let manifest = folder::manifest(path)?;
    let mut problems = folder::quick_problems(path, &manifest);
    // Reading what is known to be incomplete would only add noise.
    if problems.is_empty() {
        problems = match manifest.kind {
            Kind::Postgres => postgres::verify(path, &manifest, observer).await?,
            Kind::MongoDb => mongodb::verify(path, &manifest, observer).await?,
        };
    }
    folder::keep_verification(path, &problems);
    if problems.is_empty() {
        return Ok(BackupInfo::look(path.to_path_buf()));
    }
    Err(Error::differences(format!("the backup {} is damaged", path.display()))
        .help("use another one; `v1v2 backup list` shows all")
        .details(problems.iter().map(|problem| format!("  - {problem}")).collect::<Vec<_>>().join("\n")))
}

/// All backups of a folder, the oldest first. A folder that is not there holds none.
///
/// # Errors
/// Failed: the folder cannot be read.
pub fn list(root: &Path) -> Result<Vec<BackupInfo>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(folder::failed("read", root, &error)),
    };
    let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    // What somebody else keeps there is not ours to judge.
    let ours = |path: &PathBuf| {
        path.join(folder::MANIFEST).exists()
            || path.join(folder::SUMS).exists()
            || path.to_string_lossy().ends_with(folder::PARTIAL)
    };
    let mut found: Vec<BackupInfo> = folders.filter(ours).map(BackupInfo::look).collect();
    found.sort_by_key(BackupInfo::name);
    Ok(found)
}

/// The folder of a backup: a path, or a name in the folder of the settings; without either, the newest complete one.
///
/// # Errors
/// Usage: there is none.
pub fn find(settings: &Settings, named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        let inside = settings.backups.join(named);
        return Ok(if !named.exists() && inside.exists() { inside } else { named.to_path_buf() });
    }
    let newest =
        list(&settings.backups)?.into_iter().filter(|of| of.taken.is_some()).max_by_key(|of| of.taken);
    newest.map(|of| of.path).ok_or_else(|| {
        Error::usage(format!("there is no backup in {}", settings.backups.display()))
            .help("`v1v2 backup create` takes one; a folder elsewhere can be named")
    })
}

/// The newest backup in the folder of the settings that was taken from this very V2 and verified since. Asks V2 who it
/// is: a backup of another database with the same name is none.
///
/// # Errors
/// As connecting to V2; failed if the folder cannot be read.
pub async fn latest_verified(settings: &Settings) -> Result<Option<BackupInfo>> {
    let identity = match connect::scheme(Side::V2, settings)? {
        Scheme::Postgres => {
            postgres::identity(&mut connect::postgres(Side::V2, settings).await?, settings).await?
        }
        Scheme::MongoDb => mongodb::identity(&connect::mongodb(settings).await?).await?,
    };
    let fits = |of: &BackupInfo| {
        matches!(of.state, State::Verified { .. })
            && of.manifest.as_ref().is_some_and(|manifest| manifest.identity == identity)
    };
    Ok(list(&settings.backups)?.into_iter().filter(fits).max_by_key(|of| of.taken))
}

/// How a restore treats the target.
#[derive(Debug, Clone, Copy, Default)]
pub struct Restoring {
    /// Remove everything from the target first, whoever made it.
    pub clean: bool,
    /// Postgres: give everything to the user of the connection, without the owners and grants of the backup.
    pub no_owner: bool,
}

/// What a restore brought.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The backup.
    pub backup: PathBuf,
    /// The database's name.
    pub database: String,
    /// Tables, collections and views.
    pub contents: usize,
    /// Rows or documents.
    pub rows: u64,
}

/// Restores a backup into V2. The backup is read back first and what was restored is compared with it afterwards, so
/// that a damaged one never costs what the target holds, and a difference never goes unseen.
///
/// # Errors
/// Refused: the target is not empty and `clean` is not set, or a run has it; differences: the backup is damaged, or the
/// target does not hold what it should; usage: the backup is of the other kind of database. After any other error the
/// target carries the mark of an interrupted restore ([`MARKER`]).
pub async fn restore(
    settings: &Settings,
    path: &Path,
    how: Restoring,
    observer: &dyn Observer,
) -> Result<Restored> {
    let manifest = folder::manifest(path)?;
    require_kind(settings, &manifest)?;
    // Refusing costs nothing; reading a large backup does.
    let occupied = what_is_there(settings).await?;
    if !how.clean && !occupied.is_empty() {
        return Err(occupied.refusal());
    }
    match manifest.kind {
        Kind::Postgres => {
            // From here to its end nobody else has the lock.
            let v2 = postgres::alone(settings, &occupied).await?;
            observer.step("reading the backup back");
            verify(path, &Unobserved).await?;
            postgres::restore(settings, v2, path, &manifest, how, observer).await?;
        }
        Kind::MongoDb => {
            // The lock is a document: an empty target gets it only when everything else is certain.
            if occupied.prepared {
                mongodb::alone(settings).await?.give_up().await;
            }
            observer.step("reading the backup back");
            verify(path, &Unobserved).await?;
            mongodb::restore(settings, path, &manifest, observer).await?;
        }
    }
    let database = connect::place(Side::V2, settings)?.database;
    let contents = manifest.contents.len();
    Ok(Restored { backup: path.to_path_buf(), database, contents, rows: manifest.rows })
}

/// The backup is one of what V2 is.
fn require_kind(settings: &Settings, manifest: &Manifest) -> Result<()> {
    let fits = match connect::scheme(Side::V2, settings)? {
        Scheme::Postgres => manifest.kind == Kind::Postgres,
        Scheme::MongoDb => manifest.kind == Kind::MongoDb,
    };
    if fits {
        return Ok(());
    }
    Err(Error::usage(format!("the backup is one of {}, and V2 is none", manifest.kind))
        .help("point V2_DATABASE_URL at a database of that kind"))
}

/// The refusal of whoever wants to work with a V2 that carries the mark; `what` is the mark's own text.
pub fn half_restored(place: &str, what: &str) -> Error {
    Error::refused(format!("{place} is being restored, or its restore was interrupted: {what}"))
        .help("wait for its end; if its program is dead, `v1v2 backup restore BACKUP --clean` starts over")
}

/// What a target of a restore holds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Occupied {
    /// The database's name.
    pub database: String,
    /// Where it is, for people.
    pub place: String,
    /// Tables, collections, views and whatever else would be in the way, with their rows (Postgres: about).
    pub contents: Vec<(String, u64)>,
    /// What an interrupted restore said about itself, if there was one.
    pub interrupted: Option<String>,
    /// Whether `setup` has been here.
    pub prepared: bool,
}

impl Occupied {
    /// Whether nothing is in the way.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    fn refusal(&self) -> Error {
        let place = &self.place;
        let fix = "restore into an empty database, or add --clean to remove everything from this one first";
        match &self.interrupted {
            Some(what) => Error::refused(format!("{place} holds what is left of an interrupted {what}"))
                .help("add --clean to remove it and start over"),
            None => Error::refused(format!(
                "{place} is not empty: it holds {} ({})",
                match self.contents.len() {
                    1 => "one thing".to_owned(),
                    many => format!("{many} things"),
                },
                self.contents.iter().take(5).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
            ))
            .help(fix),
        }
    }
}

/// What V2 holds: what [`restore`] with `clean` would remove.
///
/// # Errors
/// As connecting to V2.
pub async fn what_is_there(settings: &Settings) -> Result<Occupied> {
    match connect::scheme(Side::V2, settings)? {
        Scheme::Postgres => postgres::what_is_there(settings).await,
        Scheme::MongoDb => mongodb::what_is_there(&connect::mongodb(settings).await?).await,
    }
}

/// Compares counts and checksums that were found with those of the manifest.
fn differing(content: &Content, rows: u64, sha256: &str) -> Option<String> {
    if content.rows != rows {
        return Some(format!("{} has {rows} rows instead of {}", content.full_name(), content.rows));
    }
    (content.sha256 != sha256).then(|| format!("the rows of {} have changed", content.full_name()))
}
