//! What V1 says about the queries of the definitions, without executing any of them.
//!
//! `PREPARE` gives each column's name, type and origin. The query is prepared as the sub-query that the reader will make of it, so
//! that whatever cannot stand there (two statements, a DELETE) is refused by Postgres itself. The parser then tells
//! which tables it reads, to list missing privileges all at once, and whether its key can be proven unique.

use std::ops::ControlFlow;

use sqlparser::ast::{GroupByExpr, Select, SetExpr, Statement, TableFactor, visit_relations};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlx::postgres::{PgConnection, PgDatabaseError, PgErrorPosition};
use sqlx::{AssertSqlSafe, Column as _, Executor, SqlSafeStr, Statement as _};

use crate::catalog::{Catalog, Type};
use crate::definition::problem::did_you_mean;
use crate::error::{Error, Result};
use crate::plan::TableName;

/// A query as V1 understands it.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// Its columns in order.
    pub columns: Vec<DescribedColumn>,
    /// What its FROM lets us conclude.
    pub shape: Shape,
    /// Tables that it reads and the user may not.
    pub forbidden: Vec<TableName>,
}

/// A column of a query.
#[derive(Debug, Clone)]
pub struct DescribedColumn {
    /// Name.
    pub name: String,
    /// Type.
    pub data_type: Type,
    /// The table's column that it is, unchanged; `None` for an expression.
    pub origin: Option<Origin>,
}

/// What the catalog knows of the column that a query's column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The table, by its oid.
    pub table: u32,
    /// Declared NOT NULL (an outer join can still make it null).
    pub not_null: bool,
    /// Alone under a unique index (a join can still repeat it).
    pub unique: bool,
}

/// How much a query does with the rows of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// All rows of one table, each once.
    Whole,
    /// Some rows of one table, each once.
    Filtered,
    /// Joins, groups, unions, or nothing that the parser understands.
    #[default]
    Other,
}

/// Why a query could not be prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What Postgres says.
    pub message: String,
    /// The character at fault, counted from 0 in the query as written.
    pub position: Option<usize>,
    /// Postgres's hint.
    pub hint: Option<String>,
}

const BEFORE: &str = "select * from (\n";

/// Asks V1 about one query.
///
/// # Errors
/// When V1 does not answer. What is wrong with the query is the inner result.
pub async fn describe(
    conn: &mut PgConnection,
    v1: &Catalog,
    query: &str,
) -> Result<Result<Described, Fault>> {
    // The line break before the bracket ends a trailing `--` comment.
    let sql = format!("{BEFORE}{query}\n) as source");
    let statement = match conn.prepare(AssertSqlSafe(sql).into_sql_str()).await {
        Ok(statement) => statement,
        Err(sqlx::Error::Database(error)) if is_about_the_query(error.code().as_deref()) => {
            return Ok(Err(fault(&*error, query, v1)));
        }
        Err(error) => return Err(Error::database("V1, preparing a query", &error)),
    };
    if statement.parameters().is_some_and(|parameters| parameters.left().is_some_and(|list| !list.is_empty()))
    {
        let message = "the query has parameters ($1), which nothing fills".to_owned();
        return Ok(Err(Fault { message, position: query.find("$1"), hint: None }));
    }
    let mut columns = Vec::new();
    for column in statement.columns() {
        let oid = column.type_info().oid().map(|oid| oid.0);
        let data_type = oid.and_then(|oid| v1.types.get(&oid)).cloned();
        let origin = column.relation_id().zip(column.relation_attribute_no());
        let origin = origin.and_then(|(table, number)| Some((table.0, v1.origin(table.0, number)?)));
        columns.push(DescribedColumn {
            name: column.name().to_owned(),
            // Pseudo-types (an untyped null) have a text form like everything else.
            data_type: data_type.unwrap_or_else(|| Catalog::built_in("text", 'S')),
            origin: origin.map(|(oid, (table, column))| Origin {
                table: oid,
                not_null: column.not_null,
                unique: table.is_unique(&column.name),
            }),
        });
    }
    let (shape, tables) = parse(query);
    let mut forbidden: Vec<TableName> = tables
        .iter()
        .filter_map(|name| v1.resolve(name))
        .filter(|(_, table)| !table.privileges.select)
        .map(|(name, _)| name.clone())
        .collect();
    forbidden.sort();
    forbidden.dedup();
    Ok(Ok(Described { columns, shape, forbidden }))
}

