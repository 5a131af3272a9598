//! What a value of V1 becomes in a document: the type that goes with its own, or, where V2's validator wants another,
//! one that holds every such value unchanged.

use super::check::{Checker, Rows};
use super::fill::Given;
use super::write::is_normalised;
use super::{AccountField, Fill, Ids};
use crate::catalog::{Assignment, BsonKind, Shape, Type, TypeKind};
use crate::definition::problem::{At, Problem};

impl<'a> Checker<'a> {
    /// What the value becomes, or a problem.
    pub(super) fn kind(
        &mut self,
        given: &Given,
        shape: Option<&Shape>,
        place: &str,
        rows: Option<Rows<'a>>,
        at: At,
    ) -> Option<BsonKind> {
        let natural = given.kind.clone().or_else(|| given.data_type.as_ref().map(BsonKind::of));
        // An id of reference data that is empty or of no common type: whatever the field wants is as good a guess.
        let natural = natural.unwrap_or(BsonKind::Uuid);
        // What the scope is differs from entity to entity: see `scope_fields`.
        if rows.is_none() && given.fill == Fill::Account(AccountField::Scope) {
            return Some(natural);
        }
        let constant = match &given.fill {
            Fill::Constant(text) => Some(text.as_str()),
            _ => None,
        };
        let key = given.fill == Fill::Id && rows.is_some_and(|rows| rows.definition.ids.value == Ids::Keep);
        let kind = fit(&natural, constant, key, shape);
        if let (Some(shape), None) = (shape, &kind) {
            let allowed = shape.type_names();
            let (message, help) = match constant {
                Some(text) => (format!("`{text}` is no {allowed} (V2's {place})"), None),
                None => (
                    format!(
                        "{} does not fit V2's {place}, which is {}",
                        type_name(given, &natural),
                        describe(shape)
                    ),
                    Some(remedy(given, &natural, shape)),
                ),
            };
            let problem = Problem::at(at, message, "does not fit");
            self.problems.push(match help {
                Some(help) => problem.help(help),
                None => problem,
            });
        }
        if let Some(kind @ (BsonKind::Uuid | BsonKind::ObjectId)) = &kind
            && natural == BsonKind::Text
            && let Some(rows) = rows
            && constant.is_none()
        {
            let what = if *kind == BsonKind::Uuid { "uuid" } else { "ObjectId" };
            self.notes.push(format!(
                "{}: a key that is no {what} does not fit {place} and its row will be rejected",
                rows.definition.name.value
            ));
        }
        kind
    }

    /// Values that the validator lists: constants and the labels of enums must be among them; text is judged when it
    /// is written.
    pub(super) fn values(&mut self, given: &Given, shape: Option<&Shape>, place: &str, at: At) {
        let element = given.data_type.as_ref().and_then(Type::element);
        let (data_type, shape) = match element {
            Some(element) => (Some(element), shape.and_then(|shape| shape.items.as_deref())),
            None => (given.data_type.as_ref(), shape),
        };
        let Some(labels) = shape.and_then(Shape::labels) else { return };
        if let Fill::Constant(text) = &given.fill
            && given.kind == Some(BsonKind::Text)
            && !labels.contains(text)
        {
            let message = format!("`{text}` is none of the values of V2's {place}");
            let problem = Problem::at(at, message, "does not fit");
            self.problems.push(problem.suggest(text, labels.iter().map(String::as_str)));
        }
        let Some(from) = data_type.filter(|data_type| data_type.labels().is_some()) else { return };
        let wanted = Type { name: place.to_owned(), category: 'E', kind: TypeKind::Enum(labels) };
        if let Assignment::Impossible(why) = from.assignment(&wanted, &Default::default()) {
            let message = format!("{why} (V2's {place})");
            let help =
                "translate these labels in the query (case … end), or add them to the validator's enum";
            self.problems.push(Problem::at(at, message, "does not fit").help(help));
        }
    }
}

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

/// The type of a value for people: V1's, where it has one.
fn type_name(given: &Given, natural: &BsonKind) -> String {
    match (&given.kind, &given.data_type) {
        (None, Some(data_type)) => data_type.name.clone(),
        _ => natural.bson_type().unwrap_or("json").to_owned(),
    }
}

/// What a shape accepts, for people: `string`, `array of objectId`.
pub(super) fn describe(shape: &Shape) -> String {
    match shape.items.as_deref().filter(|items| items.types.is_some()) {
        Some(items) => format!("{} of {}", shape.type_names(), items.type_names()),
        None => shape.type_names(),
    }
}

/// How to make a value fit.
fn remedy(given: &Given, natural: &BsonKind, shape: &Shape) -> String {
    let element = match natural {
        BsonKind::Array(element) if shape.allows("array") => element,
        BsonKind::Array(_) => return "write the array to a field that is one".to_owned(),
        other => other,
    };
    let inner = match natural {
        BsonKind::Array(_) => shape.items.as_deref().unwrap_or(shape),
        _ => shape,
    };
    match element {
        BsonKind::Uuid if inner.allows("objectId") => {
            "write `ids = \"objectid\"` where these ids are made, or let the validator accept binData"
                .to_owned()
        }
        BsonKind::ObjectId if inner.allows("binData") => {
            "leave `ids = \"objectid\"` out where these ids are made, or let the validator accept objectId"
                .to_owned()
        }
        _ if is_normalised(&given.fill) || matches!(given.fill, Fill::Account(_)) => {
            format!("write it to a field of type {}", element.bson_type().unwrap_or("string"))
        }
        _ => match cast_for(inner) {
            Some(cast) if matches!(given.fill, Fill::Column(_) | Fill::Each(_)) => {
                let brackets = if matches!(natural, BsonKind::Array(_)) { "[]" } else { "" };
                format!("cast it in the query: `…::{cast}{brackets}`")
            }
            _ => format!("let the validator accept {}", element.bson_type().unwrap_or("it")),
        },
    }
}

/// The type to cast to in a query so that the value becomes one of these types of BSON.
fn cast_for(shape: &Shape) -> Option<&'static str> {
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
