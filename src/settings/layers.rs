//! Reads each layer into a list of "this key, this text, from there", without judging it. Where a value came from
//! travels with it, because "must be a whole number" helps nobody who has four places to look in.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::SETTINGS;
use super::table::Setting;
use super::value::did_you_mean;
use crate::error::{Error, Result};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file that is built into the program.
    Default,
    /// A file, and the line in it.
    File(PathBuf, usize),
    /// The process's environment.
    Environment,
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("config/default.toml"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment => f.write_str("environment"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// One value as it was given. Its text may be a secret, so the type has no `Debug`.
pub(super) struct Given {
    pub setting: &'static Setting,
    pub text: String,
    pub origin: Origin,
}

impl Given {
    /// The name under which the user wrote it.
    pub(super) fn name(&self) -> &'static str {
        match &self.origin {
            Origin::Flag => self.setting.flag.unwrap_or(self.setting.key),
            Origin::Environment => self.setting.environment,
            // `.env` holds environment names, all other files hold keys.
            Origin::File(path, _) if is_env_file(path) => self.setting.environment,
            _ => self.setting.key,
        }
    }
}

fn is_env_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == ".env")
}

/// What a layer gives, and what is wrong with it as a whole.
#[derive(Default)]
pub(super) struct Layer {
    pub given: Vec<Given>,
    pub problems: Vec<String>,
}

/// Names of the environment that begin like ours but are none of the program's business: what the test suite and
/// `scripts/services.sh` read, and the URLs of `backup copy`. Whoever exported one for them must be able to run the program
/// in the same shell. A name that ends in `_` stands for all that begin with it.
const NOT_SETTINGS: [&str; 5] = ["V1V2_TEST_", "V1V2_SERVICES_", "V1V2_COPY_", "V1V2_PG_BIN", "V1V2_MONGOD"];

fn is_ours(name: &str) -> bool {
    let known = |other: &&str| name == *other || other.ends_with('_') && name.starts_with(*other);
    name.starts_with("V1V2_") && !NOT_SETTINGS.iter().any(known)
}

fn unknown(layer: &mut Layer, origin: &Origin, name: &str, names: impl Iterator<Item = &'static str>) {
    let hint = match did_you_mean(name, names) {
        Some(near) => format!("; did you mean {near}?"),
        None => String::new(),
    };
    layer.problems.push(format!("{origin}: there is no setting {}{hint}", name.escape_debug()));
}

/// The environment. Names with our prefix that are no setting are problems; all others belong to others.
pub(super) fn environment(variables: impl IntoIterator<Item = (String, String)>) -> Layer {
    named(variables.into_iter().map(|(name, text)| (name, text, Origin::Environment)))
}

fn named(variables: impl Iterator<Item = (String, String, Origin)>) -> Layer {
    let mut layer = Layer::default();
    for (name, text, origin) in variables {
        match SETTINGS.iter().find(|setting| setting.environment == name) {
            // An empty variable is how Compose files and shells say "not set".
            Some(_) if text.is_empty() => {}
            Some(setting) => layer.given.push(Given { setting, text, origin }),
            None if is_ours(&name) => {
                unknown(&mut layer, &origin, &name, SETTINGS.iter().map(|setting| setting.environment));
            }
            None => {}
        }
    }
    layer
}

/// The `.env` of a folder, if there is one.
///
/// # Errors
/// Refused if it holds a secret and others can read it, or if it is a symlink and holds a secret.
pub(super) fn env_file(directory: &Path) -> Result<Layer> {
    let path = directory.join(".env");
    let Some(text) = read_optional(&path)? else { return Ok(Layer::default()) };
    let mut broken = Vec::new();
    let mut variables = Vec::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        match item {
            Ok((name, value)) => {
                let origin = Origin::File(shown(&path), line_of(&text, &name));
                variables.push((name, value, origin));
            }
            // The error quotes the line, which may hold a password, so only its number is told.
            Err(dotenvy::Error::LineParse(line, _)) => {
                let start = text.find(line.trim_end()).unwrap_or(0);
                let origin = Origin::File(shown(&path), line_at(&text, start));
                broken.push(format!("{origin}: is not NAME=value; put values with blanks or quotes in '…'"));
            }
            Err(_) => broken.push(format!("{}: cannot be read", shown(&path).display())),
        }
    }
    let mut layer = named(variables.into_iter());
    layer.problems.extend(broken);
    guard(&path, &layer)?;
    Ok(layer)
}

