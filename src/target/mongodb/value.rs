//! A value of Postgres as a value of BSON, by its kind.
//!
//! Nothing is lost on the way that V1 had, with two exceptions that every MongoDB has: a date has milliseconds, and
//! an array has no bounds. What BSON cannot hold is a [`Fault`], hence a reject.

use std::borrow::Cow;

use super::raw::{self, Writer};
use super::{array, date, json, number};
use crate::catalog::BsonKind;
use crate::ledger::Reject;
use crate::row;

/// Why a value, or a whole document, cannot be stored. It does not know where, nor the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The text is no value of this type.
    NoValue(&'static str),
    /// A date that is infinite, or before the year 1, or after 9999.
    DateRange,
    /// A number that the type does not hold exactly.
    Precision,
    /// A key of a JSON object that MongoDB does not treat as a name.
    JsonKey,
    /// Nested too deep.
    Nesting,
    /// Too large.
    Size,
}

impl Fault {
    /// The reject of a row, at a place such as `users.name.first`.
    pub fn reject(self, place: &str) -> Reject {
        let (code, why) = match self {
            Self::NoValue(of) => {
                ("bson-value", Cow::Owned(format!("the text is no {of} that BSON can hold")))
            }
            Self::DateRange => {
                ("bson-date-range", "the date is infinite, or its year is not from 1 to 9999".into())
            }
            Self::Precision => {
                ("bson-number-precision", "the field's type does not hold this number exactly".into())
            }
            Self::JsonKey => (
                "bson-json-key",
                "a key in the JSON begins with $, contains a dot or a NUL, or is there twice".into(),
            ),
            Self::Nesting => {
                ("bson-nesting", format!("it is nested more than {} levels deep", raw::MAX_DEPTH).into())
            }
            Self::Size => ("bson-document-size", "the document is larger than 16 MiB".into()),
        };
        Reject::new(code, format!("{place}: {why}"))
    }
}

/// Writes a field as COPY wrote it (still escaped, not null) as the value that comes next.
///
/// # Errors
/// [`Fault`]: BSON cannot hold it.
pub fn write_field(writer: &mut Writer, kind: &BsonKind, field: &[u8]) -> Result<(), Fault> {
    match field {
        // The only backslash of a bytea is its first one, which COPY doubles.
        [b'\\', b'\\', b'x', hex @ ..] if *kind == BsonKind::Binary => writer.binary(hex),
        _ => write(writer, kind, &row::unescape(field)),
    }
}

/// Writes text as the value that comes next.
///
/// # Errors
/// [`Fault`]: BSON cannot hold it.
pub fn write(writer: &mut Writer, kind: &BsonKind, text: &str) -> Result<(), Fault> {
    match kind {
        BsonKind::Text => writer.string(text),
        BsonKind::Uuid => writer.uuid(uuid::Uuid::try_parse(text).map_err(|_| Fault::NoValue("uuid"))?),
        BsonKind::Date => writer.date(date::milliseconds(text)?),
        BsonKind::Bool => writer.bool(boolean(text)?),
        BsonKind::Int => writer.int(number::integer(text)?),
        BsonKind::Long => writer.long(number::integer(text)?),
        BsonKind::Double => writer.double(number::double(text)?),
        BsonKind::Decimal => writer.decimal(number::decimal(text)?),
        BsonKind::ObjectId => writer.object_id(object_id(text).ok_or(Fault::NoValue("ObjectId"))?),
        BsonKind::Binary => {
            let hex = text.strip_prefix("\\x").ok_or(Fault::NoValue("bytea"))?;
            return writer.binary(hex.as_bytes());
        }
        BsonKind::Json => return json::write(writer, text),
        BsonKind::Array(element) => return array::write(writer, element, text),
    }
    Ok(())
}

/// Columns come as `t` and `f`; constants of a definition in any spelling that Postgres knows.
fn boolean(text: &str) -> Result<bool, Fault> {
    const TRUE: [&str; 6] = ["t", "true", "y", "yes", "on", "1"];
    const FALSE: [&str; 6] = ["f", "false", "n", "no", "off", "0"];
    let is_among = |words: [&str; 6]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_among(TRUE) {
        Ok(true)
    } else if is_among(FALSE) {
        Ok(false)
    } else {
        Err(Fault::NoValue("boolean"))
    }
}

fn object_id(text: &str) -> Option<[u8; 12]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pairs: &[[u8; 2]; 12] = pairs.try_into().ok()?;
    if !rest.is_empty() {
        return None;
    }
    let mut id = [0; 12];
    for (byte, pair) in id.iter_mut().zip(pairs) {
        *byte = raw::byte(*pair)?;
    }
    Some(id)
}

#[cfg(test)]
mod tests;
