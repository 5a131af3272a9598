//! What people read and what editors complete, against the lists that the reader of definitions uses.

use boon::{Compiler, Schemas};
use serde_json::Value;
use v1v2::definition::schema::schema;
use v1v2::definition::{Definitions, FILLS};
use v1v2::plan::{AccountField, AddressPart, NamePart};

const DOCUMENTATION: &str = include_str!("../docs/definitions.md");

#[test]
fn the_documentation_names_every_key() {
    for (kind, keys) in FILLS {
        assert!(DOCUMENTATION.contains(&format!("{{ {kind} = ")), "the fill {kind} is not documented");
        for key in *keys {
            assert!(DOCUMENTATION.contains(&format!("{key} = ")), "{kind}'s key {key} is not documented");
        }
    }
    let fields = AccountField::NAMES.iter().map(|(name, _, what)| (name, what));
    let of_address = AddressPart::NAMES.iter().map(|(name, _, what)| (name, what));
    let of_name = NamePart::NAMES.iter().map(|(name, _, what)| (name, what));
    for (name, what) in fields.chain(of_address).chain(of_name) {
        let row = format!("| `{name}` | {what} |");
        assert!(DOCUMENTATION.contains(&row), "docs/definitions.md lacks the row\n{row}");
    }
}

#[test]
fn the_schema_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/definitions.schema.json");
    let text = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).is_ok_and(|written| written == text),
        "config/definitions.schema.json is out of date; make it again with\n\
         UPDATE_SCHEMA=1 cargo test --test all the_schema_is_up_to_date"
    );
}

/// Whether the schema accepts a file.
fn accepts(text: &str) -> bool {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("definitions.schema.json", schema()).unwrap();
    let index = compiler.compile("definitions.schema.json", &mut schemas).unwrap();
    let document: Value = toml::from_str(text).unwrap();
    schemas.validate(&document, index).is_ok()
}

#[test]
fn the_schema_accepts_what_the_reader_accepts() {
    let mut texts: Vec<String> =
        Definitions::load(None).unwrap().files.into_iter().map(|file| file.text).collect();
    assert_eq!(texts.len(), 5);
    let blocks = DOCUMENTATION.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    texts.extend(blocks.map(str::to_owned));
    assert_eq!(texts.len(), 9, "the documentation has four files, three of them one example");
    texts.push("disabled = true".to_owned());
    for text in &texts {
        assert!(
            Definitions::from_texts(&[("x.toml", text)])
                .problems
                .iter()
                .all(|p| p.message.contains("has no"))
        );
        assert!(accepts(text), "{text}");
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses_of_documents() {
    let head = "entity = \"things\"\n[source]\nkey = \"id\"\nquery = \"select 1 as id, '' as a\"\n[[mongodb]]\ncollection = \"things\"\n";
    let embed = "[mongodb.fields]\n[[mongodb.embed]]\nfield = \"xs\"\neach = \"a\"\n";
    for wrong in [
        "[mongodb.fields]\nx = { value = 1, null = true }".to_owned(),
        "[mongodb.fields]\nx = { account = \"email\", null = 1 }".to_owned(),
        "per = \"account\"\n[mongodb.fields]\n".to_owned(),
        embed.to_owned(),
        embed.replace("each = \"a\"", "") + "[mongodb.embed.fields]\n",
        format!("{embed}per = \"role\"\n[mongodb.embed.fields]\n"),
    ] {
        let text = format!("{head}{wrong}");
        assert!(!Definitions::from_texts(&[("things.toml", &text)]).problems.is_empty(), "{wrong}");
        assert!(!accepts(&text), "{wrong}");
    }
    let accounts = "[account]\nphone_region = \"NG\"\n";
    for wrong in [
        "ids = \"keep\"\n",
        "[[mongodb]]\ncollection = \"users\"\n[mongodb.fields]\n",
        "[[mongodb]]\ncollection = \"users\"\nper = \"account\"\n[mongodb.fields]\n[[mongodb.embed]]\nfield = \"roles\"\nper = \"account\"\n[mongodb.embed.fields]\n",
    ] {
        let text = format!("{accounts}{wrong}");
        assert!(!Definitions::from_texts(&[("accounts.toml", &text)]).problems.is_empty(), "{wrong}");
        assert!(!accepts(&text), "{wrong}");
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let head = "entity = \"things\"\n[source]\nkey = \"id\"\nquery = \"select 1 as id, '' as a\"\n[[postgres]]\ntable = \"thing\"\n";
    for wrong in [
        "eech = \"a\"\n[postgres.columns]\n",
        "[postgres.columns]\nx = { address = \"a\" }",
        "[postgres.columns]\nx = { address = \"a\", part = \"first\" }",
        "[postgres.columns]\nx = { name = \"a\", part = \"frist\" }",
        "[postgres.columns]\nx = { email = \"a\", part = \"first\" }",
        "[postgres.columns]\nx = { lookup = \"t\", key = \"a\" }",
        "[postgres.columns]\nx = { account = \"mail\" }",
        "[postgres.columns]\nx = 5",
    ] {
        let text = format!("{head}{wrong}");
        assert!(!Definitions::from_texts(&[("things.toml", &text)]).problems.is_empty(), "{wrong}");
        assert!(!accepts(&text), "{wrong}");
    }
    let accounts = "[account]\nphone_region = \"NG\"\n[policies]\nsame_phone = \"merge\"\n";
    assert!(!Definitions::from_texts(&[("accounts.toml", accounts)]).problems.is_empty());
    assert!(!accepts(accounts));
}
