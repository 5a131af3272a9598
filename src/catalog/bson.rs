//! The types of BSON that a value of Postgres can become.

use super::{Type, TypeKind};

/// What text that V1 wrote is parsed to. Named as `$jsonSchema` names them where it has a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BsonKind {
    /// `bool`
    Bool,
    /// `int`, 32 bits
    Int,
    /// `long`, 64 bits
    Long,
    /// `double`
    Double,
    /// `decimal`: 34 digits (IEEE 754 decimal128)
    Decimal,
    /// `date`: milliseconds, UTC
    Date,
    /// `string`
    Text,
    /// `binData` of subtype 4
    Uuid,
    /// `objectId`
    ObjectId,
    /// `binData` of subtype 0, from `bytea`'s hex
    Binary,
    /// Whatever the JSON text is: object, array, string, number, bool or null
    Json,
    /// `array` of one kind, from Postgres's array text; arrays of several dimensions nest
    Array(Box<BsonKind>),
}

impl BsonKind {
    /// What values of a type of Postgres become. Types that BSON has no counterpart for (intervals, times of day,
    /// network addresses, ranges, geometry, money) stay text, as do enums.
    pub fn of(data_type: &Type) -> Self {
        let base = data_type.base();
        if let TypeKind::Array(element) = &base.kind {
            // Their arrays are not separated by commas (`typdelim`), but their elements hold commas: they stay text whole.
            let name = element.base().name.as_str();
            if matches!(name.rsplit('.').next(), Some("box" | "geometry" | "geography")) {
                return Self::Text;
            }
            return Self::Array(Box::new(Self::of(element)));
        }
        match base.name.as_str() {
            "boolean" => Self::Bool,
            "smallint" | "integer" => Self::Int,
            "bigint" => Self::Long,
            "real" | "double precision" => Self::Double,
            "numeric" => Self::Decimal,
            "date" | "timestamp without time zone" | "timestamp with time zone" => Self::Date,
            "uuid" => Self::Uuid,
            "bytea" => Self::Binary,
            "json" | "jsonb" => Self::Json,
            _ => Self::Text,
        }
    }

    /// The name of the type in `$jsonSchema`'s `bsonType`; `None` for JSON, which can be any.
    pub fn bson_type(&self) -> Option<&'static str> {
        Some(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Long => "long",
            Self::Double => "double",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::Text => "string",
            Self::Uuid | Self::Binary => "binData",
            Self::ObjectId => "objectId",
            Self::Json => return None,
            Self::Array(_) => "array",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn arrays_that_are_not_separated_by_commas_stay_text() {
        let array_of = |name: &str| Type {
            name: format!("{name}[]"),
            category: 'A',
            kind: TypeKind::Array(Box::new(Catalog::built_in(name, 'X'))),
        };
        assert_eq!(BsonKind::of(&array_of("box")), BsonKind::Text);
        assert_eq!(BsonKind::of(&array_of("gis.geometry")), BsonKind::Text);
        assert_eq!(BsonKind::of(&array_of("integer")), BsonKind::Array(Box::new(BsonKind::Int)));
    }
}