/// A project file.
///
/// # Errors
/// A named file is missing, it is not TOML, or it holds a secret and others can read it.
pub(super) fn project_file(path: &Path, required: bool) -> Result<Layer> {
    let Some(text) = read_optional(path)? else {
        if required {
            return Err(Error::usage(format!("the settings file {} does not exist", path.display()))
                .help("check the path that --config names"));
        }
        return Ok(Layer::default());
    };
    let layer = toml_text(&text, |line| Origin::File(shown(path), line));
    guard(path, &layer)?;
    Ok(layer)
}

/// Settings as TOML. `origin` makes the origin from a line number.
pub(super) fn toml_text(text: &str, origin: impl Fn(usize) -> Origin) -> Layer {
    let mut layer = Layer::default();
    match DeTable::parse(text) {
        Ok(root) => flatten(&mut layer, text, &origin, "", root.get_ref()),
        // The error's own display quotes the line, which may hold a password.
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            layer.problems.push(format!("{}: {}", origin(line_at(text, at)), error.message()));
        }
    }
    layer
}

fn flatten(
    layer: &mut Layer,
    text: &str,
    origin: &impl Fn(usize) -> Origin,
    path: &str,
    table: &DeTable<'_>,
) {
    for (name, value) in table {
        let key = format!("{path}{}", name.get_ref());
        let from = origin(line_at(text, name.span().start));
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            match value.get_ref() {
                DeValue::Table(inner) => flatten(layer, text, origin, &format!("{key}."), inner),
                _ => unknown(layer, &from, &key, SETTINGS.iter().map(|setting| setting.key)),
            }
            continue;
        };
        let text = match value.get_ref() {
            DeValue::String(string) => string.to_string(),
            DeValue::Boolean(truth) => truth.to_string(),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => number.to_string(),
                Err(_) => number.as_str().to_owned(),
            },
            DeValue::Float(number) => number.as_str().to_owned(),
            other => {
                let found = other.type_str();
                layer.problems.push(format!("{from}: {key} must be a single value, not a TOML {found}"));
                continue;
            }
        };
        layer.given.push(Given { setting, text, origin: from });
    }
}

fn read_optional(path: &Path) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::usage(format!("the settings file {} is not UTF-8 text", path.display()))
                .help("save it as UTF-8")),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::usage(format!("cannot read the settings file {}: {error}", path.display()))
            .help("make it readable for the user who runs v1v2")),
    }
}

/// Refuses a file that holds a secret and that other users of the machine can read, or that is a symlink: what it
/// points at can be exchanged by whoever owns the folder it lives in.
fn guard(path: &Path, layer: &Layer) -> Result<()> {
    if layer.given.iter().any(holds_secret) { private(path) } else { Ok(()) }
}

/// A URL is a secret only if there is a password in it.
fn holds_secret(given: &Given) -> bool {
    given.setting.secret
        && match url::Url::parse(&given.text) {
            Ok(url) if given.setting.key.ends_with(".url") => {
                url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password")
            }
            _ => true,
        }
}

/// Refuses a file with secrets that others can read or that is a symlink.
///
/// # Errors
/// Refused (exit 5), with the command that repairs it.
#[cfg(unix)]
pub fn private(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let name = shown(path);
    let name = name.display();
    if metadata.is_symlink() {
        return Err(Error::refused(format!("{name} holds a secret and is a symlink"))
            .help(format!("replace it by a file of its own, then `chmod 600 {name}`")));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::refused(format!(
            "{name} holds a secret and other users can read it (mode {mode:03o})"
        ))
        .help(format!("chmod 600 {name}")));
    }
    Ok(())
}

/// Other systems have no mode bits to look at.
#[cfg(not(unix))]
pub fn private(_: &Path) -> Result<()> {
    Ok(())
}

/// A path as the user would write it: without the working directory in front.
fn shown(path: &Path) -> PathBuf {
    let short =
        std::env::current_dir().ok().and_then(|dir| path.strip_prefix(dir).ok().map(Path::to_path_buf));
    short.unwrap_or_else(|| path.to_path_buf())
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The last line that assigns a name, as the last one is the one that counts.
fn line_of(text: &str, name: &str) -> usize {
    let assigns = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().enumerate().filter(|(_, line)| assigns(line)).last().map_or(1, |(index, _)| index + 1)
}
