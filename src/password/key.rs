//! The run's secret key, and the file that keeps it.
//!
//! Whoever holds the key and knows an account's id knows that account's password, so the file is treated like a private SSH
//! key: it must be ours alone, a regular file and no link, or the program refuses to start. It is never replaced:
//! another key would make every password that was handed out wrong.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rand::TryRng;
use rand::rngs::SysRng;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::{Error, Result};

/// Bytes of a key: as many as HKDF-SHA256 and ChaCha20 can use.
const KEY_BYTES: usize = 32;

/// What a key file begins with; the number changes if the format or the derivation ever does.
const HEADER: &str = "v1v2-key-1:";

/// Length of a key file: header, hexadecimal digits, line feed.
const FILE_BYTES: usize = HEADER.len() + 2 * KEY_BYTES + 1;

/// The secret from which all passwords of a run are derived. Wiped from memory when dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; KEY_BYTES]);

impl SecretKey {
    /// A new key from the operating system's random source.
    ///
    /// # Errors
    /// When the source fails. There is no second choice: weaker randomness would be weaker passwords for everybody.
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
        SysRng.try_fill_bytes(bytes.as_mut_slice()).map_err(|error| {
            Error::failed(format!("the operating system's random source failed: {error}"))
        })?;
        Ok(Self(*bytes))
    }

    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads the text form, as a key file or a secret store holds it: `v1v2-key-1:` and 64 hexadecimal digits; white
    /// space around it is ignored. `None` if it is anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let digits = text.trim_ascii().strip_prefix(HEADER)?.as_bytes();
        if digits.len() != 2 * KEY_BYTES {
            return None;
        }
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(*bytes))
    }

    /// The text form, one line with its line feed.
    pub fn to_text(&self) -> Zeroizing<String> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // The whole capacity at once: growing would leave copies of the key behind in freed memory.
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES));
        text.push_str(HEADER);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text.push('\n');
        text
    }

    /// Eight hexadecimal digits that tell two keys apart and say nothing about either, to be stored with a run: a
    /// later command that is given another key can refuse instead of handing out wrong passwords.
    pub fn fingerprint(&self) -> String {
        let hash = Sha256::new().chain_update(b"v1v2 key fingerprint 1\0").chain_update(self.0).finalize();
        hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key itself, for the derivation.
    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

/// Loads the key of `path`, or makes a new one there (mode 0600, on disk before this returns) if no such file exists.
///
/// # Errors
/// As [`load`]; also when the file cannot be created or the random source fails.
pub fn load_or_create(path: &Path) -> Result<SecretKey> {
    match read(path)? {
        Some(key) => Ok(key),
        None => create(path),
    }
}

/// Loads the key of `path`.
///
/// # Errors
/// Refused if the file is missing, not readable, a symbolic link, not a regular file, somebody else's, open to others
/// (any permission of group or others), or not a key.
pub fn load(path: &Path) -> Result<SecretKey> {
    read(path)?.ok_or_else(|| {
        Error::refused(format!("the key file {} does not exist", path.display())).help(
            "set `key_file` to the file that the migration used; without it its passwords cannot be derived",
        )
    })
}

/// The key of `path`, or `None` if there is no such file.
fn read(path: &Path) -> Result<Option<SecretKey>> {
    // NONBLOCK: opening a named pipe must not hang; what is opened is judged by its descriptor, not by a second look-up.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(Error::refused(format!("the key file {} is a symbolic link", path.display()))
                .help("set `key_file` to the file itself"));
        }
        Err(error) => {
            return Err(Error::refused(format!("the key file {} cannot be read: {error}", path.display()))
                .help(format!("run as the file's owner, with `chmod 600 {}`", path.display())));
        }
    };
    check_protection(&file, path)?;

    // One byte more than a key file has, so that a longer file is noticed without being read.
    let mut content = Zeroizing::new(Vec::with_capacity(FILE_BYTES + 1));
    (&mut file).take(FILE_BYTES as u64 + 1).read_to_end(&mut content).map_err(|error| {
        Error::refused(format!("the key file {} cannot be read: {error}", path.display()))
    })?;
    let key = std::str::from_utf8(&content)
        .ok()
        .filter(|_| content.len() <= FILE_BYTES)
        .and_then(SecretKey::from_text)
        .ok_or_else(|| {
            Error::refused(format!("{} is not a key file of v1v2, or it is damaged", path.display())).help(format!(
                "restore it from a backup (one line, `{HEADER}` and 64 hexadecimal digits); only if no migration has \
                 used it yet, delete it and a new one is made"
            ))
        })?;
    Ok(Some(key))
}

