//! The command line: raw arguments become [`crate::settings::Settings`] and one call of the engine.

/// Runs the program.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
