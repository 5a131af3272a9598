//! Entities and tables that refer to each other in a circle: which of them can be filled in later, and which are refused.

use v1v2::definition::Definitions;

use super::{CUSTOMERS, Pair, SHOP_V1, SHOP_V2, tables};

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
