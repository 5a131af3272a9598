use std::fs;
use std::path::Path;

use secrecy::ExposeSecret;

use super::*;
use crate::error::Kind;

fn sources(directory: &Path) -> Sources {
    Sources { directory: directory.to_path_buf(), ..Sources::default() }
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[cfg(unix)]
fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let settings = Settings::default();
    assert_eq!(settings.batch_size, 5000);
    assert_eq!(settings.batch_bytes, 8 << 20);
    assert_eq!(settings.writers, 2);
    assert!(settings.bulk && !settings.into_existing && !settings.insecure_tls);
    assert_eq!(settings.passwords, PasswordMode::Generate);
    assert_eq!(settings.password_length, 12);
    assert_eq!(settings.hash_cost, HashCost::default());
    assert_eq!(settings.key_file, Path::new("v1v2.key"));
    assert_eq!(settings.log_file, Path::new("migration.log"));
    assert_eq!(settings.connect_timeout, Duration::from_secs(10));
    assert!(settings.statement_timeout.is_zero());
}

/// Every row of the table stands in default.toml with its environment name and flag in the comment above, set or
/// commented out as the table says; and every key there is a row of the table.
#[test]
fn default_toml_and_the_table_agree() {
    let mut section = String::new();
    let mut comment = String::new();
    let mut seen: Vec<(String, bool)> = Vec::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
            comment.clear();
            continue;
        }
        let (body, set) = match line.strip_prefix("# ") {
            Some(body) => (body, false),
            None => (line, true),
        };
        let key = body.split_once(" = ").map(|(key, _)| format!("{section}{key}"));
        match key.filter(|key| set || SETTINGS.iter().any(|setting| setting.key == *key)) {
            Some(key) => {
                let setting = SETTINGS.iter().find(|setting| setting.key == key);
                let setting = setting.unwrap_or_else(|| panic!("{key} is no setting"));
                assert!(comment.contains(setting.environment), "{key}: {} not named", setting.environment);
                if let Some(flag) = setting.flag {
                    assert!(comment.contains(flag), "{key}: {flag} not named");
                }
                seen.push((key, set));
            }
            None if line.is_empty() => comment.clear(),
            None => comment.push_str(line),
        }
    }
    let expected: Vec<(String, bool)> =
        SETTINGS.iter().map(|setting| (setting.key.to_owned(), setting.has_default)).collect();
    let sorted = |mut list: Vec<(String, bool)>| {
        list.sort();
        list
    };
    assert_eq!(sorted(seen), sorted(expected));
}

#[test]
fn later_layers_win() {
    let folder = tempfile::tempdir().unwrap();
    let load = |environment: &[(&str, &str)], flags: Vec<(&'static str, String)>| {
        let environment = self::environment(environment);
        Settings::load(Sources { environment, flags, ..sources(folder.path()) }).unwrap().batch_size
    };
    assert_eq!(load(&[], vec![]), 5000);
    fs::write(folder.path().join("v1v2.toml"), "batch_size = 1_000\n").unwrap();
    assert_eq!(load(&[], vec![]), 1000);
    fs::write(folder.path().join(".env"), "V1V2_BATCH_SIZE=2000\n").unwrap();
    assert_eq!(load(&[], vec![]), 2000);
    assert_eq!(load(&[("V1V2_BATCH_SIZE", "3000")], vec![]), 3000);
    assert_eq!(load(&[("V1V2_BATCH_SIZE", "")], vec![]), 2000, "an empty variable is not set");
    assert_eq!(load(&[("V1V2_BATCH_SIZE", "3000")], vec![("batch_size", "4000".into())]), 4000);
}

#[test]
fn config_names_another_file_that_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("v1v2.toml"), "writers = 9\n").unwrap();
    let other = folder.path().join("other.toml");
    let load = || Settings::load(Sources { config: Some(other.clone()), ..sources(folder.path()) });
    assert_eq!(load().unwrap_err().kind(), Kind::Usage);
    fs::write(&other, "bulk = false\n").unwrap();
    let settings = load().unwrap();
    assert!(!settings.bulk && settings.writers == 2);
}

