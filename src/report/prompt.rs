//! Questions. They go to stderr, as stdout is for results; and where nobody can answer, the question becomes a usage
//! error that names `--force`, because a script that hangs at a prompt is worse than one that fails.

use std::io::{self, BufRead, IsTerminal, Write};

use secrecy::SecretString;

use crate::error::{Error, Result};

fn ask(question: &str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return Err(Error::usage(format!("this needs an answer, and there is no terminal: {question}"))
            .help("add --force to go on without being asked"));
    }
    let mut stderr = io::stderr().lock();
    let asked = write!(stderr, "{question} ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Error::failed(format!("the terminal cannot be read: {error}")))?;
    Ok(answer.trim().to_owned())
}

/// Asks a yes-or-no question; anything but yes is no.
///
/// # Errors
/// Usage: there is no terminal. Interrupted: the answer is no.
pub fn confirm(question: &str) -> Result<()> {
    match ask(&format!("{question} [y/N]"))?.to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::interrupted("stopped: the answer was no; nothing was changed")),
    }
}

/// Asks to type a word, such as a database's name, before something that cannot be undone.
///
/// # Errors
/// Usage: there is no terminal. Interrupted: something else was typed.
pub fn type_to_confirm(question: &str, expected: &str) -> Result<()> {
    let typed = ask(&format!("{question} Type {expected} to go on:"))?;
    if typed == expected {
        Ok(())
    } else {
        Err(Error::interrupted("stopped: something else was typed; nothing was changed"))
    }
}

/// Reads a password: from the terminal without showing it, else the first line of stdin. Never an argument, as
/// arguments show in process lists.
///
/// # Errors
/// Usage: stdin is empty. Failed: it cannot be read.
pub fn password(question: &str) -> Result<SecretString> {
    let failed = |error: io::Error| Error::failed(format!("the password cannot be read: {error}"));
    if io::stdin().is_terminal() {
        return rpassword::prompt_password(question).map(SecretString::from).map_err(failed);
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(
            Error::usage("no password came on stdin").help("pipe it in as one line, or use a terminal")
        );
    }
    Ok(password.into())
}