/// Refuses a file that is not a regular one or that anybody but its owner could read or replace in place.
fn check_protection(file: &File, path: &Path) -> Result<()> {
    let metadata = file.metadata().map_err(|error| {
        Error::refused(format!("the key file {} cannot be examined: {error}", path.display()))
    })?;
    if !metadata.is_file() {
        return Err(Error::refused(format!("the key file {} is not a regular file", path.display()))
            .help("set `key_file` to the path of a file"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::refused(format!(
            "the key file {} is open to other users (mode {:04o})",
            path.display(),
            metadata.mode() & 0o7777
        ))
        .help(format!("chmod 600 {}", path.display())));
    }
    // Root may read anybody's file, and a file of root's that we could open was meant for us.
    let me = rustix::process::geteuid();
    if metadata.uid() != me.as_raw() && metadata.uid() != 0 && !me.is_root() {
        return Err(Error::refused(format!("the key file {} belongs to another user", path.display()))
            .help(format!("take it over: chown $USER {0} && chmod 600 {0}", path.display())));
    }
    Ok(())
}

/// Makes a new key and its file; fails if the file exists by now.
fn create(path: &Path) -> Result<SecretKey> {
    let key = SecretKey::generate()?;
    let refused = |error: io::Error| {
        Error::refused(format!("the key file {} cannot be created: {error}", path.display()))
            .help("create its folder and make it writable, or set `key_file` to another place")
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(refused)?;
    let written = file
        .write_all(key.to_text().as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(path))
        .map_err(refused)
        // A file system without permissions (FAT, some shared folders) shows itself only now.
        .and_then(|()| check_protection(&file, path));
    if let Err(error) = written {
        // Nobody has used this key yet; a half-written file would only be in the way.
        return Err(match std::fs::remove_file(path) {
            Ok(()) => error,
            Err(_) => error.help(format!("delete {} and set `key_file` to another place", path.display())),
        });
    }
    Ok(key)
}

/// Makes the file's name durable too: a key that vanishes in a power cut takes all passwords with it.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_key_is_created_once_and_loaded_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v1v2.key");
        assert_eq!(load(&path).unwrap_err().kind(), Kind::Refused);
        let made = load_or_create(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), *made.to_text());
        assert_eq!(load_or_create(&path).unwrap().bytes(), made.bytes());
        assert_eq!(load(&path).unwrap().bytes(), made.bytes());
        assert_eq!(create(&path).unwrap_err().kind(), Kind::Refused);
        assert_eq!(load(&path).unwrap().bytes(), made.bytes(), "an existing key must survive");
    }

    #[test]
    fn two_keys_differ_and_so_do_their_fingerprints() {
        let (one, two) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        assert_ne!(one.bytes(), two.bytes());
        assert_ne!(one.fingerprint(), two.fingerprint());
        // Stored in V2 by older versions: must never change.
        assert_eq!(SecretKey::from_bytes([7; 32]).fingerprint(), "6630417a");
    }

    #[test]
    fn debug_hides_the_key() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes([0xab; 32])), "SecretKey(hidden)");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o644, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused);
            assert_eq!(error.fix().unwrap(), format!("chmod 600 {}", path.display()));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        load(&path).unwrap();
    }

    #[test]
    fn links_folders_and_pipes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        load_or_create(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert!(load_or_create(&link).unwrap_err().message().contains("symbolic link"));
        let dangling = folder.path().join("dangling");
        symlink(folder.path().join("nowhere"), &dangling).unwrap();
        assert_eq!(load_or_create(&dangling).unwrap_err().kind(), Kind::Refused);
        assert!(!folder.path().join("nowhere").exists());
        assert!(load(folder.path()).unwrap_err().message().contains("not a regular file"));
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(load(&pipe).unwrap_err().message().contains("not a regular file"));
    }

    #[test]
    fn damaged_files_are_refused_and_left_alone() {
        let good = SecretKey::from_bytes([9; 32]).to_text();
        let damaged = [
            String::new(),
            good[..good.len() - 3].to_owned(),
            format!("{}{}", good.as_str(), "00"),
            good.replace("v1v2-key-1", "v1v2-key-2"),
            good.replace("09", "0g"),
            good.replacen("0909", "+9+9", 1),
            "0".repeat(10_000),
        ];
        for content in damaged {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("key");
            fs::write(&path, &content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused);
            assert!(!error.to_string().contains("0909"), "an error must not show the key");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_key_file_without_its_line_feed_still_works() {
        let key = SecretKey::from_bytes([9; 32]);
        assert_eq!(SecretKey::from_text(key.to_text().trim()).unwrap().bytes(), key.bytes());
    }

    #[test]
    fn an_unusable_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = load_or_create(&folder.path().join("missing/key")).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.fix().is_some());
        // Not even root can write there.
        assert_eq!(load_or_create(Path::new("/proc/v1v2.key")).unwrap_err().kind(), Kind::Refused);
    }
}
