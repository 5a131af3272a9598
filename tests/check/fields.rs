//! Each rule about documents with values alone: a definition, what V1 says of its query, and a validator.

use std::collections::{BTreeMap, HashMap};

use mongodb::bson::{Document, doc};
use v1v2::catalog::{Catalog, Collection, Collections, Covers, Index, Shape, Type, TypeKind};
use v1v2::definition::Definitions;
use v1v2::plan::{
    BsonKind, Codes, Described, DescribedColumn, Fill, Inputs, KeyFrom, Missing, Origin, Plan,
    Shape as QueryShape, V2, When, check,
};

fn data_type(name: &str) -> Type {
    if let Some(element) = name.strip_suffix("[]") {
        let kind = TypeKind::Array(Box::new(data_type(element)));
        return Type { name: name.to_owned(), category: 'A', kind };
    }
    match name {
        "color" => {
            let labels = ["RED", "MAUVE"].map(str::to_owned).to_vec();
            Type { name: name.to_owned(), category: 'E', kind: TypeKind::Enum(labels) }
        }
        "text" => Catalog::built_in(name, 'S'),
        _ => Catalog::built_in(name, 'X'),
    }
}

/// What V1 says of a query with these columns, the first of them the key.
fn described(columns: &[(&str, &str)]) -> Described {
    let key = Origin { table: 1, not_null: true, unique: true };
    let columns = columns.iter().zip(0..).map(|((name, of), index)| DescribedColumn {
        name: (*name).to_owned(),
        data_type: data_type(of),
        origin: (index == 0).then_some(key),
    });
    Described { columns: columns.collect(), shape: QueryShape::Whole, forbidden: Vec::new() }
}

const COLUMNS: &[(&str, &str)] = &[
    ("id", "text"),
    ("name", "text"),
    ("age", "integer"),
    ("count", "bigint"),
    ("price", "numeric"),
    ("color", "color"),
    ("born", "date"),
    ("tags", "text[]"),
    ("numbers", "bigint[]"),
    ("extra", "jsonb"),
];

/// A V2 with the collections `things` (under this validator) and `kinds`.
pub(super) fn collections(schema: Document) -> Collections {
    let things =
        Collection { validator: Some(Shape::of(&schema).0), enforced: true, ..Collection::default() };
    let code =
        Index { name: "code_1".to_owned(), keys: vec!["code".to_owned()], unique: true, ..Index::default() };
    let kinds =
        Collection { indexes: vec![code], first_id: Some(BsonKind::ObjectId), ..Collection::default() };
    Collections {
        database: "shop".to_owned(),
        listed: true,
        collections: BTreeMap::from([("things".to_owned(), things), ("kinds".to_owned(), kinds)]),
        ..Collections::default()
    }
}

pub(super) const HEAD: &str = "entity = \"things\"\n[source]\nkey = \"id\"\nquery = \"select 1\"\n[[mongodb]]\ncollection = \"things\"\n";

/// The plan of one entity, or its problems as text.
pub(super) fn judge(text: &str, v2: &Collections) -> Result<Plan, String> {
    let accounts = "builtin = false\n[account]\nphone_region = \"NG\"\n";
    let definitions = Definitions::from_texts(&[("accounts.toml", accounts), ("things.toml", text)]);
    let sources = [Some(Ok(described(COLUMNS)))];
    let codes: Codes = HashMap::new();
    let inputs = Inputs {
        definitions: &definitions,
        sources: &sources,
        v1_user: "me",
        v2: V2::MongoDb(v2),
        codes: &codes,
    };
    check(&inputs).map_err(|problems| definitions.render(&problems))
}

/// As [`judge`], of these fields under this validator.
pub(super) fn fields(fields: &str, schema: Document) -> Result<Plan, String> {
    judge(&format!("{HEAD}[mongodb.fields]\n_id = {{ id = true }}\n{fields}"), &collections(schema))
}

/// The validator with one property.
fn property(name: &str, of: Document) -> Document {
    doc! { "properties": { name: of } }
}

/// What the field `x` becomes.
fn kind_of(fill: &str, of: Document) -> Result<BsonKind, String> {
    let plan = fields(&format!("x = {fill}\n"), property("x", of))?;
    let columns = &plan.entities[0].writes[0].columns;
    Ok(columns.iter().find(|column| column.name == "x").unwrap().bson.clone().unwrap().kind)
}

