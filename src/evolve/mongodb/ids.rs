//! Walks a collection in the order of `_id`, from the index alone.
//!
//! The comparison operators see only values of the same kind as their operand (`{ $gt: 5 }` finds no string), so a batch
//! never mixes kinds; the walk itself goes by the bounds of the index, which know no such limit. A collection whose ids
//! are partly numbers and partly texts is therefore walked as a whole.

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::options::Hint;
use mongodb::{Collection, Database};

use super::bookkeeping::Driver;

/// Documents that follow each other in the order of `_id`, all of one kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ids(pub(super) Vec<Bson>);

impl Ids {
    /// The last one.
    pub(super) fn last(&self) -> Option<&Bson> {
        self.0.last()
    }

    /// A filter for these documents and all that stand between them.
    pub(super) fn filter(&self) -> Document {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) if first != last => doc! { "_id": { "$gte": first, "$lte": last } },
            // Also for what no range can name: NaN, MinKey.
            (Some(only), _) => doc! { "_id": { "$eq": only } },
            _ => doc! { "_id": { "$in": [] } },
        }
    }

    /// The first half, for when the whole is too much.
    pub(super) fn half(&self) -> Option<Self> {
        (self.0.len() > 1).then(|| Self(self.0[..self.0.len() / 2].to_vec()))
    }
}

/// The next ids after one, at most `batch`; `None` at the end.
pub(super) async fn next(
    database: &Database,
    collection: &str,
    after: Option<&Bson>,
    batch: u32,
) -> Driver<Option<Ids>> {
    if after == Some(&Bson::MaxKey) {
        return Ok(None);
    }
    let collection: Collection<RawDocumentBuf> = database.collection(collection);
    // One more, as the bound of the index is inclusive.
    let limit = i64::from(batch) + 1;
    let mut find = collection
        .find(doc! {})
        .projection(doc! { "_id": 1 })
        .sort(doc! { "_id": 1 })
        .hint(Hint::Keys(doc! { "_id": 1 }))
        .limit(limit)
        .batch_size(batch + 1);
    if let Some(after) = after {
        find = find.min(doc! { "_id": after });
    }
    let mut found = find.await?;
    let mut ids: Vec<Bson> = Vec::new();
    while let Some(document) = found.try_next().await? {
        let id = document.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok());
        let Some(id) = id else { continue };
        if after.is_some_and(|after| is_same(after, &id)) {
            continue;
        }
        let stranger = |first: &Bson| kind(first) != kind(&id) || kind(first) == ALONE;
        if ids.len() == batch as usize || ids.first().is_some_and(stranger) {
            break;
        }
        ids.push(id);
    }
    // Bounds end before MaxKey.
    if ids.is_empty() && after.is_some() {
        let last = collection.find_one(doc! { "_id": { "$eq": Bson::MaxKey } }).await?;
        return Ok(last.map(|_| Ids(vec![Bson::MaxKey])));
    }
    Ok((!ids.is_empty()).then_some(Ids(ids)))
}

/// Whether two ids are one. NaN, which equals nothing, is one id to the server.
fn is_same(one: &Bson, other: &Bson) -> bool {
    one == other || is_nan(one) && is_nan(other)
}

fn is_nan(id: &Bson) -> bool {
    match id {
        Bson::Double(number) => number.is_nan(),
        Bson::Decimal128(number) => number.to_string() == "NaN",
        _ => false,
    }
}

/// The kind of values that no range can name.
const ALONE: u8 = 0;

/// Values of one kind are compared with each other.
fn kind(id: &Bson) -> u8 {
    match id {
        _ if is_nan(id) => ALONE,
        Bson::Double(_) | Bson::Int32(_) | Bson::Int64(_) | Bson::Decimal128(_) => 1,
        Bson::String(_) | Bson::Symbol(_) => 2,
        Bson::Document(_) => 3,
        Bson::Binary(_) => 4,
        Bson::ObjectId(_) => 5,
        Bson::Boolean(_) => 6,
        Bson::DateTime(_) => 7,
        Bson::Timestamp(_) => 8,
        Bson::Null | Bson::Undefined => 9,
        _ => ALONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_range_and_one_document_is_itself() {
        let ids = Ids(vec![Bson::Int32(1), Bson::Int32(5)]);
        assert_eq!(ids.filter(), doc! { "_id": { "$gte": 1, "$lte": 5 } });
        assert_eq!(ids.half(), Some(Ids(vec![Bson::Int32(1)])));
        assert_eq!(ids.half().unwrap().filter(), doc! { "_id": { "$eq": 1 } });
        assert_eq!(ids.half().unwrap().half(), None);
        assert!(is_same(&Bson::Double(f64::NAN), &Bson::Double(f64::NAN)));
        assert_ne!(kind(&Bson::Double(f64::NAN)), kind(&Bson::Double(1.0)));
        assert_eq!(kind(&Bson::Int64(1)), kind(&Bson::Double(1.0)));
    }
}
