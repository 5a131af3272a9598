//! Normalising of emails, phones, names and addresses.
//!
//! Whether two rows are the same person is decided by comparing contact values, so each value needs one spelling
//! first. Everything here is pure (values in, values out: no I/O, no clock, no state), because the census and the
//! conversion both call it, on different days and machines, and must get the same answer.
//!
//! A value that cannot be trusted is never repaired in silence: the results carry flags, and what may be merged
//! on the strength of a flagged value is the census's decision.

pub mod address;
pub mod blank;
pub mod email;
mod fold;
pub mod name;
pub mod phone;