/// The one problem, which must say this.
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, String>, says: &[&str]) {
    let text = result.expect_err("must be refused");
    assert_eq!(text.matches('×').count(), 1, "{text}");
    for part in says {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_validator_that_says_nothing_takes_everything_as_it_is() {
    let all = "name = \"name\"\n\"deep.down.age\" = \"age\"\nborn = \"born\"\ntags = \"tags\"\nextra = \"extra\"\nfixed = { value = 5 }\nat = { now = true }\n";
    let plan = fields(all, doc! {}).unwrap_or_else(|text| panic!("{text}"));
    let write = &plan.entities[0].writes[0];
    assert_eq!(
        (write.table.schema.as_str(), write.table.name.as_str(), write.when),
        ("", "things", When::Row)
    );
    let kinds: Vec<(&str, BsonKind)> = write
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.bson.clone().unwrap().kind))
        .collect();
    use BsonKind::{Array, Date, Int, Json, Text, Uuid};
    let expected = [
        ("_id", Uuid),
        ("name", Text),
        ("deep.down.age", Int),
        ("born", Date),
        ("tags", Array(Box::new(Text))),
        ("extra", Json),
        ("fixed", Int),
        ("at", Date),
    ];
    assert_eq!(kinds, expected);
    assert!(write.columns.iter().all(|column| !column.bson.as_ref().unwrap().null));
}

#[test]
fn types_follow_the_validator_without_loss() {
    let of = |name: &str| doc! { "bsonType": name };
    assert_eq!(kind_of("\"age\"", of("long")), Ok(BsonKind::Long));
    assert_eq!(kind_of("\"age\"", of("double")), Ok(BsonKind::Double));
    assert_eq!(kind_of("\"count\"", of("decimal")), Ok(BsonKind::Decimal));
    let longs = doc! { "bsonType": "array", "items": { "bsonType": "long" } };
    assert_eq!(kind_of("\"numbers\"", longs.clone()), Ok(BsonKind::Array(Box::new(BsonKind::Long))));
    refused(
        kind_of("\"count\"", of("int")),
        &["bigint does not fit V2's things.x, which is int", "`…::integer`"],
    );
    refused(kind_of("\"born\"", of("string")), &["date does not fit", "`…::text`"]);
    refused(kind_of("\"tags\"", longs), &["text[] does not fit", "array of long", "`…::bigint[]`"]);
    refused(kind_of("\"tags\"", of("string")), &["write the array to a field that is one"]);
    refused(kind_of("{ email = \"name\" }", of("int")), &["write it to a field of type string"]);
    refused(kind_of("{ now = true }", of("string")), &["let the validator accept date"]);
}

#[test]
fn constants_are_read_as_the_field_wants_them() {
    assert_eq!(kind_of("{ value = true }", doc! {}), Ok(BsonKind::Bool));
    assert_eq!(kind_of("{ value = \"5\" }", doc! {}), Ok(BsonKind::Text));
    assert_eq!(kind_of("{ value = \"5\" }", doc! { "bsonType": "long" }), Ok(BsonKind::Long));
    assert_eq!(kind_of("{ value = 5000000000 }", doc! {}), Ok(BsonKind::Long));
    refused(
        kind_of("{ value = \"five\" }", doc! { "bsonType": "int" }),
        &["`five` is no int (V2's things.x)"],
    );
    let colors = doc! { "enum": ["RED", "BLUE"] };
    assert_eq!(kind_of("{ value = \"RED\" }", colors.clone()), Ok(BsonKind::Text));
    refused(kind_of("{ value = \"BLU\" }", colors.clone()), &["none of the values", "did you mean `BLUE`?"]);
    // Labels are known beforehand; text is judged when it is written.
    refused(kind_of("\"color\"", colors.clone()), &["V2's enum lacks MAUVE (V2's things.x)"]);
    assert_eq!(kind_of("\"name\"", colors), Ok(BsonKind::Text));
    let time = fields("x = { value = 2024-05-01T10:00:00Z }\n", doc! {}).unwrap();
    assert_eq!(
        time.entities[0].writes[0].columns[1].fill,
        Fill::Constant("2024-05-01 10:00:00+00".to_owned())
    );
}

#[test]
fn fields_that_a_closed_validator_does_not_know() {
    let closed = doc! { "additionalProperties": false, "properties": { "_id": {}, "name": {
        "additionalProperties": false, "properties": { "first": {} },
    } } };
    assert!(fields("\"name.first\" = \"name\"\n", closed.clone()).is_ok());
    refused(
        fields("\"name.frist\" = \"name\"\n", closed.clone()),
        &["knows no field `name.frist`", "did you mean `name.first`?"],
    );
    let text = fields("nmae = \"nome\"\n", closed).expect_err("two mistakes");
    assert!(
        text.contains("did you mean `name`?") && text.contains("the query has no column `nome`"),
        "{text}"
    );
}

