//! Derives, hashes and verifies passwords.
