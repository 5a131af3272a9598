//! All integration tests in one binary: it links once, and the throw-away servers are shared.

mod check;
