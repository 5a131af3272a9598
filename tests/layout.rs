//! What the layout of the repository promises: an engine that does not know the example, files that can be read in one
//! sitting, and a map (ARCHITECTURE.md) that leads to places that are there.

use std::fs;
use std::path::{Path, PathBuf};

/// The built-in example's domain. A word of it in the engine is a case that only the example needs.
const EXAMPLE: [&str; 2] = ["teacher", "student"];

/// The aim is 400 lines; what is a little above it is not worth a split that has no meaning.
const MOST_LINES: usize = 450;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder of the repository, with what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
        }
    }
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let found = files(&root().join("src"));
    assert!(found.len() > 50, "only {} files below src", found.len());
    found
}

#[test]
fn the_engine_does_not_know_the_example() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if path.starts_with("src/sample") {
            continue;
        }
        let name = path.display().to_string();
        let lines = std::iter::once(name.as_str()).chain(text.lines()).enumerate();
        let known = |line: &str| EXAMPLE.iter().any(|word| line.to_lowercase().contains(word));
        found.extend(lines.filter(|(_, line)| known(line)).map(|(at, line)| format!("{name}:{at}: {line}")));
    }
    assert!(found.is_empty(), "words of the example outside src/sample:\n{}", found.join("\n"));
}

#[test]
fn no_source_file_is_too_long_to_read() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|(path, text)| (text.lines().count(), path.display().to_string()))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "split these by meaning: {long:?}");
}

/// In backticks and in drawings; a path below `src` may be written without it.
#[test]
fn the_architecture_names_only_files_that_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let in_a_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let words = text.split(|c| !in_a_path(c)).map(|word| word.trim_end_matches('.'));
    let is_path = |word: &&str| {
        let file = [".rs", ".toml", ".sql", ".sh", ".md", ".csv"].iter().any(|end| word.ends_with(end));
        file || word.contains('/') && !word.starts_with('/')
    };
    let named: Vec<_> = words.filter(is_path).collect();
    assert!(named.len() > 20, "found only {named:?}");
    let exists = |path: &str| root().join(path).exists() || root().join("src").join(path).exists();
    let gone: Vec<_> = named.into_iter().filter(|path| !exists(path)).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names what is not there: {gone:?}");
}
