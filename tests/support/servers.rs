//! Finds the throw-away servers: from the environment, else by starting them with `scripts/services.sh`.
//!
//! `make test` and CI start the servers first and hand over their URLs. A bare `cargo test` must work just as well,
//! so the first test that needs a server runs the script; a file lock in the script makes that safe for any number of
//! test processes, and servers that run already are reused in a third of a second. They stay up afterwards
//! (`make clean-services` ends them), which is what makes the next `cargo test` quick.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// A database server of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    V1,
    V2,
    MongoDb,
}

impl Server {
    /// The URL for maintenance: a superuser's, of the database `postgres` (MongoDB: of the whole server).
    pub fn url(self) -> &'static str {
        match self {
            Self::V1 => &POSTGRES.0,
            Self::V2 => &POSTGRES.1,
            Self::MongoDb => &MONGODB,
        }
    }
}

const V1: &str = "V1V2_TEST_V1_URL";
const V2: &str = "V1V2_TEST_V2_URL";
const MONGO: &str = "V1V2_TEST_MONGODB_URL";

static POSTGRES: LazyLock<(String, String)> = LazyLock::new(|| {
    if let (Ok(v1), Ok(v2)) = (std::env::var(V1), std::env::var(V2)) {
        return (v1, v2);
    }
    let urls = start("postgres");
    (urls[V1].clone(), urls[V2].clone())
});

// Apart from Postgres, so that tests which do without MongoDB neither download nor start it.
static MONGODB: LazyLock<String> =
    LazyLock::new(|| std::env::var(MONGO).unwrap_or_else(|_| start("mongodb")[MONGO].clone()));

/// Starts servers with the script and returns what its `env` says.
fn start(what: &str) -> HashMap<String, String> {
    script(&["up", what]);
    script(&["env"]).lines().filter_map(variable).collect()
}

/// `export NAME='value'` taken apart.
fn variable(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
    Some((name.to_owned(), value.trim_matches('\'').to_owned()))
}

fn script(arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services.sh");
    let output = Command::new(&path).args(arguments).output().unwrap_or_else(|error| {
        panic!("{} does not start: {error}", path.display());
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/services.sh {} failed:\n{stderr}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}
