//! Definitions against real servers: what compiles, and what every kind of mistake looks like.

mod documents;
mod fields;
mod later;
mod normalised;

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::servers::Server;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use v1v2::catalog::Catalog;
use v1v2::definition::Definitions;
use v1v2::plan::{AccountField, Fill, KeyFrom, KeyKind, Missing, Plan, Scope, When, compile};
use v1v2::setup::SetupFiles;

const V1_SCHEMA: &str = include_str!("../setup/sample/schema.sql");
const V2_SCHEMA: &str = include_str!("../setup/postgres/schema.sql");

/// A pair of databases of one test; dropped at its end, left for a look when it fails.
struct Pair {
    names: [String; 2],
    options: [PgConnectOptions; 2],
    v1: PgConnection,
    v2: PgConnection,
}

impl Pair {
    async fn new(v1_sql: &str, v2_sql: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let names = ["v1", "v2"].map(|side| format!("check_{side}_{}_{number}", std::process::id()));
        let mut options =
            [Server::V1, Server::V2].map(|server| server.url().parse::<PgConnectOptions>().unwrap());
        for (name, options) in names.iter().zip(&mut options) {
            let mut server = options.connect().await.unwrap();
            server.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
            *options = options.clone().database(name);
        }
        let mut v1 = options[0].connect().await.unwrap();
        let mut v2 = options[1].connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(v1_sql.to_owned())).execute(&mut v1).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(v2_sql.to_owned())).execute(&mut v2).await.unwrap();
        Self { names, options, v1, v2 }
    }

    async fn school() -> Self {
        let mut pair = Self::new(V1_SCHEMA, "select 1").await;
        v1v2::setup::apply(&mut pair.v2, &SetupFiles::embedded(), false).await.unwrap();
        pair
    }

    async fn compile(&mut self, definitions: &Definitions) -> v1v2::Result<Plan> {
        compile(definitions, &mut self.v1, &mut self.v2).await
    }

    /// The rendered problems of definitions that must not compile.
    async fn problems(&mut self, files: &[(&str, &str)]) -> String {
        let error = self.compile(&Definitions::from_texts(files)).await.expect_err("must not compile");
        assert_eq!(error.exit_code(), 2);
        let details = error.more().unwrap().to_owned();
        assert_eq!(details.matches('×').count().to_string(), error.message().split(' ').next().unwrap());
        details
    }

    async fn drop(self) {
        let Self { names, options, v1, v2 } = self;
        drop((v1, v2));
        for (name, options) in names.iter().zip(options) {
            let mut server = options.database("postgres").connect().await.unwrap();
            server.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await.unwrap();
        }
    }
}

fn tables(plan: &Plan, entity: &str) -> Vec<String> {
    let entity = plan.entities.iter().find(|candidate| &*candidate.name == entity).unwrap();
    entity.writes.iter().map(|write| write.table.name.clone()).collect()
}

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

const SHOP_V1: &str = r#"
    create type color as enum ('RED', 'BLUE', 'MAUVE');
    create table customer (id integer primary key, name text not null, nick text, color color, born text, score numeric);
    create table purchase (no bigint primary key, customer_id integer references customer, items text[] not null)"#;
const SHOP_V2: &str = r#"
    create type color as enum ('RED', 'BLUE');
    create table client (id uuid primary key, label text not null, color color, born date, vip boolean not null,
                         code text generated always as (upper(label)) stored);
    create table kind (id integer primary key, code text not null);
    create table sale (id uuid primary key, client_id uuid not null references client, kind_id integer references kind);
    create table line (sale_id uuid references sale, item text not null)"#;

const CUSTOMERS: &str = r#"entity = "customers"
[source]
key = "id"
query = "select id, name, color::text as color, born::date as born from customer"
[[postgres]]
table = "client"
[postgres.columns]
id = { id = true }
label = "name"
vip = { value = true }
"#;

#[tokio::test]
async fn every_problem_at_once() {
    let mut pair = Pair::new(SHOP_V1, SHOP_V2).await;
    let customers = r#"entity = "customers"
color = "blue"

[source]
key = "nick"
query = 'select id, name, nick, color, born, nick as name from customer'

[[postgres]]
table = "client"
[postgres.columns]
id    = { id = true }
lable = "nme"
color = "color"
born  = "born"
code  = "name"
"#;
    let purchases = r#"entity = "purchases"

[source]
key = "no"
query = '''
select no, customer_id, items
from purchase p where p.nummer > 3'''

[[postgres]]
table = "sales"
[postgres.columns]
id = { id = true }
"#;
    let sales = r#"entity = "sales"
after = ["purchase"]
[source]
key = "no"
query = "select no, customer_id::text as customer, items from purchase"

[[postgres]]
table = "sale"
[postgres.columns]
id = { id = true }
client_id = { entity = "customers", key = "customer", missing = "null" }
kind_id = { lookup = "kind", by = "code", key = "each" }

[[postgres]]
table = "line"
each = "customer"
[postgres.columns]
sale_id = { id = true }
item = { acount = "email" }
"#;
    let files = [("customers.toml", customers), ("purchases.toml", purchases), ("sales.toml", sales)];
    insta::assert_snapshot!(pair.problems(&files).await);
    pair.drop().await;
}

