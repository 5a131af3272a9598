//! Documents of V2 as a transaction found them and as it will leave them. Several rows may change one account's document, one
//! after the other, and a row that turns out not to fit takes back what it did to all of them.

use std::collections::{BTreeMap, HashMap};

use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::ledger::bson_at;
use super::session::{at, id, id_text};
use super::shape::Shape;
use super::transaction::{Failure, Transaction};
use crate::plan::{AccountField, BsonKind, Entity, Fill, When};

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The collection.
    pub collection: String,
    /// Its `_id`, as text.
    pub id: String,
}

impl Place {
    /// Of a document.
    pub fn of(collection: &str, document: &RawDocument) -> Self {
        let id = at(document, "_id").map(id_text).unwrap_or_default();
        Self { collection: collection.to_owned(), id }
    }
}

#[derive(Debug)]
struct Entry {
    id: Bson,
    before: Option<RawDocumentBuf>,
    now: Option<RawDocumentBuf>,
    /// Who changed it last.
    row: u32,
}

/// How the documents of one shape that belong to a row of V1 are found.
#[derive(Debug)]
pub enum By<'p> {
    /// One at most: `_id` is this field of the ledger line.
    Id(&'static str),
    /// Several: this field of the documents holds the row's id.
    Field(&'p str, &'p BsonKind),
    /// One at most among those of the account, whose id this field holds: which one, only the digest tells, or the `_id`.
    Among(&'p str, &'p BsonKind),
    /// Nothing tells which row they belong to.
    Nothing,
}

/// How a shape's documents are found.
pub fn by<'p>(entity: &'p Entity, shape: &Shape<'_>) -> By<'p> {
    let columns = &entity.writes[shape.write].columns;
    match columns.iter().find(|column| column.name == "_id").map(|column| &column.fill) {
        Some(Fill::Account(AccountField::Id)) => return By::Id("accountId"),
        Some(Fill::Id) => return By::Id("targetId"),
        _ => {}
    }
    let field = |fill: Fill| {
        let column = columns.iter().find(|column| column.fill == fill)?;
        Some((column.name.as_str(), &column.bson.as_ref()?.kind))
    };
    let several = matches!(entity.writes[shape.write].when, When::Each(_));
    match (field(Fill::Id), field(Fill::Account(AccountField::Id))) {
        (Some((name, kind)), _) => By::Field(name, kind),
        (None, Some((name, kind))) if !several => By::Among(name, kind),
        _ => By::Nothing,
    }
}

impl By<'_> {
    /// The field of the ledger line that the documents are found by.
    pub fn of_line(&self) -> Option<&'static str> {
        match self {
            Self::Id(field) => Some(field),
            Self::Field(..) => Some("targetId"),
            Self::Among(..) => Some("accountId"),
            Self::Nothing => None,
        }
    }

    /// The documents of some ledger lines.
    pub fn filter<'l>(&self, lines: impl Iterator<Item = &'l RawDocumentBuf>) -> Option<Document> {
        let of_line = self.of_line()?;
        let mut lines = lines.filter_map(|line| at(line, of_line)).peekable();
        lines.peek()?;
        Some(match self {
            Self::Field(name, kind) | Self::Among(name, kind) => {
                doc! { *name: { "$in": lines.map(|value| id(kind, &id_text(value))).collect::<Vec<_>>() } }
            }
            _ => {
                let ids = lines.filter_map(|value| Bson::try_from(value).ok());
                doc! { "_id": { "$in": ids.collect::<Vec<_>>() } }
            }
        })
    }

    /// What ties a document to its ledger line, as text.
    pub fn owner(&self, document: &RawDocument) -> String {
        let field = match self {
            Self::Field(name, _) | Self::Among(name, _) => name,
            _ => "_id",
        };
        at(document, field).map(id_text).unwrap_or_default()
    }
}

/// The documents that one transaction works on.
#[derive(Debug, Default)]
pub struct Stored {
    entries: BTreeMap<Place, Entry>,
    /// By collection and id of the row: documents that were found by a field.
    several: HashMap<(String, String), Vec<Place>>,
    /// What each change replaced.
    journal: Vec<(Place, Option<RawDocumentBuf>, u32)>,
}

impl Stored {
    /// Reads a shape's documents of some ledger lines.
    pub async fn load(
        &mut self,
        transaction: &mut Transaction<'_>,
        entity: &Entity,
        shape: &Shape<'_>,
        lines: impl Iterator<Item = &RawDocumentBuf>,
    ) -> Result<(), Failure> {
        let by = by(entity, shape);
        let Some(filter) = by.filter(lines) else { return Ok(()) };
        for document in transaction.find(shape.collection, filter).await? {
            if matches!(by, By::Field(..) | By::Among(..)) {
                let owner = (shape.collection.to_owned(), by.owner(&document));
                self.several.entry(owner).or_default().push(Place::of(shape.collection, &document));
            }
            self.found(shape.collection, document);
        }
        Ok(())
    }

