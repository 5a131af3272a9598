//! What a value of V1 becomes in a document: the type that goes with its own, or, where V2's validator wants another,
//! one that holds every such value unchanged.

use crate::catalog::{BsonKind, Shape};

/// The type that a value of kind `natural` is written as; `None` if the validator accepts none that holds it.
/// `constant`: the value, where it is known; `key`: it is an id that is kept, whose text may be that of another type.
pub(super) fn fit(
    natural: &BsonKind,
    constant: Option<&str>,
    key: bool,
    shape: Option<&Shape>,
) -> Option<BsonKind> {
    let Some(shape) = shape else { return Some(natural.clone()) };
    if let BsonKind::Array(element) = natural {
        let element = fit(element, None, key, shape.items.as_deref())?;
        return shape.allows("array").then(|| BsonKind::Array(Box::new(element)));
    }
    let mut kinds = wider(natural);
    if *natural == BsonKind::Text {
        if key {
            kinds.extend([BsonKind::Uuid, BsonKind::ObjectId]);
        }
        kinds.extend(constant.into_iter().flat_map(readings));
    }
    kinds.into_iter().find(|kind| kind.bson_type().is_none_or(|name| shape.allows(name)))
}

/// The kind itself, then those that hold all its values without loss. A `double` holds every `int`, but not every `long`.
fn wider(kind: &BsonKind) -> Vec<BsonKind> {
    match kind {
        BsonKind::Int => vec![BsonKind::Int, BsonKind::Long, BsonKind::Decimal, BsonKind::Double],
        BsonKind::Long => vec![BsonKind::Long, BsonKind::Decimal],
        // Ids have one text form.
        BsonKind::Uuid | BsonKind::ObjectId => vec![kind.clone(), BsonKind::Text],
        kind => vec![kind.clone()],
    }
}

/// What a constant's text can be read as.
fn readings(text: &str) -> Vec<BsonKind> {
    let mut kinds = Vec::new();
    let mut may_be = |is: bool, kind: BsonKind| {
        if is {
            kinds.push(kind);
        }
    };
    may_be(matches!(text, "true" | "false"), BsonKind::Bool);
    may_be(text.parse::<i32>().is_ok(), BsonKind::Int);
    may_be(text.parse::<i64>().is_ok(), BsonKind::Long);
    may_be(text.parse::<f64>().is_ok(), BsonKind::Double);
    may_be(uuid::Uuid::parse_str(text).is_ok(), BsonKind::Uuid);
    may_be(text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()), BsonKind::ObjectId);
    kinds
}

/// The type to cast to in a query so that the value becomes one of these types of BSON.
pub(super) fn cast_for(shape: &Shape) -> Option<&'static str> {
    shape.types.iter().flatten().find_map(|name| {
        Some(match name.as_str() {
            "bool" => "boolean",
            "int" => "integer",
            "long" => "bigint",
            "double" => "double precision",
            "decimal" => "numeric",
            "date" => "timestamptz",
            "string" => "text",
            "object" => "jsonb",
            _ => return None,
        })
    })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Document, doc};

    use super::*;

    fn fits(natural: BsonKind, schema: Document) -> Option<BsonKind> {
        fit(&natural, None, false, Some(&Shape::of(&schema).0))
    }

    #[test]
    fn widens_only_without_loss() {
        use BsonKind::{Date, Decimal, Double, Int, Long, ObjectId, Text, Uuid};
        let of = |name: &str| doc! { "bsonType": name };
        assert_eq!(fits(Int, doc! {}), Some(Int));
        assert_eq!(fits(Int, of("number")), Some(Int));
        assert_eq!(fits(Int, of("long")), Some(Long));
        assert_eq!(fits(Int, of("double")), Some(Double));
        assert_eq!(fits(Int, doc! { "bsonType": ["double", "decimal"] }), Some(Decimal));
        assert_eq!(fits(Long, of("decimal")), Some(Decimal));
        assert_eq!(fits(Long, of("double")), None, "2^53 + 1 would become 2^53");
        assert_eq!(fits(Long, of("int")), None);
        assert_eq!(fits(Decimal, of("double")), None);
        assert_eq!(fits(Uuid, of("string")), Some(Text));
        assert_eq!(fits(Uuid, of("objectId")), None);
        assert_eq!(fits(ObjectId, of("binData")), None);
        assert_eq!(fits(Date, of("string")), None);
        assert_eq!(fits(Text, of("binData")), None);
        assert_eq!(fits(BsonKind::Json, of("object")), Some(BsonKind::Json), "judged when it is written");
    }

    #[test]
    fn arrays_by_their_elements() {
        let longs = doc! { "bsonType": "array", "items": { "bsonType": "long" } };
        let array = |kind| BsonKind::Array(Box::new(kind));
        assert_eq!(fits(array(BsonKind::Int), longs.clone()), Some(array(BsonKind::Long)));
        assert_eq!(fits(array(BsonKind::Text), longs.clone()), None);
        assert_eq!(fits(BsonKind::Int, longs), None);
        assert_eq!(fits(array(BsonKind::Int), doc! { "bsonType": "int" }), None);
    }

    #[test]
    fn constants_and_kept_keys() {
        let shape = |name: &str| Shape::of(&doc! { "bsonType": name }).0;
        let constant = |text, name| fit(&BsonKind::Text, Some(text), false, Some(&shape(name)));
        assert_eq!(constant("5", "string"), Some(BsonKind::Text));
        assert_eq!(constant("5", "long"), Some(BsonKind::Long));
        assert_eq!(constant("five", "long"), None);
        assert_eq!(constant("true", "bool"), Some(BsonKind::Bool));
        assert_eq!(constant("5f0c2a4e9b1d8a3c7e6f0123", "objectId"), Some(BsonKind::ObjectId));
        let kept = |name| fit(&BsonKind::Text, None, true, Some(&shape(name)));
        assert_eq!(kept("binData"), Some(BsonKind::Uuid));
        assert_eq!(kept("objectId"), Some(BsonKind::ObjectId));
        assert_eq!(kept("int"), None);
    }
}
