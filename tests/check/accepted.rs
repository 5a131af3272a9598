//! Definitions that compile: what becomes of them, and what is said about them all the same.

use v1v2::definition::Definitions;
use v1v2::plan::{AccountField, Fill, KeyFrom, KeyKind, Missing, Scope, When};

use super::{CUSTOMERS, Pair, SHOP_V1, SHOP_V2, block, tables};

#[tokio::test]
async fn built_in_definitions_compile() {
    let mut pair = Pair::school().await;
    let definitions = Definitions::load(None).unwrap();
    let plan = pair.compile(&definitions).await.unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = plan.entities.iter().map(|entity| &*entity.name).collect();
    assert_eq!(names, ["schools", "teachers", "parents", "students"]);
    assert_eq!(plan.notes, Vec::<String>::new());

    // Parents first: a school's administrator is written before the school, the role in it after both.
    assert_eq!(tables(&plan, "schools"), ["User", "School", "UserRole"]);
    assert_eq!(tables(&plan, "teachers"), ["User", "Teacher", "TeacherSubject", "UserRole"]);
    assert_eq!(tables(&plan, "students"), ["User", "Student", "StudentGuardian", "UserRole"]);

    let accounts = plan.accounts.as_ref().unwrap();
    assert_eq!((accounts.table.name.as_str(), accounts.id_column.as_str()), ("User", "id"));
    assert_eq!(accounts.phone_column.as_deref(), Some("phone"));
    assert_eq!(accounts.password_column.as_deref(), Some("passwordHash"));

    let schools = &plan.entities[0];
    let account = schools.account.as_ref().unwrap();
    assert!(matches!(account.scope, Some(Scope::Own)));
    assert_eq!(schools.source.columns[account.when.unwrap()].name, "admin_name");
    assert_eq!((schools.source.key_index, schools.source.key_kind), (0, KeyKind::Text));
    assert_eq!(schools.definition_hash.len(), 32);

    let students = &plan.entities[3];
    let column = |name: &str| students.source.columns.iter().position(|column| column.name == name).unwrap();
    assert_eq!(students.source.columns[column("guardian_ids")].element_type.as_deref(), Some("text"));
    let guardians = students.writes.iter().find(|write| write.table.name == "StudentGuardian").unwrap();
    assert_eq!(guardians.when, When::Each(column("guardian_ids")));
    let fills: Vec<&Fill> = guardians.columns.iter().map(|column| &column.fill).collect();
    let parent =
        Fill::Reference { entity: 2, key: KeyFrom::Each(column("guardian_ids")), missing: Missing::Skip };
    assert_eq!(
        fills,
        [
            &Fill::Id,
            &parent,
            &Fill::Each(column("guardian_relations")),
            &Fill::Each(column("guardian_is_primary"))
        ]
    );
    let role = students.writes.iter().find(|write| write.table.name == "UserRole").unwrap();
    assert_eq!(role.when, When::Role);
    assert_eq!(role.columns[0].fill, Fill::DerivedId("role".to_owned()));
    assert_eq!(role.columns[3].fill, Fill::Account(AccountField::Scope));
    assert!(role.columns[1].not_null && role.columns[1].type_name == "uuid");

    // The hash tells edited definitions apart, and only those.
    let again = pair.compile(&Definitions::load(None).unwrap()).await.unwrap();
    assert_eq!(again.entities[1].definition_hash, plan.entities[1].definition_hash);
    pair.drop().await;
}

#[tokio::test]
async fn the_documentation_s_example_compiles() {
    let text = include_str!("../../docs/definitions.md");
    let mut pair = Pair::new(block(text, "sql", "V1"), block(text, "sql", "V2")).await;
    let files = ["accounts.toml", "loans.toml", "readers.toml"].map(|name| (name, block(text, "toml", name)));
    let plan = pair.compile(&Definitions::from_texts(&files)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.notes, Vec::<String>::new());
    assert_eq!(tables(&plan, "readers"), ["person", "reader", "membership"]);
    assert_eq!(tables(&plan, "loans"), ["loan", "loan_item"]);
    assert_eq!(plan.entities[0].source.key_kind, KeyKind::Integer);
    pair.drop().await;
}

#[tokio::test]
async fn notes_are_no_problems() {
    let mut pair = Pair::new(SHOP_V1, SHOP_V2).await;
    sqlx::raw_sql(
        "create function f() returns trigger language plpgsql as 'begin return new; end';
         create trigger shout before insert on client for each row execute function f();
         alter table client add points integer",
    )
    .execute(&mut pair.v2)
    .await
    .unwrap();
    let text = CUSTOMERS.replace("select id, name", "select id, nick, score").replace("\"name\"", "\"nick\"")
        + "points = \"score\"\n";
    let text = text.replace("from customer", "from customer join purchase on customer_id = id");
    let plan = pair.compile(&Definitions::from_texts(&[("customers.toml", &text)])).await;
    let notes = plan.unwrap_or_else(|error| panic!("{error}")).notes.join("\n");
    for note in ["triggers (shout)", "client.label may be null", "numeric with decimals does not fit integer"]
    {
        assert!(notes.contains(note), "{note}: {notes}");
    }
    pair.drop().await;
}
