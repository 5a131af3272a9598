//! Ledger lines and conflicts as documents. A line's `_id` is `{ e: entity, k: key }`: one index serves for uniqueness, for
//! looking up and for reading an entity in key order. Keys that are whole numbers are stored as such, so that they are
//! ordered as numbers.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};

use super::document::Documents;
use super::session::{at, id, id_text, text_at};
use crate::census::Claims;
use crate::ids;
use crate::ledger::{Known, Line, Outcome};
use crate::migrator::Note;
use crate::plan::{AccountField, BsonKind, Entity, Fill, KeyKind, Plan, When};

/// The largest source row, in bytes, that a reject keeps: its line, which must stay below 16 MiB, has a reason and a key beside it.
const MAX_SOURCE_ROW: usize = 15 * 1024 * 1024;

/// How one entity's lines are written.
pub struct LineShape {
    /// The entity.
    pub entity: String,
    /// How its keys are ordered.
    pub key: KeyKind,
    /// What ids of accounts are.
    pub account: BsonKind,
    /// What ids of its own documents are.
    pub target: BsonKind,
}

/// A key as it is stored.
pub fn key(kind: KeyKind, key: &str) -> Bson {
    match kind {
        KeyKind::Integer => key.parse().map_or_else(|_| Bson::String(key.to_owned()), Bson::Int64),
        KeyKind::Text | KeyKind::Uuid => Bson::String(key.to_owned()),
    }
}

/// The `_id` of a line.
pub fn line_id(entity: &str, kind: KeyKind, of: &str) -> Document {
    doc! { "e": entity, "k": key(kind, of) }
}

/// All lines of an entity.
pub fn lines_of(entity: &str) -> Document {
    doc! { "_id": { "$gte": { "e": entity, "k": Bson::MinKey }, "$lte": { "e": entity, "k": Bson::MaxKey } } }
}

/// The conflicts of rows: the ends of the range, so that the key's index finds them, and the keys.
pub fn conflicts_of(entity: &str, keys: &[Bson]) -> Document {
    let order = |a: &&Bson, b: &&Bson| match (a, b) {
        (Bson::Int64(a), Bson::Int64(b)) => a.cmp(b),
        (Bson::String(a), Bson::String(b)) => a.cmp(b),
        // Numbers come before text.
        (Bson::String(_), _) => std::cmp::Ordering::Greater,
        _ => std::cmp::Ordering::Less,
    };
    let (first, last) = (keys.iter().min_by(order), keys.iter().max_by(order));
    let first = doc! { "e": entity, "k": first.cloned().unwrap_or(Bson::MinKey) };
    let last = doc! { "e": entity, "k": last.cloned().unwrap_or(Bson::MaxKey), "kind": Bson::MaxKey };
    doc! { "_id": { "$gte": first, "$lte": last }, "_id.k": { "$in": keys } }
}

/// Whether the line's row is in V2.
pub fn is_written(line: &RawDocument) -> bool {
    let outcome = text_at(line, "outcome").and_then(Outcome::from_letter);
    matches!(outcome, Some(Outcome::Migrated | Outcome::Merged))
}

/// The digests of the documents and of the elements; the number of the former is that of the entity's collections, which
/// the first byte tells. The way back of [`encode`].
pub fn digests(line: &RawDocument) -> (Vec<u64>, Vec<u64>) {
    let Some(RawBsonRef::Binary(binary)) = at(line, "digests") else { return (Vec::new(), Vec::new()) };
    let Some((&count, rest)) = binary.bytes.split_first() else { return (Vec::new(), Vec::new()) };
    let mut all = rest.chunks_exact(8).filter_map(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
    let documents = all.by_ref().take(count.into()).collect();
    (documents, all.collect())
}

/// The number of collections with documents of their own; eight bytes for each of them, in the order of the entity's
/// writes (zeros where the row wrote none, the sum where it wrote several); then eight for each element that it added to
/// an account's array.
pub fn encode(documents: &[u64], elements: &[u64]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(documents.len()).unwrap_or(u8::MAX)];
    bytes.extend(documents.iter().chain(elements).flat_map(|digest| digest.to_be_bytes()));
    bytes
}

/// The value at a dotted path.
pub fn bson_at(document: &RawDocument, path: &str) -> Option<Bson> {
    Bson::try_from(at(document, path)?).ok()
}

