//! A backup's folder on disk. It is written under a name that ends in `.partial` and gets its own name last, after
//! everything in it has reached the disk: a backup whose making was killed can never be taken for a complete one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::checksum;
use super::manifest::{FORMAT, FileEntry, Manifest, Verification};
use crate::error::{Error, Result};

/// The table of contents.
pub(super) const MANIFEST: &str = "manifest.json";
/// Checksums of all files, in the form that `sha256sum -c` reads.
pub(super) const SUMS: &str = "SHA256SUMS";
/// What the last verification found.
const VERIFICATION: &str = "verification.json";
/// End of the name of a folder that is not complete.
pub(super) const PARTIAL: &str = ".partial";

/// An error about a file. The system's own text names the cause.
pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let this = Error::failed(format!("cannot {what} {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            this.help("free disk space there, or name a folder on another disk with --to")
        }
        _ => this.help("check the path, and that this user may read and write there"),
    }
}

/// A backup that is being made.
pub(super) struct Draft {
    partial: PathBuf,
    done: PathBuf,
    files: Vec<FileEntry>,
}

impl Draft {
    /// A new folder below `root`, which is made if it is missing. Both belong to this user alone.
    ///
    /// # Errors
    /// Failed: the folder cannot be made. Refused: others can read `root`.
    pub(super) fn begin(root: &Path, database: &str, at: Timestamp) -> Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(root).map_err(|error| failed("make", root, &error))?;
        let mode = fs::metadata(root).map_err(|error| failed("look at", root, &error))?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(Error::refused(format!(
                "others may write into the folder of backups, {}",
                root.display()
            ))
            .help(format!("chmod go-w {}", root.display())));
        }
        let name = format!("{}-{}", at.strftime("%Y%m%dT%H%M%SZ"), plain(database, 60));
        builder.recursive(false);
        // Two backups of one second get different names.
        for number in 1..100 {
            let name = if number == 1 { name.clone() } else { format!("{name}-{number}") };
            let (partial, done) = (root.join(format!("{name}{PARTIAL}")), root.join(&name));
            if done.exists() {
                continue;
            }
            match builder.create(&partial) {
                Ok(()) => return Ok(Self { partial, done, files: Vec::new() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make", &partial, &error)),
            }
        }
        Err(Error::failed(format!("{} holds too many backups of this second", root.display())))
    }

    /// Where it is written.
    pub(super) fn path(&self) -> &Path {
        &self.partial
    }

    /// A new file of mode 0600.
    ///
    /// # Errors
    /// Failed: it exists, or cannot be made.
    pub(super) fn file(&self, name: &str) -> Result<File> {
        create(&self.partial.join(name))
    }

    /// Takes a file that was written into the list.
    pub(super) fn add(&mut self, name: &str, bytes: u64, sha256: String) {
        self.files.push(FileEntry { name: name.to_owned(), bytes, sha256 });
    }

    /// Writes a small file and takes it into the list.
    ///
    /// # Errors
    /// Failed: it cannot be written.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        write(&self.partial.join(name), bytes)?;
        self.add(name, bytes.len() as u64, checksum::of(bytes));
        Ok(())
    }

    /// Writes manifest and checksums.
    ///
    /// # Errors
    /// Failed: they cannot be written.
    pub(super) fn describe(&mut self, manifest: &mut Manifest) -> Result<()> {
        manifest.files.clone_from(&self.files);
        let mut text = serde_json::to_string_pretty(manifest)
            .map_err(|error| Error::failed(format!("the manifest cannot be written: {error}")))?;
        text.push('\n');
        self.write(MANIFEST, text.as_bytes())?;
        let sums: String = self.files.iter().map(|of| format!("{}  {}\n", of.sha256, of.name)).collect();
        write(&self.partial.join(SUMS), sums.as_bytes())
    }

    /// Gives the backup its name. Everything in it is on disk by then.
    ///
    /// # Errors
    /// Failed: the disk does not take it.
    pub(super) fn finish(self) -> Result<PathBuf> {
        let sync = |path: &Path| {
            File::open(path).and_then(|file| file.sync_all()).map_err(|error| failed("sync", path, &error))
        };
        sync(&self.partial)?;
        fs::rename(&self.partial, &self.done).map_err(|error| failed("rename", &self.partial, &error))?;
        sync(self.done.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        Ok(self.done)
    }

    /// Removes it: the making failed.
    pub(super) fn discard(self) {
        if let Err(error) = fs::remove_dir_all(&self.partial) {
            tracing::warn!("{} stays behind: {error}", self.partial.display());
        }
    }
}