    /// Reads documents by their ids.
    pub async fn load_ids(
        &mut self,
        transaction: &mut Transaction<'_>,
        collection: &str,
        ids: Vec<Bson>,
    ) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        for document in transaction.find(collection, doc! { "_id": { "$in": ids } }).await? {
            self.found(collection, document);
        }
        Ok(())
    }

    fn found(&mut self, collection: &str, document: RawDocumentBuf) {
        let place = Place::of(collection, &document);
        let id = bson_at(&document, "_id").unwrap_or(Bson::Null);
        let entry = Entry { id, before: Some(document.clone()), now: Some(document), row: 0 };
        self.entries.entry(place).or_insert(entry);
    }

    /// A document as it is now.
    pub fn now(&self, place: &Place) -> Option<&RawDocumentBuf> {
        self.entries.get(place)?.now.as_ref()
    }

    /// The documents of a row that were found by a field.
    pub fn several(&self, collection: &str, owner: &str) -> &[Place] {
        self.several.get(&(collection.to_owned(), owner.to_owned())).map(Vec::as_slice).unwrap_or_default()
    }

    /// Writes a document, in the name of a row.
    pub fn put(&mut self, place: Place, document: RawDocumentBuf, row: u32) {
        let id = bson_at(&document, "_id").unwrap_or(Bson::Null);
        let entry = self.entries.entry(place.clone());
        let entry = entry.or_insert(Entry { id, before: None, now: None, row });
        self.journal.push((place, entry.now.replace(document), entry.row));
        entry.row = row;
    }

    /// Removes a document, in the name of a row.
    pub fn remove(&mut self, place: Place, row: u32) {
        let Some(entry) = self.entries.get_mut(&place) else { return };
        self.journal.push((place, entry.now.take(), entry.row));
        entry.row = row;
    }

    /// A point to come back to.
    pub fn savepoint(&self) -> usize {
        self.journal.len()
    }

    /// Takes back what was done since.
    pub fn undo(&mut self, savepoint: usize) {
        for (place, document, row) in self.journal.drain(savepoint..).rev() {
            if let Some(entry) = self.entries.get_mut(&place) {
                (entry.now, entry.row) = (document, row);
            }
        }
    }

    /// What has changed: each document as it is now, if it is there.
    pub fn changed(&self) -> impl Iterator<Item = (&Place, Option<&RawDocumentBuf>)> {
        let changed = |entry: &Entry| entry.before != entry.now;
        self.entries.iter().filter(move |(_, of)| changed(of)).map(|(place, of)| (place, of.now.as_ref()))
    }

    /// Takes documents that were read for what they would be by now.
    pub fn assume(&mut self, documents: &BTreeMap<Place, RawDocumentBuf>) {
        for (place, entry) in &mut self.entries {
            if let Some(document) = documents.get(place) {
                (entry.before, entry.now) = (Some(document.clone()), Some(document.clone()));
            }
        }
    }

    /// Sends what has changed. Removals go first, so that what they free can be taken.
    pub async fn flush(&self, transaction: &mut Transaction<'_>) -> Result<Written, Failure> {
        let mut collections: BTreeMap<&str, (Vec<Bson>, Vec<_>, Vec<_>)> = BTreeMap::new();
        for (place, entry) in &self.entries {
            let (removed, replaced, inserted) = collections.entry(&place.collection).or_default();
            match (&entry.before, &entry.now) {
                (Some(_), None) => removed.push(entry.id.clone()),
                (Some(before), Some(now)) if before.as_bytes() != now.as_bytes() => {
                    replaced.push((entry.row, entry.id.clone(), &**now));
                }
                (None, Some(now)) => inserted.push((entry.row, &**now)),
                _ => {}
            }
        }
        let mut written = Written::default();
        for (collection, (removed, ..)) in &collections {
            if !removed.is_empty() {
                let count = transaction.delete(collection, doc! { "_id": { "$in": removed } }).await?;
                written.removed.push(((*collection).to_owned(), count));
            }
        }
        for (collection, (_, replaced, inserted)) in &collections {
            transaction.replace(collection, replaced).await?;
            transaction.insert(collection, inserted).await?;
        }
        Ok(written)
    }
}

/// What was sent.
#[derive(Debug, Default)]
pub struct Written {
    /// Documents that went, by collection.
    pub removed: Vec<(String, u64)>,
}