#[tokio::test]
async fn labels_that_v2_lacks() {
    let mut pair = Pair::new(SHOP_V1, SHOP_V2).await;
    let wrong = CUSTOMERS.replace("color::text as color", "color") + "color = \"color\"\n";
    let text = pair.problems(&[("customers.toml", &wrong)]).await;
    assert!(text.contains("V2's enum lacks MAUVE") && text.contains("add them to V2's enum"), "{text}");
    // As text each value is checked when it is written.
    let right = CUSTOMERS.to_owned() + "color = \"color\"\n";
    let plan = pair.compile(&Definitions::from_texts(&[("customers.toml", &right)])).await.unwrap();
    assert_eq!(plan.entities[0].source.key_kind, KeyKind::Integer);
    let constant = CUSTOMERS.to_owned() + "color = { value = \"BLU\" }\n";
    let text = pair.problems(&[("customers.toml", &constant)]).await;
    assert!(text.contains("did you mean `BLUE`?"), "{text}");
    pair.drop().await;
}

#[tokio::test]
async fn circles_are_named_in_full() {
    let mut pair = Pair::new(SHOP_V1, SHOP_V2).await;
    let customers = CUSTOMERS.replace("[source]", "after = [\"sales\"]\n[source]");
    let sales = r#"entity = "sales"
after = ["customers"]
[source]
key = "no"
query = "select no, customer_id from purchase"
[[postgres]]
table = "sale"
[postgres.columns]
id = { id = true }
client_id = { entity = "customers", key = "customer_id" }
"#;
    let text = pair.problems(&[("customers.toml", &customers), ("sales.toml", sales)]).await;
    assert!(text.contains("in a circle: customers → sales → customers"), "{text}");
    assert!(text.contains("leave \"sales\" out of the `after` of `customers`"), "{text}");

    // Which reference can be filled in later is said, too; and what stands in the way of one that cannot.
    let extend =
        "alter table client add first_sale uuid references sale, add last_sale uuid not null references sale";
    sqlx::raw_sql(extend).execute(&mut pair.v2).await.unwrap();
    let refer =
        |columns: &str| CUSTOMERS.replace("as born from", "as born, null::bigint as sale from") + columns;
    let first = "first_sale = { entity = \"sales\", key = \"sale\" }\n";
    let last = "last_sale = { entity = \"sales\", key = \"sale\" }\n";
    let text = pair.problems(&[("customers.toml", &refer(last)), ("sales.toml", sales)]).await;
    let text = text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("let client.last_sale, or sale.client_id be null in V2, and write `later = true`"),
        "{text}"
    );
    sqlx::raw_sql("alter table client drop last_sale").execute(&mut pair.v2).await.unwrap();
    let text = pair.problems(&[("customers.toml", &refer(first)), ("sales.toml", sales)]).await;
    let text = text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(text.contains("write `later = true` in what fills client.first_sale"), "{text}");
    let later = refer(&first.replace(" }", ", later = true }"));
    let files = [("customers.toml", later.as_str()), ("sales.toml", sales)];
    let plan = pair.compile(&Definitions::from_texts(&files)).await.unwrap();
    let names: Vec<&str> = plan.entities.iter().map(|entity| &*entity.name).collect();
    assert_eq!(names, ["customers", "sales"]);
    // What must not be null cannot come later.
    sqlx::raw_sql("alter table client alter first_sale set not null").execute(&mut pair.v2).await.unwrap();
    let text = pair.problems(&files).await;
    assert!(text.contains("must not be null, so `later` cannot leave it out at first"), "{text}");
    sqlx::raw_sql("alter table client drop first_sale").execute(&mut pair.v2).await.unwrap();

    // Tables in a circle: refused, unless a key can wait for the end of the transaction.
    let circle = "alter table client add sale_id uuid; alter table client add constraint sale foreign key (sale_id) references sale;
                  alter table sale add constraint one unique (client_id)";
    sqlx::raw_sql(circle).execute(&mut pair.v2).await.unwrap();
    let both = CUSTOMERS.to_owned()
        + "sale_id = { id = true }\n[[postgres]]\ntable = \"sale\"\n[postgres.columns]\nid = { id = true }\nclient_id = { id = true }\n";
    let files = [("customers.toml", both.as_str())];
    let text = pair.problems(&files).await;
    assert!(text.contains("foreign keys go round in a circle: client → sale → client"), "{text}");
    assert!(text.contains("`later = true` in what fills client.sale_id"), "{text}");
    let later = both.replace("sale_id = { id = true }", "sale_id = { id = true, later = true }");
    let plan = pair.compile(&Definitions::from_texts(&[("customers.toml", later.as_str())])).await.unwrap();
    assert_eq!(tables(&plan, "customers"), ["client", "sale"]);
    sqlx::raw_sql("alter table client alter constraint sale deferrable").execute(&mut pair.v2).await.unwrap();
    let plan = pair.compile(&Definitions::from_texts(&files)).await.unwrap();
    assert_eq!(tables(&plan, "customers"), ["client", "sale"]);
    pair.drop().await;
}