#[test]
fn all_bad_settings_are_told_together_with_their_places() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("v1v2.toml"),
        "writers = 2\nbatchsize = 3\nbulk = [1]\n[v1]\nport = 0\nhost = \"h\"\n",
    )
    .unwrap();
    fs::write(folder.path().join(".env"), "# mine\nexport V1V2_PASSWORDS=genrate\nOTHER=1\n").unwrap();
    let environment =
        environment(&[("V1V2_BATCH_BYTES", "lots"), ("V1V2_WRITTERS", "1"), ("V1V2_MONGODB", "1")]);
    let flags = vec![("batch_size", "many".to_owned())];
    let error = Settings::load(Sources { environment, flags, ..sources(folder.path()) }).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let details = error.more().unwrap();
    for part in [
        "v1v2.toml:2: there is no setting batchsize; did you mean batch_size?",
        "v1v2.toml:3: bulk must be a single value",
        "v1v2.toml:5: v1.port must be a port",
        ".env:2: V1V2_PASSWORDS must be one of generate, keep, none; did you mean generate?",
        "environment: V1V2_BATCH_BYTES must be a size",
        "environment: there is no setting V1V2_WRITTERS; did you mean V1V2_WRITERS?",
        "environment: there is no setting V1V2_MONGODB",
        "command line: --batch-size must be a whole number",
        "V1_DB_NAME is missing",
    ] {
        assert!(details.contains(part), "{part} is missing from:\n{details}");
    }
}

#[test]
fn what_the_tests_and_the_scripts_read_is_no_unknown_setting() {
    let theirs = [
        ("V1V2_TEST_V1_URL", "postgres://localhost/"),
        ("V1V2_SERVICES_DURABLE", "1"),
        ("V1V2_PG_BIN", "/usr/lib/postgresql/17/bin"),
        ("V1V2_MONGOD", "/usr/bin/mongod"),
        ("V1_SOMETHING_ELSE", "1"),
    ];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "V1V2_PG_BIN=/opt/postgres/bin\n").unwrap();
    Settings::load(Sources { environment: environment(&theirs), ..sources(folder.path()) }).unwrap();
}

#[test]
fn broken_toml_and_broken_env_lines_have_a_line_and_show_no_text() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("v1v2.toml"), "writers = 2\n[v1]\npassword = \"CANARY\n").unwrap();
    fs::write(folder.path().join(".env"), "A=1\nV1_DB_PASSWORD CANARY\n").unwrap();
    let error = Settings::load(sources(folder.path())).unwrap_err().to_string();
    assert!(error.contains("v1v2.toml:3") && error.contains(".env:2"), "{error}");
    assert!(!error.contains("CANARY"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_file_with_a_secret_must_be_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    let load = || Settings::load(sources(folder.path()));

    fs::write(&path, "V1_DATABASE_URL=postgres://me:CANARY@localhost/school\n").unwrap();
    mode(&path, 0o644);
    let error = load().unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.fix().unwrap().contains("chmod 600") && !error.to_string().contains("CANARY"));
    mode(&path, 0o600);
    let settings = load().unwrap();
    assert!(settings.v1_url.as_ref().unwrap().expose_secret().contains("CANARY"));
    assert!(!format!("{settings:?}").contains("CANARY"));

    // Nothing secret: any mode will do.
    fs::write(&path, "V1_DATABASE_URL=postgres://me@localhost/school\n").unwrap();
    mode(&path, 0o644);
    load().unwrap();

    let real = folder.path().join("real");
    fs::write(&real, "V2_DB_NAME=x\nV2_DB_PASSWORD=CANARY\n").unwrap();
    mode(&real, 0o600);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let error = load().unwrap_err();
    assert!(error.exit_code() == 5 && error.message().contains("symlink"));

    fs::remove_file(&path).unwrap();
    let project = folder.path().join("v1v2.toml");
    fs::write(&project, "[v1]\nname = \"x\"\npassword = \"CANARY\"\n").unwrap();
    mode(&project, 0o640);
    assert_eq!(load().unwrap_err().exit_code(), 5);
}

#[test]
fn the_process_environment_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "V1V2_LOG_KEEP=3\n").unwrap();
    assert_eq!(Settings::load(sources(folder.path())).unwrap().log_keep, 3);
    assert!(std::env::var_os("V1V2_LOG_KEEP").is_none());
}

#[test]
fn a_bad_secret_is_not_quoted() {
    let environment = environment(&[("V1_DATABASE_URL", "CANARY-no-url"), ("V2_DB_PASSWORD", "CANARY")]);
    let error =
        Settings::load(Sources { environment, directory: "/nonexistent".into(), ..Sources::default() });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("V1_DATABASE_URL must be a URL") && error.contains("V2_DB_NAME"));
    assert!(!error.contains("CANARY"), "{error}");
}
