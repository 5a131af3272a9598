//! All integration tests in one binary: it links once, and the throw-away servers are shared.

// Helper functions of tests are tests to a reader, but clippy only exempts what is below `#[cfg(test)]`.
#[cfg(test)]
mod backup;
#[cfg(test)]
mod check;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod definition_files;
#[cfg(test)]
mod evolve;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod job;
#[cfg(test)]
mod layout;
#[cfg(test)]
mod mongodb;
#[cfg(test)]
mod own_migrator;
#[cfg(test)]
mod safe;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod source_files;
#[cfg(test)]
mod support;
#[cfg(test)]
mod support_works;
#[cfg(test)]
mod torture;
