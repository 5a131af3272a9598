//! `$jsonSchema` validators, as far as a plan can be judged by them: which fields there may be, which there must be,
//! and of what type. Rules about single values (`pattern`, `minimum`) are left to the server, which judges each
//! document when it is written.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::{Bson, Document};

/// What one value may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// Names of the types it may have, as `bsonType` writes them; `None`: any.
    pub types: Option<BTreeSet<String>>,
    /// The values that it may have; `None`: any.
    pub values: Option<Vec<Bson>>,
    /// Fields that an object must have.
    pub required: BTreeSet<String>,
    /// Whether an object may have no fields but `properties`.
    pub closed: bool,
    /// The fields of an object.
    pub properties: BTreeMap<String, Shape>,
    /// The elements of an array.
    pub items: Option<Box<Shape>>,
}

/// What a shape says about a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<'s> {
    /// The field's own shape.
    Shape(&'s Shape),
    /// Nothing: it may be anything.
    Anything,
    /// That it must not be there; the fields that may, with the path before them.
    Forbidden(Vec<String>),
}

/// `number` stands for these.
const NUMBERS: [&str; 4] = ["int", "long", "double", "decimal"];

/// Keywords that say more than a [`Shape`] holds.
const UNREAD: [&str; 7] =
    ["allOf", "anyOf", "oneOf", "not", "patternProperties", "dependencies", "minProperties"];

impl Shape {
    /// Reads a `$jsonSchema`. The second value: it has rules that a shape does not hold.
    pub fn of(schema: &Document) -> (Self, bool) {
        let mut more = UNREAD.iter().any(|key| schema.contains_key(key));
        let mut nested = |schema: &Document| {
            let (shape, unread) = Self::of(schema);
            more |= unread;
            shape
        };
        let properties = schema
            .get_document("properties")
            .into_iter()
            .flatten()
            .filter_map(|(name, schema)| Some((name.clone(), nested(schema.as_document()?))));
        let mut shape = Self { properties: properties.collect(), ..Self::default() };
        // Items can also be a list, one schema for each position.
        shape.items = schema.get_document("items").ok().map(|items| Box::new(nested(items)));
        more |= schema.get_array("items").is_ok();
        shape.types = types(schema);
        shape.values = schema.get_array("enum").ok().cloned();
        let required = schema.get_array("required").into_iter().flatten().filter_map(Bson::as_str);
        shape.required = required.map(str::to_owned).collect();
        // Further names can be allowed by pattern.
        let closed = matches!(schema.get_bool("additionalProperties"), Ok(false));
        shape.closed = closed && !schema.contains_key("patternProperties");
        (shape, more)
    }

    /// What it says about a field by its dotted path.
    pub fn field(&self, path: &str) -> Found<'_> {
        let mut shape = self;
        let mut before = String::new();
        for name in path.split('.') {
            match shape.properties.get(name) {
                Some(inner) => shape = inner,
                None if shape.closed => {
                    let names = shape.properties.keys().map(|name| format!("{before}{name}"));
                    return Found::Forbidden(names.collect());
                }
                None => return Found::Anything,
            }
            before.push_str(name);
            before.push('.');
        }
        Found::Shape(shape)
    }

    /// Whether a value may have this type.
    pub fn allows(&self, bson_type: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(bson_type))
    }

    /// Its types for people: `string or null`.
    pub fn type_names(&self) -> String {
        let types = self.types.iter().flatten().map(String::as_str);
        types.collect::<Vec<_>>().join(" or ")
    }

    /// The texts among its values; `None`: any text.
    pub fn labels(&self) -> Option<Vec<String>> {
        let values = self.values.as_ref()?;
        Some(values.iter().filter_map(Bson::as_str).map(str::to_owned).collect())
    }
}

/// `bsonType`, or JSON Schema's own `type`.
fn types(schema: &Document) -> Option<BTreeSet<String>> {
    let (value, bson) = match schema.get("bsonType") {
        Some(value) => (value, true),
        None => (schema.get("type")?, false),
    };
    let names: Vec<&str> = match value {
        Bson::String(name) => vec![name],
        Bson::Array(names) => names.iter().filter_map(Bson::as_str).collect(),
        _ => return None,
    };
    let mut types = BTreeSet::new();
    for name in names {
        match name {
            "number" => types.extend(NUMBERS.map(str::to_owned)),
            "boolean" if !bson => drop(types.insert("bool".to_owned())),
            name => drop(types.insert(name.to_owned())),
        }
    }
    Some(types)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn reads_nested_objects_and_arrays() {
        let (shape, more) = Shape::of(&doc! {
            "bsonType": "object",
            "required": ["_id", "name"],
            "additionalProperties": false,
            "properties": {
                "_id": { "bsonType": "binData" },
                "name": {
                    "bsonType": "object",
                    "required": ["first"],
                    "properties": { "first": { "type": "string" }, "last": { "bsonType": ["string", "null"] } },
                },
                "size": { "bsonType": "number" },
                "color": { "enum": ["RED", "BLUE", null] },
                "tags": { "bsonType": "array", "items": { "type": "boolean", "pattern": "x" } },
            },
        });
        assert!(!more && shape.closed && shape.required.contains("name"));
        let found = |path| match shape.field(path) {
            Found::Shape(shape) => shape,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(found("name.last").type_names(), "null or string");
        assert!(found("size").allows("decimal") && !found("size").allows("string"));
        assert_eq!(found("color").labels().unwrap(), ["RED", "BLUE"]);
        assert!(found("tags").items.as_ref().unwrap().allows("bool"));
        assert_eq!(shape.field("name.middle"), Found::Anything, "only the outer object is closed");
        let Found::Forbidden(names) = shape.field("nmae") else { panic!() };
        assert!(names.contains(&"name".to_owned()));
    }

    #[test]
    fn says_when_there_is_more() {
        assert!(Shape::of(&doc! { "properties": { "a": { "anyOf": [] } } }).1);
        assert!(Shape::of(&doc! { "items": { "not": {} } }).1);
        let (shape, more) =
            Shape::of(&doc! { "additionalProperties": false, "patternProperties": { "^x": {} } });
        assert!(more && !shape.closed, "names are allowed by pattern");
    }
}