#[test]
fn fields_that_a_validator_requires() {
    let schema = || {
        doc! { "required": ["_id", "name", "age"], "properties": {
            "name": { "required": ["first"], "properties": { "first": {} } },
            "address": { "required": ["raw"], "properties": { "raw": {} } },
        } }
    };
    refused(
        fields("\"name.last\" = \"name\"\n", schema()),
        &["nothing fills age, name.first of things, which its validator requires", "add a line such as"],
    );
    let plan =
        fields("\"name.first\" = { name = \"name\", part = \"first\" }\nage = \"age\"\n", schema()).unwrap();
    assert_eq!(
        plan.notes,
        [
            "things: what fills things.name.first may be null, which V2 forbids; such rows will be rejected",
            "things: nothing inside things.name may be there, which V2 requires; such rows will be rejected",
        ]
    );
    let name = |column: &&v1v2::plan::Column| column.name == "name.first";
    assert!(plan.entities[0].writes[0].columns.iter().find(name).unwrap().not_null);
    // The whole object at once, from JSON.
    assert!(fields("name = \"extra\"\nage = \"age\"\n", schema()).is_ok());
}

#[test]
fn null_only_where_it_is_asked_for_and_accepted() {
    let text = "x = { column = \"name\", null = true }\n";
    let plan = fields(text, doc! {}).unwrap();
    assert!(plan.entities[0].writes[0].columns[1].bson.as_ref().unwrap().null);
    assert!(fields(text, property("x", doc! { "bsonType": ["string", "null"] })).is_ok());
    refused(
        fields(text, property("x", doc! { "bsonType": "string" })),
        &["does not accept null in things.x", "leave `null = true` out"],
    );
    refused(fields("x = { value = 1, null = true }\n", doc! {}), &["{ value = … } has no key `null`"]);
    let required = doc! { "required": ["kind"] };
    let missing = "kind = { lookup = \"kinds\", by = \"code\", key = \"name\", missing = \"null\" }\n";
    refused(fields(missing, required.clone()), &["`missing = \"null\"` cannot work", "use \"reject\""]);
    assert!(fields(&missing.replace(" }", ", null = true }"), required).is_ok());
}

#[test]
fn arrays_of_keys_map_element_by_element() {
    let fill = "kinds = { lookup = \"kinds\", by = \"code\", key = \"tags\", missing = \"skip\" }\n";
    let plan = fields(fill, doc! {}).unwrap();
    let column = &plan.entities[0].writes[0].columns[1];
    let tags = KeyFrom::Elements(7);
    assert_eq!(column.fill, Fill::Lookup { lookup: 0, key: tags, missing: Missing::Skip });
    assert_eq!(column.bson.as_ref().unwrap().kind, BsonKind::Array(Box::new(BsonKind::ObjectId)));
    assert_eq!((plan.lookups[0].table.name.as_str(), plan.lookups[0].id.as_str()), ("kinds", "_id"));
    refused(fields(&fill.replace("tags", "name"), doc! {}), &["leaves out one of several"]);
    let uuids = doc! { "bsonType": "array", "items": { "bsonType": "binData" } };
    refused(
        fields(fill, property("kinds", uuids)),
        &["array does not fit V2's things.kinds, which is array of binData"],
    );
    refused(
        fields(&fill.replace("\"code\"", "\"name\""), doc! {}),
        &["kinds.name is not unique", "unique index"],
    );
    refused(
        fields(&fill.replace("\"kinds\"", "\"kind\""), doc! {}),
        &["V2 has no collection `kind`", "did you mean `kinds`?"],
    );
}

