//! Makes V2's tables, or makes sure that those which are there are the right ones.
//!
//! What "right" means is not parsed out of the SQL file: the file is run for real into an empty schema behind a
//! savepoint, the catalog is read, and the savepoint is rolled back. So any SQL that Postgres understands may stand in
//! the file, and the comparison is between two answers of the same server.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection, PgConnection};

use super::super::files::STRUCTURE;
use super::super::mistakes::list;
use super::{SetupFiles, execute, quoted, run_script, strings, v2};
use crate::{Error, Result};

/// Where the file is tried out; the name never outlives the savepoint.
const TRIAL: &str = "v1v2_setup_trial";

/// What [`ensure`] found or made.
pub(super) struct Structure {
    pub(super) schema: String,
    pub(super) created: Vec<String>,
}

/// A schema as the catalog describes it.
#[derive(Debug, Default)]
struct Shape {
    tables: BTreeMap<String, Table>,
    /// Labels in order.
    enums: BTreeMap<String, Vec<String>>,
    /// (kind, name as SQL writes it): see `v1v2.setup_objects`.
    objects: BTreeSet<(String, String)>,
}

#[derive(Debug, Default)]
struct Table {
    columns: BTreeMap<String, Column>,
    /// Primary key and unique indexes, whatever they are called: `primary key (id)`.
    keys: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Column {
    kind: String,
    required: bool,
    /// Default, identity or generated: something fills it when nobody does.
    filled: bool,
}

/// Creates what the file describes in the first schema of the search path, or refuses if something else is there.
pub(super) async fn ensure(conn: &mut PgConnection, files: &SetupFiles) -> Result<Structure> {
    check_server(conn, files).await?;
    let schema: Option<String> =
        sqlx::query_scalar("select current_schema()::text").fetch_one(&mut *conn).await.map_err(v2)?;
    let schema = schema.ok_or_else(|| {
        Error::refused(
            "V2: no schema of the connection's search_path exists, so there is no place for the tables",
        )
        .help("create the schema, or correct search_path of the user or of the database")
    })?;
    let wanted = trial(conn, files).await?;
    let present = shape(conn, &schema).await?;
    let missing: Vec<&(String, String)> = wanted.objects.difference(&present.objects).collect();

    if missing.len() == wanted.objects.len() {
        run_script(conn, files, STRUCTURE).await?;
        for (kind, name) in &wanted.objects {
            sqlx::query("insert into v1v2.setup_objects (kind, schema_name, name) values ($1, $2, $3)")
                .bind(kind)
                .bind(&schema)
                .bind(name)
                .execute(&mut *conn)
                .await
                .map_err(v2)?;
        }
        return Ok(Structure { schema, created: wanted.tables.into_keys().collect() });
    }
    let mut differences: Vec<String> =
        missing.iter().map(|(kind, name)| format!("{kind} {name} is missing")).collect();
    // A bulk load that was cut short still owes these tables some of their indexes.
    let owed =
        strings(conn, "select distinct table_name from v1v2.dropped where schema_name = $1", &schema).await?;
    differences.extend(compare(&wanted, &present, &owed));
    if differences.is_empty() {
        return Ok(Structure { schema, created: Vec::new() });
    }
    let first = differences.remove(0);
    let error = Error::refused(format!(
        "V2, schema {}: there are tables of the same names with another structure: {first}",
        quoted(&schema)
    ))
    .help(
        "check that the URL points at the right database; if an earlier setup made these tables, `setup --clean` makes \
         them anew; if they are your own, put their SQL into postgres/schema.sql of your setup folder",
    );
    Err(if differences.is_empty() { error } else { error.details(differences.join("\n")) })
}

/// The file may say which server it needs: `-- needs: postgres 15`. Better than a syntax error.
async fn check_server(conn: &mut PgConnection, files: &SetupFiles) -> Result<()> {
    let needed = files.text(STRUCTURE).lines().find_map(|line| {
        let digits = line.strip_prefix("-- needs: postgres ")?;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse::<i32>().ok()
    });
    let Some(needed) = needed else { return Ok(()) };
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int / 10000")
        .fetch_one(conn)
        .await
        .map_err(v2)?;
    if version < needed {
        return Err(Error::refused(format!(
            "V2: the server is Postgres {version}, and {} needs {needed} or later",
            files.place(STRUCTURE)
        ))
        .help("use a newer server, or a schema.sql of your own that does without"));
    }
    Ok(())
}

/// Runs the file into an empty schema, reads what it makes, and takes it all back.
async fn trial(conn: &mut PgConnection, files: &SetupFiles) -> Result<Shape> {
    let path: String = sqlx::query_scalar("select current_setting('search_path')")
        .fetch_one(&mut *conn)
        .await
        .map_err(v2)?;
    let mut savepoint = conn.begin().await.map_err(v2)?;
    // Extensions may live in any schema of the path, so it stays behind the empty one.
    let with_trial = if path.is_empty() { TRIAL.to_owned() } else { format!("{TRIAL}, {path}") };
    execute(&mut savepoint, format!("create schema {TRIAL}; set local search_path = {with_trial}")).await?;
    run_script(&mut savepoint, files, STRUCTURE).await?;
    let shape = shape(&mut savepoint, TRIAL).await?;
    savepoint.rollback().await.map_err(v2)?;
    if shape.tables.is_empty() {
        return Err(Error::usage(format!(
            "{}: the file creates no table in the first schema of the search path",
            files.place(STRUCTURE)
        ))
        .help("write table names without a schema"));
    }
    Ok(shape)
}

/// What is wrong with the present tables, in sentences. More than is wanted is fine (the application may have grown),
/// as long as rows can still be written without it.
fn compare(wanted: &Shape, present: &Shape, owed: &[String]) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, labels) in &wanted.enums {
        let Some(there) = present.enums.get(name) else { continue };
        let missing: Vec<String> = labels.iter().filter(|label| !there.contains(label)).cloned().collect();
        if !missing.is_empty() {
            differences.push(format!("type {} lacks {}", quoted(name), list(&missing)));
        }
    }
    for (name, table) in &wanted.tables {
        let Some(there) = present.tables.get(name) else { continue };
        let name = quoted(name);
        for (column, wanted) in &table.columns {
            let place = format!("{name}.{}", quoted(column));
            let Some(there) = there.columns.get(column) else {
                differences.push(format!("column {place} is missing"));
                continue;
            };
            if there.kind != wanted.kind {
                differences.push(format!("column {place} is {}, not {}", there.kind, wanted.kind));
            } else if there.required != wanted.required {
                let (is, not) =
                    if there.required { ("NOT NULL", "nullable") } else { ("nullable", "NOT NULL") };
                differences.push(format!("column {place} is {is}, not {not}"));
            } else if wanted.filled && !there.filled {
                differences.push(format!("column {place} has no default"));
            }
        }
        for (column, extra) in &there.columns {
            if !table.columns.contains_key(column) && extra.required && !extra.filled {
                let place = format!("{name}.{}", quoted(column));
                differences
                    .push(format!("column {place} is NOT NULL without a default, and nothing fills it"));
            }
        }
        if !owed.iter().any(|table| quoted(table) == name) {
            differences.extend(table.keys.difference(&there.keys).map(|key| format!("{name} has no {key}")));
        }
    }
    differences
}