/// A name as part of a file's: letters, digits, `_` and `-`.
pub(super) fn plain(name: &str, longest: usize) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    name.chars().take(longest).map(fits).collect()
}

fn create(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|error| failed("create", path, &error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| failed("write", path, &error))
}

/// Reads a backup's manifest.
///
/// # Errors
/// Usage: there is no backup. Differences: the manifest is damaged. Refused: a newer program made it.
pub(super) fn manifest(path: &Path) -> Result<Manifest> {
    let file = path.join(MANIFEST);
    let bytes = fs::read(&file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.to_string_lossy().ends_with(PARTIAL) => {
            Error::usage(format!("the backup {} was never finished", path.display()))
                .help("take another one; this folder can be removed")
        }
        io::ErrorKind::NotFound if !path.is_dir() => {
            Error::usage(format!("there is no backup {}", path.display()))
                .help("`v1v2 backup list` shows all")
        }
        io::ErrorKind::NotFound => {
            Error::differences(format!("the backup {} is damaged: it has no {MANIFEST}", path.display()))
        }
        _ => failed("read", &file, &error),
    })?;
    let damaged = || {
        Error::differences(format!("the backup {} is damaged: its manifest cannot be read", path.display()))
    };
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if format > FORMAT {
        return Err(Error::refused(format!(
            "the backup {} has format {format}, and this program knows formats up to {FORMAT}",
            path.display()
        ))
        .help("use the newer v1v2 that made it"));
    }
    serde_json::from_slice(&bytes).map_err(|_| damaged())
}

/// What is wrong with the files as far as names, sizes and the manifest's own checksum tell; their contents are not read.
pub(super) fn quick_problems(path: &Path, manifest: &Manifest) -> Vec<String> {
    let mut problems = Vec::new();
    let Ok(sums) = fs::read_to_string(path.join(SUMS)) else {
        return vec![format!("{SUMS} is missing or cannot be read")];
    };
    let mut listed: Vec<(&str, &str)> = sums.lines().filter_map(|line| line.split_once("  ")).collect();
    listed.sort_by_key(|(_, name)| *name);
    let mut expected: Vec<(&str, &str)> =
        manifest.files.iter().map(|of| (of.sha256.as_str(), of.name.as_str())).collect();
    let of_manifest = fs::read(path.join(MANIFEST)).map(|bytes| checksum::of(&bytes)).unwrap_or_default();
    expected.push((&of_manifest, MANIFEST));
    expected.sort_by_key(|(_, name)| *name);
    if listed != expected {
        problems.push(format!("{MANIFEST} and {SUMS} do not belong together: one of them was changed"));
    }
    for of in &manifest.files {
        // A name with a slash would lead elsewhere.
        if of.name.contains('/') || of.name.starts_with('.') {
            problems.push(format!("{MANIFEST} names a file outside of the backup"));
            continue;
        }
        match fs::metadata(path.join(&of.name)) {
            Ok(found) if found.len() == of.bytes => {}
            Ok(found) => {
                problems.push(format!("{} has {} bytes instead of {}", of.name, found.len(), of.bytes));
            }
            Err(_) => problems.push(format!("{} is missing", of.name)),
        }
    }
    problems
}

/// What the last verification found, if it was one of these very files.
pub(super) fn verification(path: &Path) -> Option<Verification> {
    let found: Verification = serde_json::from_slice(&fs::read(path.join(VERIFICATION)).ok()?).ok()?;
    let sums = fs::read(path.join(SUMS)).ok()?;
    (found.of == checksum::of(&sums)).then_some(found)
}

/// Keeps what a verification found. On a read-only disk it is not kept, which is no reason to fail.
pub(super) fn keep_verification(path: &Path, problems: &[String]) -> Option<Verification> {
    let sums = fs::read(path.join(SUMS)).unwrap_or_default();
    let found = Verification {
        at: Timestamp::now().to_string(),
        of: checksum::of(&sums),
        problems: problems.to_vec(),
    };
    let keep = || -> Result<()> {
        let new = path.join(format!("{VERIFICATION}.{}", std::process::id()));
        let text = serde_json::to_vec_pretty(&found)
            .map_err(|error| Error::failed(format!("the finding cannot be written: {error}")))?;
        write(&new, &text)?;
        let to = path.join(VERIFICATION);
        fs::rename(&new, &to).map_err(|error| failed("write", &to, &error))
    };
    match keep() {
        Ok(()) => Some(found),
        Err(error) => {
            tracing::warn!("the verification is not remembered: {}", error.message());
            None
        }
    }
}
