//! All integration tests in one binary: it links once, and the throw-away servers are shared.

// Helper functions of tests are tests to a reader, but clippy only exempts what is below `#[cfg(test)]`.
#[cfg(test)]
mod support;
#[cfg(test)]
mod support_works;
