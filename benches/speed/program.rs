//! Runs the program and measures it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// The main job as it is measured: no question, no output, no validation afterwards, no passwords.
pub const MIGRATE: &[&str] = &["migrate", "--force", "--quiet", "--skip-validation", "--passwords", "none"];

/// One run of the program.
pub struct Measured {
    /// Wall-clock time.
    pub time: Duration,
    /// Highest resident memory of the process, in KiB.
    pub peak_kib: u64,
}

/// A folder for the program's log and key.
pub fn folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("v1v2-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A variable that the script sets.
pub fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: use `make bench`").into())
}

/// Runs the program.
pub fn v1v2(folder: &Path, v1: &str, v2: &str, arguments: &[&str]) -> Result<Measured> {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_v1v2"))
        .args(arguments)
        .current_dir(folder)
        .env("V1_DATABASE_URL", v1)
        .env("V2_DATABASE_URL", v2)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let status = loop {
        if let Ok(status) = std::fs::read_to_string(&status_file)
            && let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:"))
            && let Some(kib) = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok())
        {
            peak_kib = kib;
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let time = began.elapsed();
    if !status.success() {
        return Err(format!("v1v2 {} ended with {status}", arguments.join(" ")).into());
    }
    Ok(Measured { time, peak_kib })
}

/// Runs one statement with psql; returns its text.
pub fn psql(url: &str, sql: &str) -> Result<String> {
    let output = Command::new("psql")
        .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql])
        .output()?;
    if !output.status.success() {
        return Err(format!("psql: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// a : b
pub fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

/// The middle one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
