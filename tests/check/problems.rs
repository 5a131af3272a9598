//! Definitions that do not compile, and databases that are not ready for them.

use sqlx::AssertSqlSafe;
use v1v2::definition::Definitions;
use v1v2::plan::KeyKind;

use super::{CUSTOMERS, Pair, SHOP_V1, SHOP_V2, V1_SCHEMA, V2_SCHEMA};

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
