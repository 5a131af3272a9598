//! The TOML definitions of `migrators/`, as they are written.