/// Whether the server complains about the query. A lock that was not given, a server that shuts down or a session that
/// was ended says nothing about it.
fn is_about_the_query(code: Option<&str>) -> bool {
    // feature not supported, data exception, invalid schema name, syntax error or access rule violation, program limit
    code.and_then(|code| code.get(..2)).is_some_and(|class| matches!(class, "0A" | "22" | "3F" | "42" | "54"))
}

fn fault(error: &(dyn sqlx::error::DatabaseError + 'static), query: &str, v1: &Catalog) -> Fault {
    let postgres = error.try_downcast_ref::<PgDatabaseError>();
    // Counted from 1, in characters, in the text that was sent.
    let position = postgres.and_then(|error| match error.position() {
        Some(PgErrorPosition::Original(position)) => position.checked_sub(BEFORE.chars().count() + 1),
        _ => None,
    });
    Fault {
        message: error.message().to_owned(),
        position: position.filter(|position| *position < query.chars().count()),
        hint: postgres.and_then(|error| error.hint()).map(str::to_owned).or_else(|| table_hint(error, v1)),
    }
}

/// Postgres suggests columns by itself, but not tables.
fn table_hint(error: &dyn sqlx::error::DatabaseError, v1: &Catalog) -> Option<String> {
    if error.code().as_deref() != Some("42P01") {
        return None;
    }
    let name = error.message().split('"').nth(1)?;
    let names: Vec<String> = v1.names().collect();
    Some(match did_you_mean(name, names.iter().map(String::as_str)) {
        // Names with capitals are found only in quotes.
        Some(meant) if *meant != meant.to_lowercase() => format!("did you mean \"{meant}\", in double quotes?"),
        Some(meant) => format!("did you mean {meant}?"),
        None => {
            "if V1 has no such table, its URL points elsewhere, or this definition is not for you: see docs/definitions.md, \"Which files count\""
                .to_owned()
        }
    })
}

/// The query's shape and the tables it names. What the parser does not know is not wrong: Postgres decides that.
fn parse(query: &str) -> (Shape, Vec<String>) {
    let Ok(statements) = Parser::parse_sql(&PostgreSqlDialect {}, query) else {
        return (Shape::Other, Vec::new());
    };
    let mut tables = Vec::new();
    let visited: ControlFlow<()> = visit_relations(&statements, |name| {
        let parts: Vec<String> = name
            .0
            .iter()
            .filter_map(|part| part.as_ident())
            // Postgres folds what is not quoted to lower case.
            .map(
                |part| {
                    if part.quote_style.is_some() { part.value.clone() } else { part.value.to_lowercase() }
                },
            )
            .collect();
        tables.push(parts.join("."));
        ControlFlow::Continue(())
    });
    debug_assert!(visited.is_continue());
    let shape = match statements.as_slice() {
        [Statement::Query(query)] => match query.body.as_ref() {
            SetExpr::Select(select) if query.with.is_none() => shape(select),
            _ => Shape::Other,
        },
        _ => Shape::Other,
    };
    (shape, tables)
}

fn shape(select: &Select) -> Shape {
    let one_table = matches!(select.from.as_slice(), [from] if from.joins.is_empty()
        && matches!(from.relation, TableFactor::Table { args: None, .. }));
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(list, _) if list.is_empty());
    if !one_table || grouped || select.distinct.is_some() {
        return Shape::Other;
    }
    if select.selection.is_some() { Shape::Filtered } else { Shape::Whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_a_query_does_with_its_table() {
        let (shape, tables) = parse(
            "select p.id, array(select j.\"B\" from \"_A\" j where j.\"A\" = p.id) as b from \"Person\" p",
        );
        assert_eq!(shape, Shape::Whole);
        assert_eq!(tables.len(), 2);
        assert!(tables.contains(&"_A".to_owned()) && tables.contains(&"Person".to_owned()));
        assert_eq!(
            parse("select id from Other.T where id > 3"),
            (Shape::Filtered, vec!["other.t".to_owned()])
        );
        assert_eq!(parse("select a.id from a join b on true").0, Shape::Other);
        assert_eq!(parse("select id from a group by id").0, Shape::Other);
        assert_eq!(parse("with a as (select 1 as id) select id from a").0, Shape::Other);
    }
}
