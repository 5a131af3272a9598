//! Documents as people read them.
//!
//! The samples of a dry run are there to be looked at. Extended JSON keeps every type apart, so a uuid becomes
//! `{"$binary":{"base64":…}}`, which nobody can compare with anything. Here a value is written as the shell or the application
//! shows it: uuids, ids and decimals as text, dates in ISO 8601, numbers as numbers. There is no way back, and none is needed.

use mongodb::bson::Bson;
use mongodb::bson::spec::BinarySubtype;
use serde::{Serialize, Serializer};

/// A value for people; fields keep their order.
pub struct Plain<'v>(pub &'v Bson);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Bson::Document(document) => {
                serializer.collect_map(document.iter().map(|(name, value)| (name, Plain(value))))
            }
            Bson::Array(values) => serializer.collect_seq(values.iter().map(Plain)),
            Bson::String(text) => serializer.serialize_str(text),
            Bson::Boolean(value) => serializer.serialize_bool(*value),
            Bson::Int32(number) => serializer.serialize_i32(*number),
            Bson::Int64(number) => serializer.serialize_i64(*number),
            Bson::Double(number) if number.is_finite() => serializer.serialize_f64(*number),
            Bson::Null => serializer.serialize_unit(),
            Bson::DateTime(date) => match date.try_to_rfc3339_string() {
                Ok(text) => serializer.serialize_str(&text),
                Err(_) => serializer.collect_str(&date.timestamp_millis()),
            },
            Bson::Binary(binary) => match (binary.subtype, uuid::Uuid::from_slice(&binary.bytes)) {
                (BinarySubtype::Uuid, Ok(uuid)) => serializer.collect_str(&uuid),
                // As Postgres prints bytea.
                _ => {
                    let hex: String = binary.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    serializer.collect_str(&format_args!("\\x{hex}"))
                }
            },
            Bson::ObjectId(id) => serializer.serialize_str(&id.to_hex()),
            // Decimals, NaN and the infinities; nothing else is ever made from a value of Postgres.
            other => serializer.collect_str(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{Binary, DateTime, doc};

    #[test]
    fn reads_as_text() {
        let uuid: uuid::Uuid = "0190f1e0-0000-8000-8000-00000000002a".parse().unwrap();
        let bytes = |subtype, bytes: &[u8]| Binary { subtype, bytes: bytes.to_vec() };
        let decimal: mongodb::bson::Decimal128 = "1.50".parse().unwrap();
        let document = doc! {
            "_id": bytes(BinarySubtype::Uuid, uuid.as_bytes()),
            "a": { "z": [1, 2_i64, 2.5, f64::NAN, decimal], "b": true, "n": null },
            "date": DateTime::from_millis(1_700_000_000_123),
            "oid": ObjectId::parse_str("0190f1e00000800000002a00").unwrap(),
            "bytea": bytes(BinarySubtype::Generic, &[0, 255]),
        };
        assert_eq!(
            serde_json::to_string(&Plain(&Bson::Document(document))).unwrap(),
            "{\"_id\":\"0190f1e0-0000-8000-8000-00000000002a\",\
             \"a\":{\"z\":[1,2,2.5,\"NaN\",\"1.50\"],\"b\":true,\"n\":null},\
             \"date\":\"2023-11-14T22:13:20.123Z\",\"oid\":\"0190f1e00000800000002a00\",\"bytea\":\"\\\\x00ff\"}"
        );
    }
}
