//! The migrator that runs a checked definition.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use super::references::array_text;
use super::split::{Split, SplitColumns};
use super::{Context, MISSING_REFERENCE, Migrator, Note, Records};
use crate::identity::email::{self, Email};
use crate::identity::phone::{self, Phone};
use crate::ledger::Reject;
use crate::plan::{Column, Fill, KeyFrom, Missing, Plan, When, Write};
use crate::row::{Lines, Row};

/// Converts rows as the plan's entity says.
pub struct Definition {
    plan: Arc<Plan>,
    entity: usize,
    split: SplitColumns,
}

impl Definition {
    /// The migrator of one entity of the plan.
    pub fn new(plan: Arc<Plan>, entity: usize) -> Self {
        let split = SplitColumns::of(&plan.entities[entity]);
        Self { plan, entity, split }
    }
}

impl Migrator for Definition {
    fn entity(&self) -> usize {
        self.entity
    }

    fn convert(&self, row: &Row<'_>, context: &Context<'_>, records: &mut Records) -> Result<(), Reject> {
        let Records { writes: buffers, notes, incomplete } = records;
        let left_out = Cell::new(false);
        let split = &self.split.split(row);
        for (write, lines) in self.plan.entities[self.entity].writes.iter().zip(buffers) {
            let converter =
                Converter { row, split, context, entity: self.entity, write, left_out: &left_out };
            match write.when {
                When::Row => converter.line(lines, notes, &Position::default())?,
                When::Account => {
                    if context.person.is_some_and(|person| person.creates) {
                        converter.line(lines, notes, &Position::default())?;
                    }
                }
                When::Role => {
                    if context.person.is_some() {
                        converter.line(lines, notes, &Position::default())?;
                    }
                }
                When::Each(column) => converter.each(column, lines, notes)?,
            }
        }
        if left_out.get() {
            incomplete.push(context.number);
        }
        Ok(())
    }
}

/// Where a write stands in its arrays.
#[derive(Default)]
struct Position {
    index: usize,
    /// The arrays that the write uses, by source column.
    arrays: Vec<(usize, Vec<Option<String>>)>,
}

impl Position {
    fn element(&self, column: usize) -> Option<&str> {
        let (_, array) = self.arrays.iter().find(|(of, _)| *of == column)?;
        array.get(self.index)?.as_deref()
    }
}

