use std::collections::BTreeMap;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, RawDocument, bson, oid::ObjectId};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// What a value becomes, as the driver reads it.
fn read(kind: &BsonKind, text: &str) -> Result<Bson, Fault> {
    let mut copied = Vec::new();
    row::escape_into(&mut copied, text);
    let mut writer = Writer::default();
    writer.begin(0);
    writer.key("before")?;
    writer.int(1);
    writer.key("value")?;
    write_field(&mut writer, kind, &copied)?;
    writer.key("after")?;
    writer.int(2);
    let document = RawDocument::from_bytes(writer.finish()?).unwrap();
    let mut document = Document::try_from(document).unwrap();
    assert_eq!(document.keys().collect::<Vec<_>>(), ["before", "value", "after"]);
    Ok(document.remove("value").unwrap())
}

fn binary(subtype: BinarySubtype, bytes: &[u8]) -> Bson {
    Bson::Binary(Binary { subtype, bytes: bytes.to_vec() })
}

fn array_of(kind: BsonKind) -> BsonKind {
    BsonKind::Array(Box::new(kind))
}

#[test]
fn every_kind_has_its_type() {
    let id = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let cases = [
        (BsonKind::Bool, "t", Bson::Boolean(true)),
        (BsonKind::Bool, "f", Bson::Boolean(false)),
        (BsonKind::Bool, "false", Bson::Boolean(false)),
        (BsonKind::Int, "-7", Bson::Int32(-7)),
        (BsonKind::Long, "9223372036854775807", Bson::Int64(i64::MAX)),
        (BsonKind::Double, "0.1", Bson::Double(0.1)),
        (BsonKind::Double, "-Infinity", Bson::Double(f64::NEG_INFINITY)),
        (BsonKind::Decimal, "12.50", Bson::Decimal128("12.50".parse().unwrap())),
        (BsonKind::Date, "2024-02-29", Bson::DateTime(DateTime::from_millis(1_709_164_800_000))),
        (BsonKind::Text, "tab\tline\nback\\slash é \0", Bson::String("tab\tline\nback\\slash é \0".into())),
        (BsonKind::Text, "", Bson::String(String::new())),
        (BsonKind::Uuid, "01234567-89ab-cdef-0123-456789abcdef", binary(BinarySubtype::Uuid, id.as_bytes())),
        (
            BsonKind::ObjectId,
            "0123456789ABcdef01234567",
            Bson::ObjectId(ObjectId::parse_str("0123456789abcdef01234567").unwrap()),
        ),
        (BsonKind::Binary, "\\x00ff7F", binary(BinarySubtype::Generic, &[0, 255, 127])),
        (BsonKind::Binary, "\\x", binary(BinarySubtype::Generic, &[])),
        (BsonKind::Json, " [1, {\"a\": \"\\u00e9\\n\"}] ", bson!([1, { "a": "é\n" }])),
        (array_of(BsonKind::Int), "{1,NULL,3}", bson!([1, null, 3])),
        (
            array_of(BsonKind::Binary),
            r#"{"\\x01",NULL}"#,
            Bson::Array(vec![binary(BinarySubtype::Generic, &[1]), Bson::Null]),
        ),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(read(&kind, text), Ok(expected), "{kind:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let no = Fault::NoValue;
    for (kind, text, fault) in [
        (BsonKind::Bool, "maybe", no("boolean")),
        (BsonKind::Int, "2147483648", Fault::Precision),
        (BsonKind::Int, "1.5", Fault::Precision),
        (BsonKind::Long, "", no("number")),
        (BsonKind::Double, "12345678901234567890", Fault::Precision),
        (BsonKind::Decimal, "1e9999", Fault::Precision),
        (BsonKind::Date, "infinity", Fault::DateRange),
        (BsonKind::Uuid, "clx12", no("uuid")),
        (BsonKind::ObjectId, "0123456789abcdef0123456", no("ObjectId")),
        (BsonKind::ObjectId, "0123456789abcdef012345678", no("ObjectId")),
        (BsonKind::ObjectId, "0123456789abcdef0123456g", no("ObjectId")),
        (BsonKind::Binary, "abc", no("bytea")),
        (BsonKind::Binary, "\\x0", no("bytea")),
        (BsonKind::Binary, "\\x0g", no("bytea")),
        (array_of(BsonKind::Int), "{1,x}", no("number")),
    ] {
        assert_eq!(read(&kind, text), Err(fault), "{kind:?}");
    }
}

#[test]
fn rejects_name_the_place_and_no_value() {
    let reject = Fault::DateRange.reject("people.birth.date");
    assert_eq!(reject.code, "bson-date-range");
    assert_eq!(reject.reason, "people.birth.date: the date is infinite, or its year is not from 1 to 9999");
    let reject = Fault::NoValue("uuid").reject("people._id");
    assert_eq!(reject.reason, "people._id: the text is no uuid that BSON can hold");
}

#[test]
fn numbers_of_json_keep_their_value() {
    let number = |text: &str| read(&BsonKind::Json, text);
    assert_eq!(number("2147483647"), Ok(Bson::Int32(i32::MAX)));
    assert_eq!(number("2147483648"), Ok(Bson::Int64(2_147_483_648)));
    assert_eq!(number("0.1"), Ok(Bson::Double(0.1)));
    assert_eq!(number("1e2"), Ok(Bson::Double(100.0)));
    assert_eq!(number("12345678901234567890"), Ok(Bson::Decimal128("12345678901234567890".parse().unwrap())));
    assert_eq!(
        number("0.12345678901234567890"),
        Ok(Bson::Decimal128("0.12345678901234567890".parse().unwrap()))
    );
    assert_eq!(number(&"1".repeat(35)), Err(Fault::Precision));
    assert_eq!(number("-"), Err(Fault::NoValue("JSON")));
}

#[test]
fn keys_of_json_are_plain_names() {
    for text in
        [r#"{"$set":1}"#, r#"{"a.b":1}"#, r#"{"a\u0000":1}"#, r#"[{"a":1,"b":2,"a":3}]"#, r#"{"\u0024a":1}"#]
    {
        assert_eq!(read(&BsonKind::Json, text), Err(Fault::JsonKey), "{text}");
    }
    let text = r#"{"b":{"a":1,"b":2},"a":{"b":"$a.b\u0000"},"":0,"c$":[]}"#;
    let expected = bson!({ "b": { "a": 1, "b": 2 }, "a": { "b": "$a.b\0" }, "": 0, "c$": [] });
    assert_eq!(read(&BsonKind::Json, text), Ok(expected));
}

#[test]
fn malformed_json_is_refused() {
    for text in [
        "",
        "{",
        "[1,",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "nul",
        "1 2",
        "\"a",
        "\"\\x\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\\u12\"",
        "\"\\u12é\"",
        "{a:1}",
    ] {
        assert_eq!(read(&BsonKind::Json, text), Err(Fault::NoValue("JSON")), "{text}");
    }
    assert_eq!(read(&BsonKind::Json, "\"\\ud83d\\ude00\""), Ok(Bson::String("\u{1f600}".into())));
}

#[test]
fn nesting_has_a_limit() {
    let json = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&BsonKind::Json, &json(99)).is_ok());
    assert_eq!(read(&BsonKind::Json, &json(100)), Err(Fault::Nesting));
    assert_eq!(read(&BsonKind::Json, &"[".repeat(1_000_000)), Err(Fault::Nesting));
    assert_eq!(read(&array_of(BsonKind::Int), &"{".repeat(1_000_000)), Err(Fault::Nesting));
}

#[test]
fn a_few_megabytes_of_json_do_not_become_gigabytes() {
    let text = format!("[{}1]", "1,".repeat(4_000_000));
    assert_eq!(read(&BsonKind::Json, &text), Err(Fault::Size));
}

#[test]
fn arrays_nest_and_lose_their_bounds() {
    let text = array_of(BsonKind::Text);
    assert_eq!(read(&array_of(BsonKind::Int), "{{1,2},{NULL,4}}"), Ok(bson!([[1, 2], [null, 4]])));
    assert_eq!(read(&array_of(BsonKind::Int), "[0:1][-1:0]={{1,2},{3,4}}"), Ok(bson!([[1, 2], [3, 4]])));
    assert_eq!(read(&text, "{}"), Ok(bson!([])));
    assert_eq!(read(&text, r#"{"",a b,"NULL","{=","\"\\"}"#), Ok(bson!(["", "a b", "NULL", "{=", "\"\\"])));
    assert_eq!(read(&text, "{[a=b,c}"), Ok(bson!(["[a=b", "c"])));
    assert_eq!(read(&array_of(array_of(BsonKind::Int)), r#"{"{1,2}","{3}"}"#), Ok(bson!([[1, 2], [3]])));
    assert_eq!(read(&array_of(BsonKind::Json), r#"{"{\"a\": [1]}",2}"#), Ok(bson!([{ "a": [1] }, 2])));
    for malformed in [
        "", "a", "{", "{a", "{a,", "{a,}", "{,a}", "{a}b", "{\"a}", "{\"a\"b}", "{a\"b\"}", "{{a}", "{a\\}",
        "{\"\\",
    ] {
        assert_eq!(read(&text, malformed), Err(Fault::NoValue("array")), "{malformed}");
    }
}

fn kinds() -> impl Strategy<Value = BsonKind> {
    let scalar = prop_oneof![
        Just(BsonKind::Bool),
        Just(BsonKind::Int),
        Just(BsonKind::Long),
        Just(BsonKind::Double),
        Just(BsonKind::Decimal),
        Just(BsonKind::Date),
        Just(BsonKind::Text),
        Just(BsonKind::Uuid),
        Just(BsonKind::ObjectId),
        Just(BsonKind::Binary),
        Just(BsonKind::Json),
    ];
    scalar.prop_recursive(2, 3, 1, |inner| inner.prop_map(array_of))
}

/// As Postgres writes it, quoting everything.
fn array_text(elements: &[Option<String>]) -> String {
    let element = |element: &Option<String>| match element {
        None => "NULL".to_owned(),
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    format!("{{{}}}", elements.iter().map(element).collect::<Vec<_>>().join(","))
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("[a-zé \"\\\\]{0,4}", inner, 0..6)
                .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
        ]
    })
}

fn expected(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(*value),
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(values) => Bson::Array(values.iter().map(expected).collect()),
        Value::Object(map) => {
            Bson::Document(map.iter().map(|(key, value)| (key.clone(), expected(value))).collect())
        }
        Value::Number(number) => match number.as_i64() {
            Some(whole) => i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32),
            None => Bson::Double(number.as_f64().unwrap()),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_text_is_a_value_or_a_fault(
        kind in kinds(),
        text in prop_oneof![any::<String>(), r#"[{}\[\]",:\\0-9aeflnrstuxETZ+.\- =é]{0,40}"#, r#"[\[{]?[{"0-9nul,:}\]\\]{0,12}"#],
    ) {
        // What is written must be whole: `read` has the driver read all of it.
        drop(read(&kind, &text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_a_value_or_a_fault(kind in kinds(), field in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut writer = Writer::default();
        writer.begin(0);
        writer.key("a").unwrap();
        if write_field(&mut writer, &kind, &field).is_ok() {
            let raw = RawDocument::from_bytes(writer.finish().unwrap()).unwrap();
            prop_assert!(Document::try_from(raw).is_ok());
        }
    }

    #[test]
    fn numbers_come_back(int in any::<i32>(), long in any::<i64>(), bits in any::<u64>()) {
        prop_assert_eq!(read(&BsonKind::Int, &int.to_string()), Ok(Bson::Int32(int)));
        prop_assert_eq!(read(&BsonKind::Long, &long.to_string()), Ok(Bson::Int64(long)));
        let double = f64::from_bits(bits);
        prop_assume!(double.is_finite());
        prop_assert_eq!(read(&BsonKind::Double, &double.to_string()), Ok(Bson::Double(double)));
    }

    #[test]
    fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..100), id in any::<u128>()) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(read(&BsonKind::Binary, &format!("\\x{hex}")), Ok(binary(BinarySubtype::Generic, &bytes)));
        let id = uuid::Uuid::from_u128(id);
        prop_assert_eq!(read(&BsonKind::Uuid, &id.to_string()), Ok(binary(BinarySubtype::Uuid, id.as_bytes())));
    }

    #[test]
    fn texts_and_their_arrays_come_back(elements in proptest::collection::vec(proptest::option::of(any::<String>()), 0..8)) {
        let values = elements.iter().map(|element| element.clone().map_or(Bson::Null, Bson::String)).collect();
        let text = array_text(&elements);
        prop_assert_eq!(read(&array_of(BsonKind::Text), &text), Ok(Bson::Array(values)));
        prop_assert_eq!(row::elements(&text), elements.clone());
        for text in elements.into_iter().flatten() {
            prop_assert_eq!(read(&BsonKind::Text, &text), Ok(Bson::String(text)));
        }
    }

    #[test]
    fn agrees_with_serde_json(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(read(&BsonKind::Json, &text), Ok(expected(&value)));
    }

    #[test]
    fn keys_that_are_there_twice_are_found(keys in proptest::collection::vec("[a-c]{1,2}", 0..6)) {
        let fields: Vec<String> = keys.iter().map(|key| format!("\"{key}\":1")).collect();
        let distinct: BTreeMap<_, _> = keys.iter().map(|key| (key, 1)).collect();
        let read = read(&BsonKind::Json, &format!("{{{}}}", fields.join(",")));
        prop_assert_eq!(read.is_ok(), distinct.len() == keys.len());
    }
}