/// A key as text.
pub fn key_text(line: &RawDocument) -> Option<String> {
    match at(line, "_id.k")? {
        RawBsonRef::String(text) => Some(text.to_owned()),
        RawBsonRef::Int64(number) => Some(number.to_string()),
        RawBsonRef::Int32(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a line says, for reading beside the source; whether its change was refused is for the conflict log to say.
pub fn parse(line: &RawDocument) -> Option<(String, Known)> {
    let outcome = Outcome::from_letter(at(line, "outcome")?.as_str()?)?;
    let RawBsonRef::Binary(hash) = at(line, "sourceHash")? else { return None };
    let source_hash = u128::from_be_bytes(hash.bytes.try_into().ok()?);
    let claims = match at(line, "claims") {
        Some(RawBsonRef::Binary(claims)) => claims.bytes.try_into().ok(),
        _ => None,
    };
    let claims = claims.map(|bytes| Claims::from_u128(u128::from_be_bytes(bytes)));
    let joined = at(line, "accountId").filter(|_| outcome == Outcome::Merged);
    let joined = joined.and_then(|account| ids::parse(&id_text(account)));
    Some((key_text(line)?, Known { outcome, source_hash, claims, joined, refused: false }))
}

fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

impl LineShape {
    /// A line as a document. `digests` are of what the row wrote, in the order of its writes; `source_row` is the row's
    /// own COPY text, kept for rejects only.
    pub fn document(
        &self,
        run: i32,
        line: &Line,
        digests: &[u8],
        source_row: Option<&str>,
    ) -> mongodb::bson::error::Result<RawDocumentBuf> {
        let mut id_of_line = RawDocumentBuf::new();
        id_of_line.append(mongodb::bson::raw::cstr!("e"), self.entity.as_str());
        match self.key {
            KeyKind::Integer if line.key.parse::<i64>().is_ok() => {
                id_of_line
                    .append(mongodb::bson::raw::cstr!("k"), line.key.parse::<i64>().unwrap_or_default());
            }
            _ => id_of_line.append(mongodb::bson::raw::cstr!("k"), line.key.as_str()),
        }
        let mut document = rawdoc! {
            "_id": id_of_line,
            "run": run,
            "outcome": line.outcome.letter(),
            "sourceHash": binary(&line.hash().to_be_bytes()),
        };
        if let Some(claims) = line.claims {
            append(&mut document, "claims", Bson::Binary(binary(&claims.to_u128().to_be_bytes())))?;
        }
        if let Some(account) = &line.account_id {
            append(&mut document, "accountId", id(&self.account, account))?;
        }
        if let Some(target) = &line.target_id {
            append(&mut document, "targetId", id(&self.target, target))?;
        }
        if !digests.is_empty() {
            append(&mut document, "digests", Bson::Binary(binary(digests)))?;
        }
        if let Some(reject) = &line.reject {
            append(&mut document, "code", Bson::String(reject.code.clone()))?;
            append(&mut document, "reason", Bson::String(reject.reason.clone()))?;
        }
        // A row that is too large for a document is too large for its line, too; V1 still has it.
        if let Some(source_row) = source_row.filter(|row| row.len() <= MAX_SOURCE_ROW) {
            append(&mut document, "sourceRow", Bson::String(source_row.to_owned()))?;
        }
        Ok(document)
    }

    /// An entry of the conflict log.
    pub fn conflict(&self, run: i32, of: &str, note: &Note) -> Document {
        let mut document = doc! {
            "_id": { "e": &self.entity, "k": key(self.key, of), "kind": &note.kind },
            "run": run,
            "decision": &note.decision,
        };
        if let Some((entity, key)) = &note.other {
            document.insert("other", doc! { "e": &**entity, "k": key });
        }
        if let Some(detail) = &note.detail {
            document.insert("detail", detail);
        }
        document
    }
}

/// How an entity's ledger lines are written.
pub fn shape(plan: &Plan, entity: &Entity) -> LineShape {
    LineShape {
        entity: entity.name.to_string(),
        key: entity.source.key_kind,
        account: account_kind(plan),
        target: kind_of(entity, When::Row, &Fill::Id),
    }
}

/// What ids of accounts are in V2.
fn account_kind(plan: &Plan) -> BsonKind {
    let account = plan.entities.iter().find(|entity| entity.account.is_some());
    account.map_or(BsonKind::Uuid, |entity| kind_of(entity, When::Account, &Fill::Account(AccountField::Id)))
}

fn kind_of(entity: &Entity, when: When, fill: &Fill) -> BsonKind {
    let columns = entity.writes.iter().filter(|write| write.when == when).flat_map(|write| &write.columns);
    let column = columns.into_iter().find(|column| column.fill == *fill);
    column.and_then(|column| column.bson.as_ref()).map_or(BsonKind::Uuid, |bson| bson.kind.clone())
}

/// The digests of what each row wrote.
pub struct Digests {
    /// Collections with documents of their own.
    shapes: usize,
    /// (row, shape, digest)
    documents: Vec<(u32, usize, u64)>,
    /// (row, digest)
    elements: Vec<(u32, u64)>,
}

impl Digests {
    /// The digests of a part of a chunk.
    pub fn of(documents: &Documents) -> Self {
        let mut this = Self { shapes: documents.inserts.len(), documents: Vec::new(), elements: Vec::new() };
        for (shape, inserts) in documents.inserts.iter().enumerate() {
            for insert in inserts.iter() {
                this.documents.push((insert.row, shape, insert.digest));
                this.elements.extend(insert.elements.iter().map(|&digest| (insert.row, digest)));
            }
        }
        for pushes in &documents.pushes {
            this.elements.extend(pushes.iter().map(|push| (push.row, push.digest)));
        }
        this.documents.sort_unstable();
        this.elements.sort_by_key(|(row, _)| *row);
        this
    }

    /// The digests of one row, as [`encode`] writes them.
    pub fn of_row(&self, row: u32) -> Vec<u8> {
        let mut documents = vec![0_u64; self.shapes];
        let first = self.documents.partition_point(|(of, ..)| *of < row);
        for (_, shape, digest) in self.documents[first..].iter().take_while(|(of, ..)| *of == row) {
            documents[*shape] = documents[*shape].wrapping_add(*digest);
        }
        let first = self.elements.partition_point(|(of, _)| *of < row);
        let elements = self.elements[first..].iter().take_while(|(of, _)| *of == row);
        encode(&documents, &elements.map(|(_, digest)| *digest).collect::<Vec<_>>())
    }
}

fn append(document: &mut RawDocumentBuf, name: &str, value: Bson) -> mongodb::bson::error::Result<()> {
    let name = mongodb::bson::raw::CString::try_from(name)?;
    document.append(name, mongodb::bson::RawBson::try_from(value)?);
    Ok(())
}