/// A value on its way into COPY text.
enum Value<'v> {
    Null,
    /// Still escaped.
    Raw(&'v [u8]),
    Text(Cow<'v, str>),
    /// Leave this line out.
    Skip,
}

/// A key that stands for nothing.
struct Absent {
    code: &'static str,
    reason: String,
    other: Option<(Arc<str>, String)>,
}

struct Converter<'c, 'a> {
    row: &'c Row<'a>,
    split: &'c Split,
    context: &'c Context<'c>,
    entity: usize,
    write: &'c Write,
    /// Set when something is left out that is to be filled in later.
    left_out: &'c Cell<bool>,
}

impl Converter<'_, '_> {
    fn each(&self, column: usize, lines: &mut Lines, notes: &mut Vec<Note>) -> Result<(), Reject> {
        let mut position = Position { index: 0, arrays: vec![(column, self.row.elements(column))] };
        let length = position.arrays[0].1.len();
        for of in self.write.columns.iter().filter_map(|column| each_column(&column.fill)) {
            if position.arrays.iter().all(|(known, _)| *known != of) {
                position.arrays.push((of, self.row.elements(of)));
            }
        }
        for index in 0..length {
            position.index = index;
            self.line(lines, notes, &position)?;
        }
        Ok(())
    }

    fn line(&self, lines: &mut Lines, notes: &mut Vec<Note>, position: &Position) -> Result<(), Reject> {
        let begun = lines.begin();
        for column in &self.write.columns {
            match self.value(column, position, notes)? {
                Value::Null => lines.raw(None),
                Value::Raw(raw) => lines.raw(Some(raw)),
                Value::Text(text) => lines.text(Some(&text)),
                Value::Skip => {
                    lines.abandon(begun);
                    return Ok(());
                }
            }
        }
        lines.end_line(self.context.number);
        Ok(())
    }

    fn value<'v>(
        &'v self,
        column: &'v Column,
        position: &'v Position,
        notes: &mut Vec<Note>,
    ) -> Result<Value<'v>, Reject> {
        let (context, name) = (self.context, column.name.as_str());
        if column.later && self.waits(&column.fill, position) {
            self.left_out.set(true);
            // Rows of an array's elements come all at once or not at all, so theirs need not be there without it.
            let whole = matches!(self.write.when, When::Each(_));
            return Ok(if whole { Value::Skip } else { Value::Null });
        }
        Ok(match &column.fill {
            Fill::Id => Value::Text(Cow::Owned(context.target_id(self.entity, context.key))),
            Fill::DerivedId(label) => {
                let id = context.ids[self.entity].maker.labelled(context.key, label, position.index);
                Value::Text(Cow::Owned(id.to_string()))
            }
            Fill::Account(field) => match context.person.and_then(|person| person.field(*field)) {
                Some(text) => Value::Text(Cow::Borrowed(text)),
                None => Value::Null,
            },
            Fill::Column(index) => self.row.raw(*index).map_or(Value::Null, Value::Raw),
            Fill::Each(index) => match position.element(*index) {
                Some(text) => Value::Text(Cow::Borrowed(text)),
                None => Value::Null,
            },
            Fill::Email(index) => self.email(*index, name, notes),
            Fill::Phone { column: index, region } => self.phone(*index, region, name, notes),
            Fill::Part { column: index, part, prefer } => {
                let preferred = prefer.filter(|prefer| self.row.filled(*prefer).is_some());
                match preferred.and_then(|prefer| self.row.raw(prefer)) {
                    Some(raw) => Value::Raw(raw),
                    None => self
                        .split
                        .part(*index, *part)
                        .map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text))),
                }
            }
            Fill::Constant(text) => Value::Text(Cow::Borrowed(text)),
            Fill::Now => Value::Text(Cow::Borrowed(context.now)),
            Fill::Reference { entity, key, missing } => {
                let find = |key: &str| {
                    self.exists(*entity, key).then(|| Cow::Owned(context.target_id(*entity, key)))
                };
                let absent = |key: &str| {
                    let other = &context.plan.entities[*entity].name;
                    let place = self.place(name);
                    let reason = format!("{place}: {other} has no migrated row with the key {key:?}");
                    Absent { code: MISSING_REFERENCE, reason, other: Some((other.clone(), key.to_owned())) }
                };
                self.found(column, *key, *missing, position, notes, find, absent)?
            }
            Fill::Lookup { lookup, key, missing } => {
                let find = |key: &str| context.lookups.find(*lookup, key).map(Cow::Borrowed);
                let absent = |key: &str| {
                    let (known, place) = (&context.plan.lookups[*lookup], self.place(name));
                    let reason =
                        format!("{place}: {} has no row with {} = {key:?}", known.table.name, known.by);
                    Absent { code: "missing-lookup", reason, other: None }
                };
                self.found(column, *key, *missing, position, notes, find, absent)?
            }
        })
    }

    /// Whether a row is in V2, or will be with this one.
    fn exists(&self, entity: usize, key: &str) -> bool {
        // Its own id is known, and is written together with it.
        (entity == self.entity && key == self.context.key) || self.context.references.exists(entity, key)
    }

    /// Whether what is filled in later cannot be filled in yet.
    fn waits(&self, fill: &Fill, position: &Position) -> bool {
        let Fill::Reference { entity, key, .. } = fill else { return self.context.settled.is_none() };
        if self.context.settled.is_some_and(|settled| settled[*entity]) {
            return false;
        }
        match *key {
            KeyFrom::Elements(index) => {
                self.row.elements(index).iter().flatten().any(|key| !self.exists(*entity, key))
            }
            key => self.key(key, position).is_some_and(|key| !self.exists(*entity, &key)),
        }
    }

    /// The id that a key, or an array of ids that an array of keys, stands for.
    #[expect(clippy::too_many_arguments, reason = "two closures tell references and look-ups apart")]
    fn found<'v>(
        &'v self,
        column: &Column,
        key: KeyFrom,
        missing: Missing,
        position: &'v Position,
        notes: &mut Vec<Note>,
        find: impl Fn(&str) -> Option<Cow<'v, str>>,
        absent: impl Fn(&str) -> Absent,
    ) -> Result<Value<'v>, Reject> {
        let KeyFrom::Elements(index) = key else {
            let Some(key) = self.key(key, position) else { return Ok(Value::Null) };
            return match find(&key) {
                Some(id) => Ok(Value::Text(id)),
                None => self.missing(missing, absent(&key), notes),
            };
        };
        if self.row.raw(index).is_none() {
            return Ok(Value::Null);
        }
        // In a document what has no value is left out, unless the definition says `null = true`.
        let keeps_null = column.bson.as_ref().is_none_or(|bson| bson.null);
        let mut ids: Vec<Option<Cow<'_, str>>> = Vec::new();
        for key in self.row.elements(index) {
            let id = match key {
                None => Value::Null,
                Some(key) => match find(&key) {
                    Some(id) => Value::Text(id),
                    None => self.missing(missing, absent(&key), notes)?,
                },
            };
            match id {
                Value::Text(id) => ids.push(Some(id)),
                Value::Null if keeps_null => ids.push(None),
                Value::Null | Value::Raw(_) | Value::Skip => {}
            }
        }
        Ok(Value::Text(Cow::Owned(array_text(ids.iter().map(|id| id.as_deref())))))
    }

    fn email<'v>(&self, index: usize, column: &str, notes: &mut Vec<Note>) -> Value<'v> {
        let Some(text) = self.row.filled(index) else { return Value::Null };
        match email::normalise(&text) {
            Email::Usable { address, .. } => Value::Text(Cow::Owned(address)),
            Email::Missing => Value::Null,
            Email::Unusable(problem) => {
                self.unusable("email_unusable", "null", column, &problem.to_string(), notes);
                Value::Null
            }
        }
    }

    fn phone<'v>(&'v self, index: usize, region: &str, column: &str, notes: &mut Vec<Note>) -> Value<'v> {
        let Some(text) = self.row.filled(index) else { return Value::Null };
        match phone::normalise(&text, region) {
            Phone::Possible { e164, .. } => Value::Text(Cow::Owned(e164)),
            Phone::Missing => Value::Null,
            Phone::Impossible => {
                self.unusable("phone_unusable", "kept", column, "it is no possible number", notes);
                Value::Text(text)
            }
        }
    }

    /// A column's name for people: with its table, and with the array whose elements have it.
    fn place(&self, column: &str) -> String {
        let Write { table, inside, .. } = self.write;
        match inside {
            Some(array) => format!("{}.{array}.{column}", table.name),
            None => format!("{}.{column}", table.name),
        }
    }

    /// Notes a value that could not be normalised. The conflict log holds one entry for each row and kind, so a
    /// second column of the row joins the first one's.
    fn unusable(&self, kind: &str, decision: &str, column: &str, why: &str, notes: &mut Vec<Note>) {
        let row = self.context.number;
        let place = format!("{}: {why}", self.place(column));
        let of_row = notes.iter_mut().rev().take_while(|note| note.row == row);
        let Some(note) = of_row.into_iter().find(|note| note.kind == kind) else {
            notes.push(Note {
                row,
                kind: kind.into(),
                decision: decision.into(),
                other: None,
                detail: Some(place),
            });
            return;
        };
        match &mut note.detail {
            // In a write with `each` every element tells the same.
            Some(detail) if detail.split("; ").any(|known| known == place) => {}
            Some(detail) => *detail = format!("{detail}; {place}"),
            empty => *empty = Some(place),
        }
    }

    fn key<'v>(&'v self, from: KeyFrom, position: &'v Position) -> Option<Cow<'v, str>> {
        match from {
            KeyFrom::Column(index) => self.row.text(index),
            KeyFrom::Each(index) => position.element(index).map(Cow::Borrowed),
            // Not one key but many: see `found`.
            KeyFrom::Elements(_) => None,
            KeyFrom::Account(field) => self.context.person?.field(field).map(Cow::Borrowed),
        }
    }

    fn missing<'v>(
        &self,
        missing: Missing,
        absent: Absent,
        notes: &mut Vec<Note>,
    ) -> Result<Value<'v>, Reject> {
        let Absent { code, reason, other } = absent;
        let (decision, value) = match missing {
            Missing::Reject => return Err(Reject::new(code, reason)),
            Missing::Null => ("null", Value::Null),
            Missing::Skip => ("left-out", Value::Skip),
        };
        // One entry per row and kind is what the conflict log holds; the first one names the place.
        let row = self.context.number;
        if !notes.iter().rev().take_while(|note| note.row == row).any(|note| note.kind == code) {
            notes.push(Note {
                row,
                kind: code.into(),
                decision: decision.into(),
                other,
                detail: Some(reason),
            });
        }
        Ok(value)
    }
}

/// The array column that a fill reads an element of.
fn each_column(fill: &Fill) -> Option<usize> {
    match fill {
        Fill::Each(column)
        | Fill::Reference { key: KeyFrom::Each(column), .. }
        | Fill::Lookup { key: KeyFrom::Each(column), .. } => Some(*column),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
