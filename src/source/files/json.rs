//! JSON: objects in one array, or one after the other (NDJSON). Their keys are the columns.
//!
//! Nothing is interpreted: a number keeps all its digits, an object or array inside becomes its own text, which SQL reads with
//! `::jsonb`. What is null, or not there, is null.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};

use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{FileTable, Sink};
use crate::error::{Error, Result};

type Object = HashMap<String, Box<RawValue>>;

/// More than any table of Postgres can have (1,600): the keys are data, then.
const MOST_COLUMNS: usize = 1_500;

/// All keys that any object has, in alphabetical order, as objects have none.
pub(super) fn columns(file: &FileTable) -> Result<Vec<Vec<u8>>> {
    let mut keys = BTreeSet::new();
    each(file, &mut |number, object| {
        keys.extend(object.into_keys());
        if keys.len() > MOST_COLUMNS {
            let what = format!(
                "by here the objects have more than {MOST_COLUMNS} different keys, too many for columns"
            );
            return Err(file.wrong_at(number, what));
        }
        Ok(())
    })?;
    Ok(keys.into_iter().map(String::into_bytes).collect())
}

/// All objects, as records of these columns.
pub(super) fn read(file: &FileTable, columns: &[String], sink: &mut Sink) -> Result<()> {
    each(file, &mut |number, object| {
        sink.begin(number);
        for column in columns {
            match object.get(column).map(|value| value.get()) {
                None | Some("null") => sink.cell(None),
                Some(text) if text.starts_with('"') => {
                    // It was read once already, as a part of the object; what is left is a lone surrogate, which is no text.
                    let text: String = serde_json::from_str(text)
                        .map_err(|_| file.wrong_at(number, format!("the value of `{column}` is no text")))?;
                    sink.cell(Some(text.as_bytes()));
                }
                Some(other) => sink.cell(Some(other.as_bytes())),
            }
        }
        sink.finish()
    })
}

/// Hands on each object with its number, from 1; only one is in memory at a time.
fn each(file: &FileTable, take: &mut dyn FnMut(u64, Object) -> Result<()>) -> Result<()> {
    let mut input = file.open()?;
    let mut state = Each { file, take, number: 0, failed: None };
    let read = match first_byte(file, &mut input)? {
        None => Ok(()),
        Some(b'[') => {
            let mut deserializer = serde_json::Deserializer::from_reader(input);
            (&mut deserializer).deserialize_seq(&mut state).and_then(|()| deserializer.end())
        }
        Some(_) => {
            let objects = serde_json::Deserializer::from_reader(input).into_iter::<Object>();
            let taken = objects.map(|object| object.map(|object| state.one(object)));
            // Ends with the first error, and with the first one that is not taken.
            taken.take_while(|taken| !matches!(taken, Ok(false))).try_for_each(|taken| taken.map(drop))
        }
    };
    match (state.failed, read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(not_json(file, state.number + 1, &error)),
    }
}

fn first_byte(file: &FileTable, input: &mut BufReader<File>) -> Result<Option<u8>> {
    loop {
        let buffer = input.fill_buf().map_err(|error| file.wrong(format!("it cannot be read: {error}")))?;
        match buffer.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(at) => {
                let byte = buffer[at];
                input.consume(at);
                return Ok(Some(byte));
            }
            None if buffer.is_empty() => return Ok(None),
            None => {
                let length = buffer.len();
                input.consume(length);
            }
        }
    }
}

/// `serde_json` tells line and column, but also quotes what it found there, which may be anybody's name.
fn not_json(file: &FileTable, record: u64, error: &serde_json::Error) -> Error {
    let what = match error.classify() {
        serde_json::error::Category::Io => return file.wrong(format!("it cannot be read: {error}")),
        serde_json::error::Category::Eof => "the file ends in the middle of it",
        serde_json::error::Category::Syntax => "this is not JSON",
        serde_json::error::Category::Data => "this is no object",
    };
    file.wrong_at(record, format!("{what} (line {}, column {})", error.line(), error.column()))
        .help("the file holds objects, in one array or one after the other: {\"id\": 1, \"name\": \"…\"}")
}

/// Takes an array apart while it is read.
struct Each<'e> {
    file: &'e FileTable,
    take: &'e mut dyn FnMut(u64, Object) -> Result<()>,
    number: u64,
    failed: Option<Error>,
}

impl Each<'_> {
    /// False: no more of them are wanted.
    fn one(&mut self, object: Object) -> bool {
        self.number += 1;
        self.failed = (self.take)(self.number, object).err();
        self.failed.is_none()
    }
}

impl<'de> Visitor<'de> for &mut Each<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the objects of {}", self.file.path.display())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut objects: A) -> std::result::Result<(), A::Error> {
        while let Some(object) = objects.next_element::<Object>()? {
            // The rest of the array is left unread, for an error that is known.
            if !self.one(object) {
                break;
            }
        }
        Ok(())
    }
}
