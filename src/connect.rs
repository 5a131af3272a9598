//! Opens connections: TLS policy, pinned session settings, errors that name the fix and never a password.