/// Reads a schema from the catalog.
async fn shape(conn: &mut PgConnection, schema: &str) -> Result<Shape> {
    let mut shape = Shape::default();
    let columns: Vec<(String, String, String, bool, bool)> =
        sqlx::query_as(COLUMNS).bind(schema).fetch_all(&mut *conn).await.map_err(v2)?;
    for (table, name, kind, required, filled) in columns {
        let table = shape.tables.entry(table).or_default();
        table.columns.insert(name, Column { kind, required, filled });
    }
    let keys: Vec<(String, String)> =
        sqlx::query_as(KEYS).bind(schema).fetch_all(&mut *conn).await.map_err(v2)?;
    for (table, key) in keys {
        shape.tables.entry(table).or_default().keys.insert(key);
    }
    let labels: Vec<(String, String)> =
        sqlx::query_as(LABELS).bind(schema).fetch_all(&mut *conn).await.map_err(v2)?;
    for (name, label) in labels {
        shape.enums.entry(name).or_default().push(label);
    }
    let objects: Vec<(String, String)> =
        sqlx::query_as(OBJECTS).bind(schema).fetch_all(&mut *conn).await.map_err(v2)?;
    shape.objects.extend(objects);
    Ok(shape)
}

const COLUMNS: &str = "
select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod),
       a.attnotnull, a.atthasdef or a.attidentity <> ''
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname = $1 and c.relkind in ('r', 'p')";

// By what they demand, not by name: a unique index and a unique constraint are the same promise. The property is
// read through json because servers before 15 lack the column.
const KEYS: &str = "
select c.relname::text,
       case when i.indisprimary then 'primary key (' else 'unique (' end
       || (select string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' order by k)
           from generate_series(1, i.indnkeyatts::int) k)
       || ')'
       || case when to_jsonb(i) ->> 'indnullsnotdistinct' = 'true' then ' nulls not distinct' else '' end
       || coalesce(' where ' || pg_get_expr(i.indpred, i.indrelid), '')
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and i.indisunique and c.relkind in ('r', 'p')";

const LABELS: &str = "
select t.typname::text, e.enumlabel::text
from pg_enum e
join pg_type t on t.oid = e.enumtypid
join pg_namespace n on n.oid = t.typnamespace
where n.nspname = $1
order by t.typname, e.enumsortorder";

// What a file can make that stands on its own: no sequence of an identity column, no row type of a table, nothing
// that an extension brought.
const OBJECTS: &str = "
select kind, name from (
  select case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' else 'table' end,
         quote_ident(c.relname), 'pg_class'::regclass, c.oid, c.relnamespace
  from pg_class c
  where c.relkind in ('r', 'p', 'v', 'm', 'S') and not c.relispartition
    and not (c.relkind = 'S' and exists (
      select from pg_depend d
      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')
        and d.refclassid = 'pg_class'::regclass))
  union all
  select 'type', quote_ident(t.typname), 'pg_type'::regclass, t.oid, t.typnamespace
  from pg_type t left join pg_class c on c.oid = t.typrelid
  where t.typtype in ('e', 'd', 'r') or c.relkind = 'c'
  union all
  select 'routine', quote_ident(p.proname) || '(' || oidvectortypes(p.proargtypes) || ')',
         'pg_proc'::regclass, p.oid, p.pronamespace
  from pg_proc p where p.prokind in ('f', 'p', 'w')
) o (kind, name, class, oid, namespace)
where namespace = (select oid from pg_namespace where nspname = $1)
  and not exists (select from pg_depend d where d.classid = o.class and d.objid = o.oid and d.deptype = 'e')";
