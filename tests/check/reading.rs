//! What definitions are compiled from: the files of a folder over the built-in ones, and a database's catalog.

use v1v2::catalog::Catalog;
use v1v2::definition::Definitions;

use super::{CUSTOMERS, Pair};

#[tokio::test]
async fn catalog_of_a_real_database() {
    let mut pair = Pair::new(
        "create domain positive as integer not null check (value > 0);
         create schema other;
         create table other.part (a integer, b positive, c varchar(20)[], n integer generated always as identity,
                                  s serial, g integer generated always as (a + 1) stored, primary key (a, n)) partition by range (a);
         create table other.part1 partition of other.part for values from (0) to (10);
         create unique index few on other.part (a, b) where c is null;
         create view v as select a from other.part;
         alter table other.part enable row level security;
         create table child (x integer, y integer, foreign key (x, y) references other.part (a, n) deferrable)",
        "select 1",
    )
    .await;
    let catalog = Catalog::read(&mut pair.v1, &[]).await.unwrap();
    assert_eq!(
        catalog.names().collect::<Vec<_>>(),
        ["other.part", "child", "v"],
        "partitions are their parent's"
    );
    let (_, part) = catalog.resolve("other.part").unwrap();
    assert!(catalog.resolve("part").is_none());
    assert_eq!(part.primary_key.as_deref().unwrap(), ["a", "n"]);
    assert!(part.unique.iter().any(|unique| unique.partial && unique.columns == ["a", "b"]));
    let flags = |name: &str| {
        let column = part.column(name).unwrap();
        (column.full_type.as_str(), column.not_null, column.has_default, column.generated)
    };
    assert_eq!(flags("b"), ("positive", true, false, false));
    assert_eq!(flags("c"), ("character varying(20)[]", false, false, false));
    assert_eq!(flags("n"), ("integer", true, true, false));
    assert_eq!(flags("s"), ("integer", true, true, false));
    assert_eq!(flags("g"), ("integer", false, true, true));
    assert_eq!(part.column("c").unwrap().data_type.element().unwrap().name, "character varying");
    let (_, child) = catalog.resolve("child").unwrap();
    assert_eq!(child.foreign_keys.len(), 1);
    assert!(child.foreign_keys[0].deferrable && child.foreign_keys[0].referenced_columns == ["a", "n"]);
    let owned = |column: &str| {
        catalog.sequences.iter().any(|s| s.owner.as_ref().is_some_and(|(_, name)| name == column))
    };
    assert!(owned("s") && owned("n"));
    assert!(Catalog::read(&mut pair.v1, &["public"]).await.unwrap().resolve("other.part").is_none());
    pair.drop().await;
}

#[test]
fn a_folder_overlays_the_built_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let names = |definitions: &Definitions| -> Vec<String> {
        definitions.entities.iter().map(|entity| entity.name.value.clone()).collect()
    };
    write("teachers.toml", "disabled = true\n");
    write("customers.toml", CUSTOMERS);
    write("notes.txt", "not a definition");
    let definitions = Definitions::load(Some(dir.path())).unwrap();
    assert!(definitions.problems.is_empty(), "{}", definitions.render(&definitions.problems));
    assert_eq!(names(&definitions), ["schools", "parents", "students", "customers"]);
    write("accounts.toml", "builtin = false\n");
    assert_eq!(names(&Definitions::load(Some(dir.path())).unwrap()), ["customers"]);
    write("more.toml", CUSTOMERS);
    let definitions = Definitions::load(Some(dir.path())).unwrap();
    assert!(definitions.problems[0].message.contains("two definitions of `customers`"));
    let missing = Definitions::load(Some(&dir.path().join("nowhere"))).expect_err("no such folder");
    assert_eq!(missing.exit_code(), 2);
}