#[test]
fn embedded_documents() {
    let embed = "[[mongodb.embed]]\nfield = \"parts\"\neach = \"tags\"\n[mongodb.embed.fields]\ntag = { each = true }\nsize = { each = \"numbers\" }\n";
    let array = |items: Document| {
        doc! {
            "required": ["parts"], "properties": { "parts": { "bsonType": "array", "items": items } },
        }
    };
    let plan = fields(
        embed,
        array(doc! { "required": ["tag"], "properties": { "size": { "bsonType": "decimal" } } }),
    )
    .unwrap_or_else(|text| panic!("{text}"));
    let writes = &plan.entities[0].writes;
    assert_eq!(
        (writes.len(), writes[0].inside.as_deref(), writes[1].inside.as_deref()),
        (2, None, Some("parts"))
    );
    assert_eq!((writes[1].table.name.as_str(), writes[1].when), ("things", When::Each(7)));
    assert_eq!(writes[1].columns[1].bson.as_ref().unwrap().kind, BsonKind::Decimal);
    refused(
        fields(embed, array(doc! { "required": ["tag", "no"] })),
        &["nothing fills no of things.parts, which its validator requires"],
    );
    let closed = doc! { "additionalProperties": false, "properties": { "tag": {} } };
    refused(fields(embed, array(closed)), &["the validator of V2's things.parts knows no field `size`"]);
    refused(
        fields(embed, property("parts", doc! { "bsonType": "object" })),
        &["V2's things.parts is object, not an array"],
    );
}

#[test]
fn the_form_of_documents() {
    for (wrong, says) in [
        ("name.first = \"name\"\n", "stands in quotes"),
        ("\"a.\" = \"name\"\n", "cannot be the name of a field"),
        ("\"$set\" = \"name\"\n", "cannot be the name of a field"),
        ("a = \"name\"\n\"a.b\" = \"age\"\n", "`a` and `a.b` cannot both be written"),
        (
            "x = \"name\"\n[[mongodb.embed]]\nfield = \"x\"\neach = \"tags\"\n[mongodb.embed.fields]\na = { each = true }\n",
            "cannot both",
        ),
        (
            "[[mongodb.embed]]\nfield = \"x\"\n[mongodb.embed.fields]\na = \"name\"\n",
            "[[mongodb.embed]] has no `each`",
        ),
        (
            "[[mongodb.embed]]\neach = \"tags\"\n[mongodb.embed.fields]\na = \"name\"\n",
            "[[mongodb.embed]] has no `field`",
        ),
    ] {
        refused(fields(wrong, doc! {}), &[says]);
    }
    let each = HEAD.to_owned() + "each = \"tags\"\n[mongodb.fields]\n_id = { id = \"tag\" }\n";
    assert!(judge(&each, &collections(doc! {})).is_ok());
    let nested = each
        + "[[mongodb.embed]]\nfield = \"x\"\neach = \"tags\"\n[mongodb.embed.fields]\na = { each = true }\n";
    refused(judge(&nested, &collections(doc! {})), &["only a document for each row or account"]);
    let twice = HEAD.to_owned()
        + "[mongodb.fields]\n_id = { id = true }\n[[mongodb]]\ncollection = \"things\"\n[mongodb.fields]\n_id = { id = \"b\" }\n\
           [[mongodb.embed]]\nfield = \"x\"\neach = \"tags\"\n[mongodb.embed.fields]\na = { each = true }\n";
    refused(judge(&twice, &collections(doc! {})), &["several parts write `things`"]);
}

#[test]
fn every_document_has_an_id_that_is_known_beforehand() {
    let v2 = collections(doc! { "required": ["_id"] });
    let text = |fields: &str| format!("{HEAD}[mongodb.fields]\n{fields}");
    refused(judge(&text("x = \"name\"\n"), &v2), &["nothing fills `_id` of things", "`_id = { id = true }`"]);
    refused(judge(&text("_id = \"name\"\n"), &v2), &["`_id` is an id that the engine makes"]);
    let each = HEAD.to_owned() + "each = \"tags\"\n[mongodb.fields]\n_id = { id = true }\n";
    refused(judge(&each, &v2), &["differs from element to element"]);
}

