//! Fills that normalise a source column, and the mistakes one can make with them.

use v1v2::definition::Definitions;
use v1v2::plan::{AddressPart, Fill, NamePart, Part};

use super::Pair;

const V1: &str = "create table club (id integer primary key, mail text, call text, place text, land text,
                                     chair text not null, founded date, members text[])";
const V2: &str = "create domain short as varchar(80);
                  create table society (id uuid primary key, mail text, call varchar(30), street short, land text,
                                        chair text not null, since date)";
const ACCOUNTS: &str = "builtin = false\n[account]\nphone_region = \"IE\"\n";

fn clubs(columns: &str) -> String {
    format!(
        "entity = \"clubs\"\n[source]\nkey = \"id\"\nquery = \"select * from club\"\n\
         [[postgres]]\ntable = \"society\"\n[postgres.columns]\nid = {{ id = true }}\n{columns}"
    )
}

const GOOD: &str = r#"mail = { email = "mail" }
call = { phone = "call" }
street = { address = "place", part = "line1" }
land = { address = "place", part = "country", prefer = "land" }
chair = { name = "chair", part = "last" }
"#;

#[tokio::test]
async fn any_text_column_can_be_normalised() {
    let mut pair = Pair::new(V1, V2).await;
    let text = clubs(GOOD);
    let mut compile = async |accounts: &str| {
        let files = [("accounts.toml", accounts), ("clubs.toml", &text)];
        pair.compile(&Definitions::from_texts(&files)).await.unwrap_or_else(|error| panic!("{error}"))
    };
    let plan = compile(ACCOUNTS).await;
    let fills: Vec<&Fill> = plan.entities[0].writes[0].columns.iter().map(|column| &column.fill).collect();
    let part = |column, part, prefer| Fill::Part { column, part, prefer };
    assert_eq!(
        fills,
        [
            &Fill::Id,
            &Fill::Email(1),
            &Fill::Phone { column: 2, region: "IE".into() },
            &part(3, Part::Address(AddressPart::Line1), None),
            &part(3, Part::Address(AddressPart::Country), Some(4)),
            &part(5, Part::Name(NamePart::Last), None),
        ]
    );
    assert_eq!(
        plan.notes,
        ["clubs: what fills society.chair may be null, which V2 forbids; such rows will be rejected"],
        "a single name has no last name"
    );
    // Phones are read otherwise when the region changes, so this is another definition.
    let other = compile(&ACCOUNTS.replace("IE", "GB")).await;
    assert_ne!(plan.entities[0].definition_hash, other.entities[0].definition_hash);

    // Two spellings in V1 can be one email in V2.
    sqlx::raw_sql("create unique index one_mail on society (mail)").execute(&mut pair.v2).await.unwrap();
    let files = [("accounts.toml", ACCOUNTS), ("clubs.toml", &text)];
    let notes = pair.compile(&Definitions::from_texts(&files)).await.unwrap().notes.join("\n");
    assert!(notes.contains("society.mail is unique (one_mail)"), "{notes}");
    pair.drop().await;
}

#[tokio::test]
async fn mistakes_are_found_before_anything_is_read() {
    let mut pair = Pair::new(V1, V2).await;
    for (columns, problem) in [
        ("chair = { name = \"chair\", part = \"frist\" }", "did you mean `first`?"),
        ("chair = { address = \"place\", part = \"postalCode\" }", "did you mean `postal_code`?"),
        ("chair = { address = \"place\" }", "{ address = … } has no `part`"),
        ("chair = { email = \"mial\" }", "did you mean `mail`?"),
        ("chair = { email = \"founded\" }", "`founded` is date, but text is needed here"),
        ("chair = { phone = \"members\" }", "`members` is text[], but text is needed here"),
        ("chair = { name = \"chair\", part = \"first\", prefer = \"founded\" }", "`founded` is date"),
        ("chair = { email = \"mail\", part = \"first\" }", "{ email = … } has no key `part`"),
        ("chair = \"chair\"\nsince = { email = \"mail\" }", "write it to a text column"),
    ] {
        let text = clubs(columns);
        let found = pair.problems(&[("accounts.toml", ACCOUNTS), ("clubs.toml", &text)]).await;
        assert!(found.contains(problem), "{columns}\n{found}");
        assert_eq!(found.matches('×').count(), 1, "one mistake, one problem: {found}");
    }
    // Which country's phones?
    let text = clubs("chair = \"chair\"\ncall = { phone = \"call\" }");
    let found = pair.problems(&[("clubs.toml", &text)]).await;
    assert!(found.contains("accounts.toml has no `phone_region`"), "{found}");
    // Two capitals, and still no region: every phone would be taken for an impossible one.
    let accounts = ACCOUNTS.replace("IE", "UK");
    let found = pair.problems(&[("accounts.toml", &accounts), ("clubs.toml", &clubs(GOOD))]).await;
    assert!(found.contains("did you mean `GB`?"), "{found}");
    // accounts.toml holds for every entity, so it has no columns to normalise.
    let accounts = format!(
        "{ACCOUNTS}[[postgres]]\ntable = \"society\"\nper = \"account\"\n[postgres.columns]\nmail = {{ email = \"mail\" }}\n"
    );
    let found = pair.problems(&[("accounts.toml", &accounts), ("clubs.toml", &clubs(GOOD))]).await;
    assert!(found.contains("it cannot use a row's columns"), "{found}");
    pair.drop().await;
}
