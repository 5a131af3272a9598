//! The ledger: one line for each source row.
