//! The migrator that runs a checked definition.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Context, Migrator, Note, Records};
use crate::ledger::Reject;
use crate::plan::{Fill, KeyFrom, Missing, Plan, When, Write};
use crate::row::{Lines, Row};

/// Converts rows as the plan's entity says.
pub struct Definition {
    plan: Arc<Plan>,
    entity: usize,
}

impl Definition {
    /// The migrator of one entity of the plan.
    pub fn new(plan: Arc<Plan>, entity: usize) -> Self {
        Self { plan, entity }
    }
}

impl Migrator for Definition {
    fn entity(&self) -> usize {
        self.entity
    }

    fn convert(&self, row: &Row<'_>, context: &Context<'_>, records: &mut Records) -> Result<(), Reject> {
        let Records { writes: buffers, notes } = records;
        for (write, lines) in self.plan.entities[self.entity].writes.iter().zip(buffers) {
            let converter = Converter { row, context, entity: self.entity, write };
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

struct Converter<'c, 'a> {
    row: &'c Row<'a>,
    context: &'c Context<'c>,
    entity: usize,
    write: &'c Write,
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
            match self.value(&column.fill, &column.name, position, notes)? {
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
        fill: &'v Fill,
        column: &str,
        position: &'v Position,
        notes: &mut Vec<Note>,
    ) -> Result<Value<'v>, Reject> {
        let context = self.context;
        Ok(match fill {
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
            Fill::Constant(text) => Value::Text(Cow::Borrowed(text)),
            Fill::Now => Value::Text(Cow::Borrowed(context.now)),
            Fill::Reference { entity, key, missing } => match self.key(*key, position) {
                None => Value::Null,
                Some(key) if context.references.exists(*entity, &key) => {
                    Value::Text(Cow::Owned(context.target_id(*entity, &key)))
                }
                Some(key) => {
                    let other = &context.plan.entities[*entity].name;
                    let reason = format!(
                        "{}.{column}: {other} has no migrated row with the key {key:?}",
                        self.write.table.name
                    );
                    let other = Some((other.clone(), key.into_owned()));
                    self.missing(*missing, "missing-reference", reason, other, notes)?
                }
            },
            Fill::Lookup { lookup, key, missing } => match self.key(*key, position) {
                None => Value::Null,
                Some(key) => match context.lookups.find(*lookup, &key) {
                    Some(id) => Value::Text(Cow::Borrowed(id)),
                    None => {
                        let known = &context.plan.lookups[*lookup];
                        let reason = format!(
                            "{}.{column}: {} has no row with {} = {key:?}",
                            self.write.table.name, known.table.name, known.by
                        );
                        self.missing(*missing, "missing-lookup", reason, None, notes)?
                    }
                },
            },
        })
    }

    fn key<'v>(&'v self, from: KeyFrom, position: &'v Position) -> Option<Cow<'v, str>> {
        match from {
            KeyFrom::Column(index) => self.row.text(index),
            KeyFrom::Each(index) => position.element(index).map(Cow::Borrowed),
            KeyFrom::Account(field) => self.context.person?.field(field).map(Cow::Borrowed),
        }
    }

    fn missing<'v>(
        &self,
        missing: Missing,
        code: &str,
        reason: String,
        other: Option<(Arc<str>, String)>,
        notes: &mut Vec<Note>,
    ) -> Result<Value<'v>, Reject> {
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
