//! Values that BSON holds, and those that it does not: each bad row alone, with its code.

use mongodb::bson::{Bson, doc};

use super::{Job, text};

const THINGS: &str = r#"
entity = "things"
[source]
key = "id"
query = "select id, day, moment, amount, loose, strict, label, bytes, whole, real, flags, tags, days from thing"
[[mongodb]]
collection = "things"
[mongodb.fields]
_id = { id = true }
day = "day"
"when.moment" = "moment"
amount = "amount"
loose = "loose"
strict = "strict"
label = "label"
bytes = "bytes"
whole = "whole"
real = "real"
flags = "flags"
tags = "tags"
days = "days"
"#;

/// A V1 of things of every type, over the sample that the other definitions need.
pub fn things(rows: &str) -> Job {
    let job = Job::new(20, &[]);
    job.v1.execute(
        "create table thing (id integer primary key, day date, moment timestamptz, amount numeric, loose json, strict jsonb, \
         label text, bytes bytea, whole bigint, real double precision, flags boolean[], tags text[], days date[])",
    );
    job.v1.execute(rows);
    job.v2.run(doc! { "create": "things" });
    job.project.write("mine/things.toml", THINGS);
    job
}

const BAD: &[(&str, &str, &str)] = &[
    ("day", "'infinity'", "bson-date-range"),
    ("day", "'0044-03-15 BC'", "bson-date-range"),
    ("day", "'10000-01-01'", "bson-date-range"),
    ("moment", "'-infinity'", "bson-date-range"),
    ("moment", "'294276-12-31 23:59:59Z'", "bson-date-range"),
    ("moment", "'9999-12-31 23:59:59-12'", "bson-date-range"),
    ("days", "'{2020-01-01,infinity}'", "bson-date-range"),
    ("amount", "12345678901234567890123456789012345678901234567890", "bson-number-precision"),
    ("amount", "0.12345678901234567890123456789012345", "bson-number-precision"),
    ("strict", "'{\"$where\": 1}'", "bson-json-key"),
    ("strict", "'{\"a\": [{\"b.c\": 1}]}'", "bson-json-key"),
    ("loose", "'{\"a\": 1, \"a\": 2}'", "bson-json-key"),
    ("loose", "'{\"a\\u0000b\": 1}'", "bson-json-key"),
    ("loose", "'[\"\\ud800\"]'", "bson-value"),
    ("loose", "(repeat('[', 120) || repeat(']', 120))::json", "bson-nesting"),
    ("label", "repeat('x', 17000000)", "bson-document-size"),
];

#[test]
fn each_bad_row_is_rejected_alone() {
    let job = things("insert into thing (id, label) select n, 'good ' || n from generate_series(1, 40) n");
    for (number, (column, value, _)) in BAD.iter().enumerate() {
        let id = 2 * number + 2;
        job.v1.execute(&format!("update thing set {column} = {value} where id = {id}"));
    }
    let options = ["--migrators", "mine", "--entities", "things"];
    let dry = job.run(&[&["migrate", "--dry-run"], &options[..]].concat()).expect(3);
    assert!(dry.stdout.contains("bson-json-key"), "{}", dry.stdout);
    job.migrate(&options, 3);
    let codes =
        BAD.iter().enumerate().map(|(number, (_, _, code))| format!("things {} {code}", 2 * number + 2));
    assert_eq!(job.rejected(), codes.collect::<Vec<_>>());
    assert_eq!(job.count("things"), 40 - BAD.len() as u64);
    for line in job.v2.find("v1v2_ledger", doc! { "outcome": "r" }) {
        let reason = text(line.get("reason"));
        let path = if reason.starts_with("things.when.moment: ") { "moment" } else { "" };
        let column =
            BAD[text(line.get_document("_id").unwrap().get("k")).parse::<usize>().unwrap() / 2 - 1].0;
        let names_it = reason.starts_with(&format!("things.{column}: ")) || path == column;
        assert!(names_it || reason.starts_with("things: "), "{column}: {reason}");
        assert!(!reason.contains("1234") && !reason.contains("where") && !reason.contains("xx"), "{reason}");
    }
    job.run(&["validate", "--migrators", "mine"]).expect(0);
    // The largest row is repaired, and comes alone.
    job.v1.execute("update thing set label = 'short' where length(label) > 1000");
    job.migrate(&[&options[..], &["--retry-rejected"]].concat(), 3);
    assert_eq!(job.v2.one("things", doc! { "label": "short" }).len(), 2);
    assert_eq!(job.rejected().len(), BAD.len() - 1);
}