#[tokio::test]
async fn missing_privileges_as_statements() {
    let mut pair = Pair::school().await;
    let role = format!("reader_{}", std::process::id());
    let make = format!("create role {role}; grant select, insert on \"School\" to {role}; set role {role}");
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut pair.v2).await.unwrap();
    let other = format!("v1_{role}");
    let make = format!("create role {other}; grant select on \"School\" to {other}; set role {other}");
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut pair.v1).await.unwrap();
    let error = pair.compile(&Definitions::load(None).unwrap()).await.expect_err("no privileges");
    let text = error.more().unwrap();
    for statement in [
        format!("GRANT UPDATE, DELETE ON \"public\".\"School\" TO \"{role}\";"),
        format!("GRANT SELECT ON \"public\".\"Role\" TO \"{role}\";"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON \"public\".\"UserRole\" TO \"{role}\";"),
        format!("GRANT SELECT ON \"public\".\"_ParentToStudent\" TO \"{other}\";"),
    ] {
        assert!(text.contains(&statement), "{statement}\n{text}");
    }
    for (connection, role) in [(&mut pair.v2, role), (&mut pair.v1, other)] {
        let clean = format!("reset role; drop owned by {role}; drop role {role}");
        sqlx::raw_sql(AssertSqlSafe(clean)).execute(connection).await.unwrap();
    }
    pair.drop().await;
}

#[tokio::test]
async fn empty_v2_is_one_problem() {
    let mut pair = Pair::new(V1_SCHEMA, "select 1").await;
    let error = pair.compile(&Definitions::load(None).unwrap()).await.expect_err("V2 is empty");
    assert!(error.message().starts_with("1 problem "), "{error}");
    assert!(error.to_string().contains("run `v1v2 setup` first"), "{error}");

    // Tables without reference data: every role would be missing.
    sqlx::raw_sql(V2_SCHEMA).execute(&mut pair.v2).await.unwrap();
    let error = pair.compile(&Definitions::load(None).unwrap()).await.expect_err("no reference data");
    assert!(error.message().starts_with("8 problems "), "{error}");
    assert!(error.to_string().contains("V2's Role has no row whose code is `SCHOOL_ADMIN`"), "{error}");
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

#[tokio::test]
async fn queries_that_no_reader_could_use() {
    let mut pair = Pair::new(SHOP_V1, SHOP_V2).await;
    for query in [
        "select 1 as id; drop table customer",
        "delete from customer returning id, name",
        "select $1::integer as id, 'x' as name",
    ] {
        let definition = CUSTOMERS
            .replace("select id, name, color::text as color, born::date as born from customer", query);
        pair.problems(&[("customers.toml", &definition)]).await;
    }
    let left: i64 =
        sqlx::query_scalar("select count(*) from customer").fetch_one(&mut pair.v1).await.unwrap();
    assert_eq!(left, 0, "the table is still there");
    pair.drop().await;
}

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

/// The blocks of the documentation's example that begin with this line (without its mark of a comment).
fn block<'t>(documentation: &'t str, language: &str, first_line: &str) -> &'t str {
    let mark = if language == "sql" { "--" } else { "#" };
    let start = format!("```{language}\n{mark} {first_line}\n");
    let (_, rest) = documentation.split_once(&start).unwrap_or_else(|| panic!("no block {first_line}"));
    rest.split_once("```").unwrap().0
}

#[tokio::test]
async fn the_documentation_s_example_compiles() {
    let text = include_str!("../docs/definitions.md");
    let mut pair = Pair::new(block(text, "sql", "V1"), block(text, "sql", "V2")).await;
    let files = ["accounts.toml", "loans.toml", "readers.toml"].map(|name| (name, block(text, "toml", name)));
    let plan = pair.compile(&Definitions::from_texts(&files)).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(plan.notes, Vec::<String>::new());
    assert_eq!(tables(&plan, "readers"), ["person", "reader", "membership"]);
    assert_eq!(tables(&plan, "loans"), ["loan", "loan_item"]);
    assert_eq!(plan.entities[0].source.key_kind, KeyKind::Integer);
    pair.drop().await;
}
