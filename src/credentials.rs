//! The hand-out list of generated passwords, and the check of one login.
//!
//! The list is the one place where passwords leave the program, so it is encrypted on the way out: rows flow through the CSV
//! writer and `age` into the file, and plaintext never rests on disk unless the user says so. Files are created anew
//! with mode 0600; an existing one is never touched, because it may be the only copy of an earlier list.
//!
//! Spreadsheets run cells that begin like a formula. Names and logins come from V1's users, so such cells get a quote in
//! front; a password is never altered, and needs not be: its alphabet has none of those characters.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredWriter, Format};
use age::stream::StreamWriter;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::password;

mod file_names;

use file_names::FileNames;

/// The CSV's header.
const HEADER: [&str; 6] = ["scope", "entity", "name", "login", "email", "password"];

/// One line of the hand-out list.
#[derive(Clone)]
pub struct Credential {
    /// What the list is divided by, in words: an organisation's name or code. May be empty.
    pub scope: String,
    /// The entity the account came from.
    pub entity: String,
    /// The person's name.
    pub name: String,
    /// What the person types in to sign in.
    pub login: String,
    /// The account's email.
    pub email: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

/// Where a list goes and how it is protected.
#[derive(Debug, Clone)]
pub struct ExportOutput {
    /// The file or folder.
    pub place: Place,
    /// Encrypted, or plain because the user asked for it.
    pub protection: Protection,
}

/// Where a list goes.
#[derive(Debug, Clone)]
pub enum Place {
    /// One file, which must not exist.
    File(PathBuf),
    /// One file per scope in a folder (created with mode 0700 if missing), named after the scope, with `.csv` or
    /// `.csv.age` appended. The rows must come grouped by scope.
    FolderPerScope(PathBuf),
}

/// How a list is protected.
#[derive(Debug, Clone)]
pub enum Protection {
    /// Encrypted to everybody in `recipients`, in age's text form if `armor`, else in its binary form.
    Age {
        /// Who can decrypt it.
        recipients: Recipients,
        /// Text form, for mail and chat.
        armor: bool,
    },
    /// Not encrypted.
    Plain,
}

impl Protection {
    fn extension(&self) -> &'static str {
        match self {
            Self::Age { .. } => ".csv.age",
            Self::Plain => ".csv",
        }
    }
}

/// Checked age recipients, at least one.
#[derive(Clone)]
pub struct Recipients(Vec<age::x25519::Recipient>);

impl Recipients {
    /// Reads recipients in age's text form (`age1…`); the same one twice counts once.
    ///
    /// # Errors
    /// A usage error if there is none or one of them is not an X25519 recipient. The text itself is not repeated: it may be a
    /// secret key, pasted by mistake.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self> {
        let mut seen = HashSet::new();
        let mut recipients = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let text = text.as_ref().trim();
            let recipient =
                text.parse::<age::x25519::Recipient>().map_err(|_| wrong_recipient(index + 1, text))?;
            if seen.insert(recipient.to_string()) {
                recipients.push(recipient);
            }
        }
        if recipients.is_empty() {
            return Err(Error::usage("no recipient is given to encrypt the list to")
                .help("make a key with `age-keygen -o key.txt` and give its public key (age1…), or ask for a plain file"));
        }
        Ok(Self(recipients))
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipients({})", self.0.len())
    }
}

fn wrong_recipient(number: usize, text: &str) -> Error {
    let upper = text.get(..15).unwrap_or_default().to_ascii_uppercase();
    if upper.starts_with("AGE-SECRET-KEY-") {
        Error::usage(format!("recipient {number} is a secret key"))
            .help("give the public key (age1…) that `age-keygen -y` prints for it, and remove the secret key from your shell's history")
    } else if text.starts_with("ssh-") {
        Error::usage(format!("recipient {number} is an SSH key; only age's own keys are supported"))
            .help("make a key with `age-keygen -o key.txt` and give its public key (age1…)")
    } else if text.starts_with("age1") {
        Error::usage(format!("recipient {number} is damaged, incomplete or of a kind that is not supported"))
            .help("copy the whole public key: 62 characters that begin with age1")
    } else {
        Error::usage(format!("recipient {number} is not an age public key"))
            .help("a recipient begins with age1; `age-keygen -o key.txt` makes one")
    }
}

