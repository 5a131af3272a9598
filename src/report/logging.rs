//! The log. Stderr gets warnings (with `--verbose` everything of ours); a run that changes something also writes all of
//! it to a file of its own. The driver's log is off: it would show statements with the values in them.
//!
//! Rotation is by run: `migration.log` is always the latest run; the one before it is `migration.1.log`, and so on up to
//! `log_keep`. A log that cannot be written is a warning: a full disk for logs must not stop a migration.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::Progress;

/// The log file of one run.
#[derive(Debug)]
pub struct LogFile {
    file: Mutex<File>,
    path: PathBuf,
    broken: AtomicBool,
}

impl LogFile {
    /// Moves older logs one number up, and opens a new file of mode 0600 that did not exist before. Only a plain file is
    /// ever moved: a device, such as `/dev/null`, is written to where it stands.
    ///
    /// # Errors
    /// The folder cannot be written; or at the path stands something that is neither a plain file nor a character device.
    pub fn rotate(path: &Path, keep: usize) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true);
        if is_device(path) {
            return Self::open(&options, path);
        }
        match fs::symlink_metadata(path) {
            Ok(there) if !there.is_file() => {
                let what = if there.is_symlink() { "a symbolic link" } else { "no plain file" };
                return Err(io::Error::other(format!("what stands there is {what}")));
            }
            Ok(_) if keep == 0 => fs::remove_file(path)?,
            Ok(_) => {
                for number in (1..keep).rev() {
                    let from = numbered(path, number);
                    if fs::symlink_metadata(&from).is_ok() {
                        fs::rename(from, numbered(path, number + 1))?;
                    }
                }
                fs::rename(path, numbered(path, 1))?;
            }
            Err(_) => {}
        }
        options.create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        Self::open(&options, path)
    }

    fn open(options: &OpenOptions, path: &Path) -> io::Result<Self> {
        let file = Mutex::new(options.open(path)?);
        Ok(Self { file, path: path.to_path_buf(), broken: AtomicBool::new(false) })
    }

    /// Writes, and warns once if that fails.
    fn append(&self, bytes: &[u8]) {
        let mut file = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Err(error) = file.write_all(bytes)
            && !self.broken.swap(true, Ordering::Relaxed)
        {
            let path = self.path.display();
            let told =
                writeln!(io::stderr(), "warning: the log {path} is incomplete: {error}; the run goes on");
            // Without stderr there is nobody to warn.
            drop(told);
        }
    }
}

/// Whether a character device stands there, such as `/dev/null`, or `/dev/stderr` by a link of the system. Opening a pipe
/// would wait for somebody who reads.
#[cfg(unix)]
fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|there| there.file_type().is_char_device())
}

/// Other systems name their devices where no file can be.
#[cfg(not(unix))]
fn is_device(_: &Path) -> bool {
    false
}

/// `migration.log` and 3 make `migration.3.log`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!(".{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// A whole event for the log file.
struct ToFile(Arc<LogFile>);

impl Write for ToFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A whole event for the terminal, written while the bars are out of the way.
struct ToTerminal(Progress);

impl Write for ToTerminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A closed stderr is no reason to fail.
        self.0.suspend(|| drop(io::stderr().lock().write_all(bytes)));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Terminal(Progress);

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = ToTerminal;
    fn make_writer(&'a self) -> Self::Writer {
        ToTerminal(self.0.clone())
    }
}

struct Filed(Arc<LogFile>);

impl<'a> MakeWriter<'a> for Filed {
    type Writer = ToFile;
    fn make_writer(&'a self) -> Self::Writer {
        ToFile(Arc::clone(&self.0))
    }
}

/// Starts logging for the process; a second call in one process (tests) changes nothing.
pub fn init(progress: &Progress, verbose: bool, color: bool, file: Option<LogFile>) {
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let terminal = tracing_subscriber::fmt::layer()
        .with_writer(Terminal(progress.clone()))
        .with_ansi(color)
        .with_target(false)
        .without_time()
        .with_filter(ours(level));
    let file = file.map(|file| {
        tracing_subscriber::fmt::layer()
            .with_writer(Filed(Arc::new(file)))
            .with_ansi(false)
            .with_filter(ours(LevelFilter::DEBUG))
    });
    let subscriber = Registry::default().with(terminal).with(file);
    // An error means that somebody has set a subscriber: then theirs counts.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Our own events from a level on, warnings of the others, and nothing of the driver.
fn ours(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("v1v2", level)
        .with_target("sqlx", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_own_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("migration.log");
        for run in 1..=5 {
            LogFile::rotate(&path, 3).unwrap().append(format!("run {run}").as_bytes());
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(read("migration.log").as_deref(), Some("run 5"));
        assert_eq!(read("migration.1.log").as_deref(), Some("run 4"));
        assert_eq!(read("migration.3.log").as_deref(), Some("run 2"));
        assert_eq!(read("migration.4.log"), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        LogFile::rotate(&path, 0).unwrap();
        assert_eq!(read("migration.log").as_deref(), Some(""));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_never_moved() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "mine").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(LogFile::rotate(&link, 3).is_err() && LogFile::rotate(folder.path(), 3).is_err());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let null = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        LogFile::rotate(&null, 3).unwrap().append(b"nothing");
        assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_an_error_for_the_caller_to_warn_about() {
        assert!(LogFile::rotate(Path::new("/nonexistent/migration.log"), 3).is_err());
    }
}
