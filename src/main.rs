//! The `v1v2` program: hands over to [`v1v2::cli`] and returns its exit code.

fn main() -> std::process::ExitCode {
    v1v2::cli::main()
}