/// Writes the list and returns the number of people in it. Streams: memory does not grow with the list.
///
/// On an error nothing is left behind: files that this call created are removed.
///
/// # Errors
/// The first error of `rows`; refused if a file exists or cannot be created; failed if writing fails, or if rows of one scope are
/// not together in a list with one file per scope.
pub fn write(rows: impl Iterator<Item = Result<Credential>>, output: ExportOutput) -> Result<u64> {
    let mut created = Vec::new();
    let result = match &output.place {
        Place::File(path) => write_file(rows, path, &output.protection, &mut created),
        Place::FolderPerScope(folder) => write_folder(rows, folder, &output.protection, &mut created),
    };
    result.map_err(|error| {
        // A list that lacks people looks like a whole one.
        let left: Vec<String> = created
            .iter()
            .filter(|path| std::fs::remove_file(path).is_err())
            .map(|path| path.display().to_string())
            .collect();
        if left.is_empty() {
            error
        } else {
            error.details(format!("delete these incomplete lists: {}", left.join(", ")))
        }
    })
}

fn write_file(
    rows: impl Iterator<Item = Result<Credential>>,
    path: &Path,
    protection: &Protection,
    created: &mut Vec<PathBuf>,
) -> Result<u64> {
    let mut list = List::create(path.to_owned(), protection, created)?;
    let mut count = 0;
    for row in rows {
        list.push(&row?)?;
        count += 1;
    }
    list.finish()?;
    Ok(count)
}

fn write_folder(
    rows: impl Iterator<Item = Result<Credential>>,
    folder: &Path,
    protection: &Protection,
    created: &mut Vec<PathBuf>,
) -> Result<u64> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        Error::refused(format!("the folder {} cannot be created: {error}", folder.display()))
            .help("choose a folder in a place that you may write to")
    })?;
    let mut names = FileNames::default();
    let mut current: Option<(String, List)> = None;
    let mut count = 0;
    for row in rows {
        let row = row?;
        // One open file at a time: thousands of scopes must not run into the limit on open files.
        let mut list = match current.take() {
            Some((scope, list)) if scope == row.scope => list,
            finished => {
                if let Some((_, list)) = finished {
                    list.finish()?;
                }
                let name = names.next(&row.scope)?;
                List::create(folder.join(format!("{name}{}", protection.extension())), protection, created)?
            }
        };
        list.push(&row)?;
        count += 1;
        current = Some((row.scope.clone(), list));
    }
    if let Some((_, list)) = current {
        list.finish()?;
    }
    Ok(count)
}

/// One open list.
struct List {
    csv: csv::Writer<Sink>,
    path: PathBuf,
}

impl List {
    fn create(path: PathBuf, protection: &Protection, created: &mut Vec<PathBuf>) -> Result<Self> {
        // O_EXCL also refuses a symbolic link that somebody put there.
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|error| {
                let refused =
                    Error::refused(format!("the list {} cannot be created: {error}", path.display()));
                if error.kind() == io::ErrorKind::AlreadyExists {
                    refused
                        .help("an existing file is never overwritten: choose another name, or move it away")
                } else {
                    refused.help("choose a place that exists and that you may write to")
                }
            })?;
        created.push(path.clone());
        let sink =
            Sink::new(BufWriter::new(file), protection).map_err(|error| write_failed(&path, &error))?;
        let mut list = Self { csv: csv::Writer::from_writer(sink), path };
        list.record(HEADER)?;
        Ok(list)
    }

    fn push(&mut self, row: &Credential) -> Result<()> {
        if is_formula(&row.password) {
            // Only a password that `derive` did not make; writing it changed would be as wrong as writing it as it is.
            return Err(Error::failed(
                "a password begins like a spreadsheet formula and cannot be listed safely",
            ));
        }
        let cells = [
            cell(&row.scope),
            cell(&row.entity),
            cell(&row.name),
            cell(&row.login),
            cell(&row.email),
            Cow::Borrowed(row.password.as_str()),
        ];
        self.record(cells.iter().map(AsRef::as_ref))
    }

    fn record<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) -> Result<()> {
        self.csv.write_record(cells).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => write_failed(&self.path, &error),
            _ => Error::failed(format!("the list {} cannot be written", self.path.display())),
        })
    }

    /// Completes the file: without the encryption's last block it could not be told from one that was cut short.
    fn finish(self) -> Result<()> {
        let Self { csv, path } = self;
        csv.into_inner()
            .map_err(|error| error.into_error())
            .and_then(Sink::finish)
            .map_err(|error| write_failed(&path, &error))
    }
}

