//! The command line as a user meets it: the real program, its exit codes and what it says on which stream.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program in a folder of its own, with nothing of this process's environment that is a setting.
fn v1v2(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_v1v2"));
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    v1v2(folder.path()).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn wrong_usage_ends_with_2_and_names_what_is_wrong() {
    for (arguments, part) in [
        (&["migrat"][..], "migrate"),
        (&[][..], "Usage"),
        (&["migrate", "--nonsense"][..], "--nonsense"),
        (&["migrate", "--filter", "schools"][..], "ENTITY:SQL"),
        (&["rollback", "--run", "not-an-id"][..], "--run"),
        (&["sample", "--people", "0"][..], "--people"),
        (&["completions", "cobol"][..], "cobol"),
        (&["credentials", "export"][..], "--recipient"),
        (&["credentials", "export", "--plain", "--recipient", "age1x"][..], "--plain"),
        (&["users", "verify-login"][..], "EMAIL"),
        (&["migrate", "--batch-size", "0"][..], "--batch-size must be a whole number from 1"),
        (&["migrate", "--passwords", "genrate"][..], "did you mean generate?"),
        (&["status", "--config", "missing.toml"][..], "missing.toml does not exist"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "errors go to stderr: {arguments:?}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["setup", "check", "migrate", "validate", "rollback", "Exit codes", "V1_DATABASE_URL"] {
        assert!(stdout(&help).contains(command), "{command}");
    }
    let version = run(&["--version"]);
    assert_eq!(stdout(&version).trim(), format!("v1v2 {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn all_bad_settings_are_listed_together() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("v1v2.toml"), "batchsize = 3\n").unwrap();
    std::fs::write(folder.path().join(".env"), "V1V2_BULK=maybe\n").unwrap();
    let output = v1v2(folder.path())
        .args(["migrate", "--writers", "many"])
        .env("V1V2_HASH_THREADS", "-1")
        .env("V1_DATABASE_URL", "CANARY")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    for part in [
        "error: 5 settings are wrong",
        "v1v2.toml:1: there is no setting batchsize; did you mean batch_size?",
        ".env:1: V1V2_BULK must be true or false",
        "environment: V1V2_HASH_THREADS",
        "command line: --writers",
        "environment: V1_DATABASE_URL must be a URL",
        "fix: ",
    ] {
        assert!(told.contains(part), "{part} is missing from:\n{told}");
    }
    assert!(!told.contains("CANARY") && !told.contains('\x1b'));
}

#[test]
#[cfg(unix)]
fn a_readable_env_file_with_a_password_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    std::fs::write(&path, "V2_DB_NAME=x\nV2_DB_PASSWORD=CANARY\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = v1v2(folder.path()).arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let told = stderr(&output);
    assert!(told.contains("fix: chmod 600 .env") && !told.contains("CANARY"), "{told}");
}

#[test]
fn completions_are_made_for_each_shell() {
    for (shell, part) in [("bash", "_v1v2()"), ("zsh", "#compdef v1v2"), ("fish", "complete -c v1v2")] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains(part), "{shell}");
        assert!(output.stderr.is_empty());
    }
    let fish = stdout(&run(&["completions", "fish"]));
    assert!(fish.contains("generate") && fish.contains("keep"), "values of --passwords are completed");
}

#[test]
fn the_printed_settings_are_a_valid_project_file() {
    let folder = tempfile::tempdir().unwrap();
    let printed = v1v2(folder.path()).arg("settings").output().unwrap();
    assert_eq!(printed.status.code(), Some(0));
    std::fs::write(folder.path().join("v1v2.toml"), &printed.stdout).unwrap();
    assert_eq!(v1v2(folder.path()).arg("settings").output().unwrap().stdout, printed.stdout);
}

#[test]
fn a_reader_that_leaves_early_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = v1v2(folder.path())
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(told.is_empty(), "{told}");
}
