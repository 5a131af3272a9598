//! What one row's change makes of the documents that V2 has of it: which stay as somebody has edited them, which are written,
//! and what is kept of them for a rollback. Nothing here asks the database.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mongodb::bson::{Bson, RawDocument, RawDocumentBuf};

use super::compose::compose;
use super::document::{Documents, digest};
use super::ledger::{bson_at, digests};
use super::raw::MAX_DOCUMENT;
use super::replaced::{Kept, Slot};
use super::session::{at, id_text};
use super::shape::{Node, Shape};
use super::splice::{Value, array, with_array};
use super::stored::{By, Place, Stored, by};
use super::value::Fault;
use crate::ledger::Reject;
use crate::plan::{Column, Entity, Fill, When};
use crate::settings::OnEdited;
use crate::target::stays::stays;
use crate::target::{Keeps, Update};

/// The digest of what no document is: for what stays edited though nobody can tell any more what it was.
const NO_DIGEST: u64 = u64::MAX;

/// The new documents and elements of each row.
pub struct Fresh<'f> {
    documents: HashMap<(u32, usize), Vec<&'f RawDocument>>,
    /// By row, shape and number of the growing array.
    pushes: HashMap<(u32, usize, usize), Vec<&'f RawDocument>>,
}

impl<'f> Fresh<'f> {
    /// Of all rows of a part of a chunk.
    pub fn of(documents: &'f Documents, shapes: &[Shape<'_>]) -> Self {
        let mut this = Self { documents: HashMap::new(), pushes: HashMap::new() };
        for (number, inserts) in documents.inserts.iter().enumerate() {
            for insert in inserts.iter() {
                this.documents.entry((insert.row, number)).or_default().push(insert.document);
            }
        }
        let arrays = shapes
            .iter()
            .enumerate()
            .flat_map(|(number, shape)| (0..shape.growing.len()).map(move |array| (number, array)));
        // They stand in the order of the shapes and their growing arrays.
        for ((number, array), pushes) in arrays.zip(&documents.pushes) {
            for push in pushes.iter() {
                this.pushes.entry((push.row, number, array)).or_default().push(push.element);
            }
        }
        this
    }

    /// The documents of a row.
    pub fn documents(&self, row: u32, shape: usize) -> &[&'f RawDocument] {
        self.documents.get(&(row, shape)).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a row adds to an array of its account.
    pub fn pushes(&self, row: u32, shape: usize, array: usize) -> &[&'f RawDocument] {
        self.pushes.get(&(row, shape, array)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The change of one row.
pub struct Change<'c> {
    row: u32,
    line: &'c RawDocument,
    entity: &'c Entity,
    shapes: &'c [Shape<'c>],
    update: &'c Update,
    keeps: Keeps,
    /// What the ledger says of the row's documents and elements.
    known: (Vec<u64>, Vec<u64>),
    /// The row's own record was deleted, and stays away.
    absent: bool,
    /// What the ledger is to say of the row's documents, and of its elements.
    pub digests: Vec<u64>,
    pub elements: Vec<u64>,
    /// Collections and arrays of which something was found edited.
    pub edited: BTreeSet<String>,
    /// What was there.
    pub kept: Vec<Kept>,
}

impl<'c> Change<'c> {
    /// Nothing done yet. `line` is the row's in the ledger.
    pub fn new(
        row: u32,
        line: &'c RawDocument,
        entity: &'c Entity,
        shapes: &'c [Shape<'c>],
        update: &'c Update,
        keeps: Keeps,
    ) -> Self {
        Self {
            row,
            line,
            entity,
            shapes,
            update,
            keeps,
            known: digests(line),
            absent: false,
            digests: vec![0; shapes.len()],
            elements: Vec::new(),
            edited: BTreeSet::new(),
            kept: Vec::new(),
        }
    }

    /// Works out what the row's documents become, in `stored`.
    ///
    /// # Errors
    /// The row cannot be changed; what was done to `stored` is to be taken back.
    pub fn apply(&mut self, fresh: &Fresh<'_>, stored: &mut Stored) -> Result<(), Reject> {
        let shapes = self.shapes;
        for (number, shape) in shapes.iter().enumerate() {
            let new = fresh.documents(self.row, number);
            match (by(self.entity, shape), new) {
                (By::Id(_) | By::Among(..), [new, ..]) => self.document(number, new, stored)?,
                (By::Id(_) | By::Among(..) | By::Nothing, _) => {
                    self.digests[number] = self.known_digest(number)
                }
                (By::Field(..), new) => self.several(number, new, stored)?,
            }
            for (at, path) in shape.growing.iter().enumerate() {
                match new {
                    [document, ..] => {
                        let own: Vec<_> =
                            array(document, path).into_iter().filter_map(Value::document).collect();
                        self.own_elements((shape, path), &own, stored)?;
                    }
                    [] => self.own_elements((shape, path), fresh.pushes(self.row, number, at), stored)?,
                }
            }
        }
        Ok(())
    }

    fn overwrites(&self) -> bool {
        self.update.on_edited == OnEdited::Overwrite
    }

    /// Whether what is missing is brought back.
    fn brings_back(&self) -> bool {
        self.overwrites() || self.update.definition_edited
    }

    /// What the ledger says of a shape's documents: 0 if it says nothing, or if the definition has other ones now.
    fn known_digest(&self, number: usize) -> u64 {
        let known = &self.known.0;
        known.get(number).copied().filter(|_| known.len() == self.shapes.len()).unwrap_or(0)
    }

    /// What the ledger is to say of something that stays as somebody has edited it: the same as before.
    fn still(&self, known: u64) -> u64 {
        if known == 0 { NO_DIGEST } else { known }
    }

    /// Whether the ledger has a document's digest, in whatever place: an edited definition may have moved it.
    fn is_untouched(&self, digest: u64) -> bool {
        self.known.0.contains(&digest)
    }

    /// The one document that a row has in a collection.
    fn document(&mut self, number: usize, new: &RawDocument, stored: &mut Stored) -> Result<(), Reject> {
        let shape = &self.shapes[number];
        let place = Place::of(shape.collection, new);
        let known = self.known_digest(number);
        let Some(old) = stored.now(&place).cloned() else {
            if !self.update.definition_edited {
                self.edited.insert(shape.collection.to_owned());
            }
            if !self.brings_back() {
                self.absent |= self.entity.writes[shape.write].when == When::Row;
                self.digests[number] = self.still(known);
                return Ok(());
            }
            let new = shape.growing.iter().fold(new.to_owned(), |new, path| with_array(&new, path, &[]));
            self.digests[number] = self.put(shape, place, None, new, stored)?;
            return Ok(());
        };
        let untouched = self.is_untouched(digest(&old, &shape.growing));
        if !untouched {
            self.edited.insert(shape.collection.to_owned());
            if !self.overwrites() {
                self.digests[number] = self.still(known);
                return Ok(());
            }
        }
        // In an untouched document every field is ours; in an edited one the application may have added some.
        let new = compose(&shape.nodes, new, &old, &self.stays(), !untouched);
        let new = shape.growing.iter().fold(new, |new, path| with_array(&new, path, &array(&old, path)));
        self.digests[number] = self.put(shape, place, Some(old), new, stored)?;
        Ok(())
    }

    /// Writes a document and keeps what it was; returns its digest.
    fn put(
        &mut self,
        shape: &Shape<'_>,
        place: Place,
        old: Option<RawDocumentBuf>,
        new: RawDocumentBuf,
        stored: &mut Stored,
    ) -> Result<u64, Reject> {
        if new.as_bytes().len() > MAX_DOCUMENT {
            return Err(Fault::Size.reject(shape.collection));
        }
        let written = digest(&new, &shape.growing);
        if old.as_ref().is_none_or(|old| old.as_bytes() != new.as_bytes()) {
            self.kept.push(Kept {
                collection: shape.collection.to_owned(),
                id: bson_at(&new, "_id").unwrap_or(Bson::Null),
                slot: None,
                document: old,
                written: Some(written),
            });
            stored.put(place, new, self.row);
        }
        Ok(written)
    }

    /// Documents of which a row has several: they go, and come anew.
    fn several(&mut self, number: usize, new: &[&RawDocument], stored: &mut Stored) -> Result<(), Reject> {
        let shape = &self.shapes[number];
        let known = self.known_digest(number);
        let owner = at(self.line, "targetId").map(id_text).unwrap_or_default();
        let mut old = BTreeMap::new();
        for place in stored.several(shape.collection, &owner) {
            old.extend(stored.now(place).map(|document| (place.clone(), document.clone())));
        }
        let sum = old.values().fold(0_u64, |sum, document| sum.wrapping_add(digest(document, &[])));
        let was_written = self.known.0.len() == self.shapes.len();
        if was_written && sum != known {
            self.edited.insert(shape.collection.to_owned());
        }
        // What belongs to a record that somebody has deleted stays away with it.
        if self.absent || (was_written && sum != known && !self.overwrites()) {
            self.digests[number] = known;
            return Ok(());
        }
        for document in new {
            let place = Place::of(shape.collection, document);
            let old = old.remove(&place);
            let written = self.put(shape, place, old, (*document).to_owned(), stored)?;
            self.digests[number] = self.digests[number].wrapping_add(written);
        }
        for (place, document) in old {
            self.kept.push(Kept::own(shape.collection, &document));
            stored.remove(place, self.row);
        }
        Ok(())
    }

    /// The row's own elements of an account's array.
    fn own_elements(
        &mut self,
        (shape, path): (&Shape<'_>, &str),
        new: &[&RawDocument],
        stored: &mut Stored,
    ) -> Result<(), Reject> {
        let Some(account) = bson_at(self.line, "accountId").filter(|_| !new.is_empty()) else {
            return Ok(());
        };
        let id = at(self.line, "accountId").map(id_text).unwrap_or_default();
        let place = Place { collection: shape.collection.to_owned(), id };
        let name = format!("{}.{path}", shape.collection);
        let Some(mut document) = stored.now(&place).cloned() else {
            if self.brings_back() {
                let reason = format!("{name}: the account is not in V2 any more");
                return Err(Reject::new("missing-reference", reason));
            }
            self.edited.insert(name);
            self.elements.extend(&self.known.1);
            return Ok(());
        };
        let nodes = element_nodes(shape, path);
        let id_field = id_of_elements(self.entity, shape, path);
        for new in new {
            let mut items = array(&document, path);
            let is_own =
                |item: &Value<'_>| item.document().is_some_and(|of| self.known.1.contains(&digest(of, &[])));
            let same_id = |item: &Value<'_>| {
                let (Some(field), Some(item)) = (id_field, item.document()) else { return false };
                at(item, field).is_some() && bson_at(item, field) == bson_at(new, field)
            };
            let found = items.iter().position(|item| same_id(item) && is_own(item));
            let found = found.or_else(|| items.iter().position(&same_id));
            let found = found.or_else(|| items.iter().position(is_own).filter(|_| id_field.is_none()));
            let known = self.known.1.get(self.elements.len()).copied().unwrap_or(0);
            let old = found.and_then(|at| items[at].document()).map(RawDocument::to_owned);
            let untouched = old.as_ref().map(|old| self.known.1.contains(&digest(old, &[])));
            if untouched == Some(false) || (untouched.is_none() && !self.update.definition_edited) {
                self.edited.insert(name.clone());
            }
            let stays_so = match untouched {
                Some(untouched) => !untouched && !self.overwrites(),
                None => !self.brings_back(),
            };
            if stays_so {
                self.elements.push(self.still(known));
                continue;
            }
            let new = match (&old, nodes) {
                (Some(old), Some(nodes)) => compose(nodes, new, old, &self.stays(), untouched == Some(false)),
                _ => (*new).to_owned(),
            };
            let written = digest(&new, &[]);
            self.elements.push(written);
            if old.as_ref().is_some_and(|old| old.as_bytes() == new.as_bytes()) {
                continue;
            }
            let position = found.unwrap_or(items.len());
            match found {
                Some(at) => items[at] = Value::of(&new),
                None => items.push(Value::of(&new)),
            }
            let changed = with_array(&document, path, &items);
            if changed.as_bytes().len() > MAX_DOCUMENT {
                return Err(Fault::Size.reject(shape.collection));
            }
            document = changed;
            self.kept.push(Kept {
                collection: shape.collection.to_owned(),
                id: account.clone(),
                slot: Some(Slot { field: path.to_owned(), position }),
                document: old,
                written: Some(written),
            });
            stored.put(place.clone(), document.clone(), self.row);
        }
        Ok(())
    }

    /// Whether a field stays as V2 has it.
    fn stays(&self) -> impl Fn(&Column) -> bool + use<'c> {
        let (entity, keeps) = (self.entity, self.keeps);
        move |column| stays(entity, &column.fill).in_row(keeps)
    }
}

/// The fields of an array's elements.
fn element_nodes<'s>(shape: &'s Shape<'_>, path: &str) -> Option<&'s [Node<'s>]> {
    let array = shape.arrays.iter().find(|array| array.path == path)?;
    array.writes.first().map(|(_, _, nodes)| nodes.as_slice())
}

/// The field by which an array's elements are told apart.
pub fn id_of_elements<'e>(entity: &'e Entity, shape: &Shape<'_>, path: &str) -> Option<&'e str> {
    let array = shape.arrays.iter().find(|array| array.path == path)?;
    let (write, ..) = array.writes.first()?;
    let columns = &entity.writes[*write].columns;
    let column = columns.iter().find(|column| matches!(column.fill, Fill::DerivedId(_)))?;
    Some(&column.name)
}
