//! Proves what was written.