#[test]
fn what_bson_holds_arrives_with_its_type() {
    let job = things(
        "insert into thing values (1, '2024-02-29', '0001-01-01 00:00:00.123456Z', 1.50, '{\"b\":[1,2.5,null,\"\\u00e9\\u0000\"]}', \
         '{\"n\": 12345678901, \"e\": 1.10}', E'a\\\\b\\tc\\nd\\u00e9', '\\x00ff', -9223372036854775808, 'NaN', \
         '{t,f,NULL}', '{\"a,b\",\"\",\"NULL\",NULL}', '[0:1]={9999-12-31,1969-12-31}'), \
         (2, null, null, null, 'null', 'null', '', '', null, '-infinity', '{}', '{{a,b},{c,d}}', null)",
    );
    job.migrate(&["--migrators", "mine", "--entities", "things"], 0);
    let things = job.v2.find("things", doc! {});
    let date = |text: &str| Bson::DateTime(mongodb::bson::DateTime::parse_rfc3339_str(text).unwrap());
    let decimal: mongodb::bson::Decimal128 = "1.50".parse().unwrap();
    let bytes = |bytes: &[u8]| {
        Bson::Binary(mongodb::bson::Binary {
            subtype: mongodb::bson::spec::BinarySubtype::Generic,
            bytes: bytes.to_vec(),
        })
    };
    let mut first = things[0].clone();
    assert!(matches!(first.remove("real"), Some(Bson::Double(real)) if real.is_nan()));
    first.remove("_id");
    assert_eq!(
        first,
        doc! {
            "day": date("2024-02-29T00:00:00Z"), "when": { "moment": date("0001-01-01T00:00:00.123Z") }, "amount": decimal,
            "loose": { "b": [1, 2.5, null, "é\0"] }, "strict": { "e": 1.1, "n": 12_345_678_901_i64 }, "label": "a\\b\tc\ndé",
            "bytes": bytes(&[0, 255]), "whole": i64::MIN, "flags": [true, false, null],
            "tags": ["a,b", "", "NULL", null], "days": [date("9999-12-31T00:00:00Z"), date("1969-12-31T00:00:00Z")],
        }
    );
    let mut second = things[1].clone();
    second.remove("_id");
    assert_eq!(
        second,
        doc! {
            "loose": null, "strict": null, "label": "", "bytes": bytes(&[]), "real": f64::NEG_INFINITY, "flags": [],
            "tags": [["a", "b"], ["c", "d"]],
        }
    );
    // What is absent and what is null are told apart from a rollback's point of view, too.
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.count("things"), 0);
}

#[test]
fn a_chunk_may_be_larger_than_a_message() {
    let job = things(
        "insert into thing (id, label) select n, repeat(chr(64 + n), 1000000) from generate_series(1, 40) n",
    );
    let options = ["--migrators", "mine", "--entities", "things", "--batch-size", "100000", "--writers", "1"];
    let project = job.project.env("V1V2_BATCH_BYTES", "100MiB");
    let job = Job { project, ..job };
    job.migrate(&options, 0);
    assert_eq!(job.count("things"), 40);
    let longest = doc! { "$expr": { "$eq": [{ "$strLenBytes": "$label" }, 1_000_000] } };
    assert_eq!(job.v2.count("things", longest), 40);
    let fence = job.v2.one("v1v2_runs", doc! {});
    assert_eq!(text(fence.get("state")), "done");
    job.run(&["rollback", "--force", "--migrators", "mine"]).expect(0);
    assert_eq!(job.count("things"), 0);
}

#[test]
fn kept_whole_numbers_are_numbers_in_v2_and_in_the_ledger() {
    let rows = "insert into thing (id, label) select n, 'thing ' || n from generate_series(-3, 25) n";
    let job = things(rows);
    job.project.write("mine/things.toml", &THINGS.replace("[source]", "ids = \"keep\"\n[source]"));
    let options = ["--migrators", "mine", "--entities", "things", "--batch-size", "4"];
    job.migrate(&[&options[..], &["--filter", "things:id between 2 and 9"]].concat(), 0);
    assert_eq!(job.count("things"), 8);
    job.migrate(&options, 0);
    let ids = |collection: &str, of: fn(&mongodb::bson::Document) -> Option<&Bson>| {
        let documents = job.v2.find(collection, doc! {});
        documents.iter().map(|document| of(document).cloned().unwrap()).collect::<Vec<_>>()
    };
    let expected: Vec<Bson> = (-3..=25).map(Bson::Int32).collect();
    assert_eq!(ids("things", |document| document.get("_id")), expected);
    let expected: Vec<Bson> = (-3..=25).map(Bson::Int64).collect();
    assert_eq!(ids("v1v2_ledger", |line| line.get_document("_id").unwrap().get("k")), expected);
    let before = job.whole();
    job.migrate(&options, 0);
    assert_eq!(job.whole(), before);
    job.run(&["validate", "--compare-counts", "--migrators", "mine"]).expect(4);
    job.v1.execute("update thing set id = 100 where id = 9");
    let found =
        job.run(&["migrate", "--dry-run", "--json", "--migrators", "mine", "--entities", "things"]).expect(0);
    let things = found.result("migrate")["entities"][0].clone();
    assert_eq!([&things["already"], &things["gone"], &things["migrated"]], [28, 1, 1]);
    // The run after it had nothing to do.
    job.project.roll_back_next(&["--migrators", "mine"]);
    assert_eq!(job.count("things"), 8, "the first run's stay");
}