fn write_failed(path: &Path, error: &io::Error) -> Error {
    Error::failed(format!("the list {} cannot be written: {error}", path.display()))
        .help("free some disk space or choose another place, then export again: the passwords stay the same")
}

/// A file, perhaps behind encryption.
enum Sink {
    Plain(BufWriter<File>),
    Age(Box<StreamWriter<ArmoredWriter<BufWriter<File>>>>),
}

impl Sink {
    fn new(file: BufWriter<File>, protection: &Protection) -> io::Result<Self> {
        match protection {
            Protection::Plain => Ok(Self::Plain(file)),
            Protection::Age { recipients, armor } => {
                let format = if *armor { Format::AsciiArmor } else { Format::Binary };
                let recipients = recipients.0.iter().map(|recipient| recipient as &dyn age::Recipient);
                let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
                let writer = encryptor.wrap_output(ArmoredWriter::wrap_output(file, format)?)?;
                Ok(Self::Age(Box::new(writer)))
            }
        }
    }

    /// Writes what is buffered and waits until the disk has it.
    fn finish(self) -> io::Result<()> {
        let buffer = match self {
            Self::Plain(buffer) => buffer,
            Self::Age(stream) => stream.finish()?.finish()?,
        };
        buffer.into_inner().map_err(|error| error.into_error())?.sync_all()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(writer) => writer.write(bytes),
            Self::Age(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.flush(),
            // An encrypted stream has nothing to show before its last block, and age 0.12.1 counts columns wrong after
            // a flush in the middle of its text form, which makes the file unreadable.
            Self::Age(_) => Ok(()),
        }
    }
}

/// Whether a spreadsheet would take the text for a formula (OWASP, "CSV Injection").
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n'])
}

/// The text as a cell that no spreadsheet runs.
fn cell(text: &str) -> Cow<'_, str> {
    if is_formula(text) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

/// What became of an attempt to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginCheck {
    /// The password is right and the account is open.
    Accepted,
    /// The password is wrong.
    WrongPassword,
    /// The account is locked; the password was not looked at.
    Locked,
    /// The account has no password.
    NoPassword,
    /// What is stored is not a hash that can be checked here.
    UnreadableHash,
}

impl LoginCheck {
    /// Whether the person could sign in.
    pub fn accepted(self) -> bool {
        self == Self::Accepted
    }
}

impl fmt::Display for LoginCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "the password is right",
            Self::WrongPassword => "the password is wrong",
            Self::Locked => "the account is locked",
            Self::NoPassword => "the account has no password: it needs a reset",
            Self::UnreadableHash => "the stored password hash cannot be checked here",
        })
    }
}

/// Checks what a person would type in against what V2 stores. Blocks for the time of one hash.
pub fn check_login(stored_hash: Option<&str>, locked: bool, password: &str) -> LoginCheck {
    if locked {
        return LoginCheck::Locked;
    }
    match stored_hash {
        None | Some("") => LoginCheck::NoPassword,
        Some(stored) => match password::verify(stored, password) {
            Ok(true) => LoginCheck::Accepted,
            Ok(false) => LoginCheck::WrongPassword,
            Err(_) => LoginCheck::UnreadableHash,
        },
    }
}

#[cfg(test)]
mod tests;
