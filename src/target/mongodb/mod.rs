//! Documents of MongoDB, made from the same COPY text that goes into a Postgres V2.
//!
//! The engine converts a row once, whatever V2 is. What is left to do for MongoDB is to give the text of each field
//! its BSON type, to nest the fields, and to say which rows BSON cannot hold.

mod array;
mod date;
mod digest;
pub mod document;
mod json;
mod number;
mod raw;
mod shape;
mod value;
