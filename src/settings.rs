//! Every setting, resolved once: files, environment and flags become one [`Settings`] that later code uses.

use std::path::PathBuf;

use secrecy::SecretString;

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

/// All settings of one invocation.
#[derive(Debug)]
pub struct Settings {
    /// URL of V1.
    pub v1_url: Option<SecretString>,
    /// URL of V2; the scheme decides between Postgres and MongoDB.
    pub v2_url: Option<SecretString>,
    /// A folder whose files replace the embedded `migrators/` file by file.
    pub migrators_dir: Option<PathBuf>,
    /// A folder whose files replace the embedded `setup/` file by file.
    pub setup_dir: Option<PathBuf>,
    /// Rows of V1 in a chunk.
    pub batch_size: usize,
    /// Bytes of V1 (COPY text) in a chunk, whichever limit is met first.
    pub batch_bytes: usize,
    /// Connections that write at the same time.
    pub writers: usize,
    /// Whether an empty V2 is loaded with foreign keys and derivable indexes put back at the end.
    pub bulk: bool,
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
    /// Whether to allow a remote server without verified TLS.
    pub insecure_tls: bool,
    /// Where the log file goes; rotated by run.
    pub log_file: PathBuf,
}