#[test]
fn ids_of_several_kinds() {
    let ids = |ids: &str, of: &str| {
        let text = HEAD.replace("[source]", &format!("ids = {ids:?}\n[source]"));
        let schema = property("_id", doc! { "bsonType": of });
        let plan = judge(&format!("{text}[mongodb.fields]\n_id = {{ id = true }}\n"), &collections(schema))?;
        Ok((plan.entities[0].writes[0].columns[0].bson.clone().unwrap().kind, plan.notes))
    };
    let of = |name: &str, bson: &str| ids(name, bson).map(|(kind, _)| kind);
    assert_eq!(of("objectid", "objectId"), Ok(BsonKind::ObjectId));
    assert_eq!(of("uuid8", "binData"), Ok(BsonKind::Uuid));
    assert_eq!(of("uuid8", "string"), Ok(BsonKind::Text));
    assert_eq!(of("keep", "string"), Ok(BsonKind::Text));
    let (kind, notes) = ids("keep", "objectId").unwrap();
    assert_eq!(kind, BsonKind::ObjectId);
    assert_eq!(
        notes,
        ["things: a key that is no ObjectId does not fit things._id and its row will be rejected"]
    );
    refused(of("uuid8", "objectId"), &["write `ids = \"objectid\"`"]);
    refused(of("objectid", "binData"), &["leave `ids = \"objectid\"` out"]);
    // In Postgres there is no such type.
    let text = "entity = \"things\"\nids = \"objectid\"\n[source]\nkey = \"id\"\nquery = \"select 1\"\n[[postgres]]\ntable = \"thing\"\n[postgres.columns]\nname = \"name\"\n";
    let definitions = Definitions::from_texts(&[("things.toml", text)]);
    let (catalog, codes) = (Catalog::default(), HashMap::new());
    let sources = [Some(Ok(described(COLUMNS)))];
    let v2 = V2::Postgres(&catalog);
    let inputs = Inputs { definitions: &definitions, sources: &sources, v1_user: "me", v2, codes: &codes };
    let text = definitions.render(&check(&inputs).expect_err("no ObjectIds"));
    assert!(text.contains("only MongoDB has ObjectIds") && text.contains("things.toml:2:7"), "{text}");
}

#[test]
fn unique_indexes_and_fields_that_are_not_there() {
    let index = |keys: &[&str], covers| Index {
        name: "i".to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        unique: true,
        covers,
        ignores_case: true,
    };
    let with = |index: Index| {
        let mut v2 = collections(doc! {});
        v2.collections.get_mut("things").unwrap().indexes.push(index);
        let text = format!(
            "{HEAD}[mongodb.fields]\n_id = {{ id = true }}\nname = \"name\"\n\"call.phone\" = {{ phone = \"name\" }}\n"
        );
        judge(&text, &v2)
    };
    refused(with(index(&["legacy"], Covers::All)), &["nothing fills legacy of things, which is unique (i)"]);
    let whole = with(index(&["name"], Covers::All)).unwrap();
    assert_eq!(whole.entities[0].writes[0].uniques[0].columns, [1]);
    assert!(whole.notes.iter().any(|note| note.contains("whatever its case")), "{:?}", whole.notes);
    let maybe = with(index(&["name", "call.phone"], Covers::All)).unwrap();
    assert_eq!(maybe.entities[0].writes[0].uniques[0].columns, [1, 2]);
    let notes = maybe.notes.join("\n");
    assert!(
        notes.contains("things.call.phone may be absent") && notes.contains("are normalised to one value"),
        "{notes}"
    );
    let having = Covers::Having(vec!["call.phone".to_owned()]);
    let partial = with(index(&["name", "call.phone"], having)).unwrap();
    assert_eq!(partial.entities[0].writes[0].uniques[0].columns, [1, 2], "as SQL's unique with nulls");
    assert!(!partial.notes.iter().any(|note| note.contains("may be absent")));
    assert_eq!(with(index(&["name"], Covers::Some)).unwrap().entities[0].writes[0].uniques, []);
    assert_eq!(with(index(&["legacy"], Covers::Some)).unwrap().entities[0].writes[0].uniques, []);
}

#[test]
fn a_definition_of_the_other_kind_of_v2() {
    let text = "entity = \"things\"\n[source]\nkey = \"id\"\nquery = \"select 1\"\n[[postgres]]\ntable = \"thing\"\n[postgres.columns]\nname = \"name\"\n";
    refused(
        judge(text, &collections(doc! {})),
        &["`things` does not say what its rows become in this V2", "add a [[mongodb]] part"],
    );
}

#[test]
fn a_v2_that_is_not_prepared_or_not_shown() {
    let text = format!(
        "{HEAD}[mongodb.fields]\n_id = {{ id = true }}\nk = {{ lookup = \"kinds\", by = \"code\", key = \"name\" }}\n"
    );
    let empty = Collections { listed: true, database: "shop".to_owned(), ..Collections::default() };
    refused(judge(&text, &empty), &["none of the collections", "run `v1v2 setup` first"]);
    let user =
        v1v2::catalog::User { name: "app".to_owned(), database: "admin".to_owned(), privileges: Vec::new() };
    let closed = Collections { listed: false, user: Some(user), ..empty };
    refused(
        judge(&text, &closed),
        &[
            "V2's user app lacks privileges",
            "db.grantRolesToUser(\"app\", [{ role: \"readWrite\", db: \"shop\" }])",
        ],
    );
}
