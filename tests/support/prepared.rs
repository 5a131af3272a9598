//! What hundreds of tests begin with, made once by the real program and copied for each: a V1 with people of the sample, and
//! a V2 that was set up. A copy takes a fifth of the time. What `sample` and `setup` do has tests of its own.
//!
//! Nobody drops the originals: they serve until the process ends, and the next one drops what it left.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use super::{Database, Project};

/// A V1 with `people` of the sample, always the same ones; `more` are further arguments of `sample`.
pub fn sample(people: u32, more: &[&str]) -> Database {
    static MADE: Mutex<BTreeMap<String, Arc<OnceLock<Database>>>> = Mutex::new(BTreeMap::new());
    let people = people.to_string();
    let arguments = [&["sample", "--people", &people, "--seed", "7"], more].concat();
    let original = Arc::clone(MADE.lock().unwrap().entry(arguments.join(" ")).or_default());
    // Whoever else wants this one waits; whoever wants another one does not.
    let original = original.get_or_init(|| {
        let v1 = Database::v1();
        Project::new().env("V1_DATABASE_URL", v1.url()).run(&arguments).expect(0);
        v1
    });
    original.copy()
}

/// A Postgres V2 that was set up, and holds nothing else.
pub fn v2() -> Database {
    static ORIGINAL: LazyLock<Database> = LazyLock::new(|| {
        let v2 = Database::v2();
        Project::new().env("V2_DATABASE_URL", v2.url()).run(&["setup"]).expect(0);
        v2
    });
    ORIGINAL.copy()
}
