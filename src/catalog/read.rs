//! The queries: one for each kind of thing, whatever the number of tables.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::{
    Catalog, Column, ForeignKey, Identity, Privileges, Sequence, Table, TableKind, Type, TypeKind, Unique,
};
use crate::error::{Error, Result};
use crate::plan::TableName;

const SESSION: &str = "select current_user::text, current_schemas(false)::text[]";

// `search_path` of the session stays as it is: format_type leaves out the schema of what is visible, as a user would.
const TYPES: &str = "
    select t.oid::int8, format_type(t.oid, null), t.typcategory::text, t.typtype::text, t.typnotnull,
           case when t.typtype = 'd' then t.typbasetype when t.typcategory = 'A' then t.typelem else 0 end::int8 as below,
           (select array_agg(e.enumlabel::text order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid) as labels
    from pg_type t
    where t.typtype <> 'p' and not exists (
        select from pg_class c where c.oid = t.typrelid and c.relkind <> 'c')";

const TABLES: &str = "
    select c.oid::int8, n.nspname::text, c.relname::text, c.relkind::text, row_security_active(c.oid),
           has_table_privilege(c.oid, 'select') or has_any_column_privilege(c.oid, 'select'),
           has_table_privilege(c.oid, 'insert'), has_table_privilege(c.oid, 'update'),
           has_table_privilege(c.oid, 'delete'), has_schema_privilege(n.oid, 'usage'),
           array(select t.tgname::text from pg_trigger t
                 where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled <> 'D' order by 1)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and (cardinality($1::text[]) = 0 or n.nspname = any($1))";

const COLUMNS: &str = "
    select a.attrelid::int8, a.attname::text, a.attnum, a.atttypid::int8, format_type(a.atttypid, a.atttypmod),
           a.attnotnull, a.atthasdef or t.typdefault is not null, a.attidentity::text, a.attgenerated::text
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_type t on t.oid = a.atttypid
    where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and (cardinality($1::text[]) = 0 or n.nspname = any($1))
    order by a.attrelid, a.attnum";

const UNIQUE: &str = "
    select i.indrelid::int8, c.relname::text, i.indisprimary, i.indpred is not null,
           case when i.indexprs is null then (i.indkey::int2[])[0:i.indnkeyatts - 1] else '{}' end::int2[]
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_namespace n on n.oid = c.relnamespace
    where i.indisunique and i.indisvalid and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and (cardinality($1::text[]) = 0 or n.nspname = any($1))
    order by c.relname";

const FOREIGN_KEYS: &str = "
    select k.conrelid::int8, k.conname::text, k.conkey, k.confrelid::int8, k.confkey, k.condeferrable
    from pg_constraint k
    join pg_namespace n on n.oid = k.connamespace
    where k.contype = 'f' and k.conparentid = 0
      and (cardinality($1::text[]) = 0 or n.nspname = any($1))
    order by k.conname";

const SEQUENCES: &str = "
    select n.nspname::text, c.relname::text, has_sequence_privilege(c.oid, 'usage'), d.refobjid::int8, a.attname::text
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
                         and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
    left join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where c.relkind = 'S' and n.nspname !~ '^pg_' and (cardinality($1::text[]) = 0 or n.nspname = any($1))
    order by 1, 2";

const CASTS: &str = "
    select format_type(castsource, null), format_type(casttarget, null) from pg_cast where castcontext in ('i', 'a')";

impl Catalog {
    /// Reads the structure of the tables in `schemas`; of all but the system's if there is none given.
    ///
    /// # Errors
    /// When the server does not answer; no privilege beyond CONNECT is needed.
    pub async fn read(conn: &mut PgConnection, schemas: &[&str]) -> Result<Self> {
        let schemas: Vec<String> = schemas.iter().map(|schema| (*schema).to_owned()).collect();
        let mut catalog = Self::default();
        let session: (String, Vec<String>) =
            sqlx::query_as(SESSION).fetch_one(&mut *conn).await.map_err(failed)?;
        (catalog.user, catalog.search_path) = session;
        catalog.read_types(conn).await?;
        let names = catalog.read_tables(conn, &schemas).await?;
        catalog.read_keys(conn, &schemas, &names).await?;
        catalog.casts =
            sqlx::query_as(CASTS).fetch_all(&mut *conn).await.map_err(failed)?.into_iter().collect();
        catalog.oids = names;
        Ok(catalog)
    }

    async fn read_types(&mut self, conn: &mut PgConnection) -> Result<()> {
        let mut rows = Vec::new();
        for row in sqlx::query(TYPES).fetch_all(conn).await.map_err(failed)? {
            rows.push(TypeRow {
                oid: get(&row, 0)?,
                name: get(&row, 1)?,
                category: get(&row, 2)?,
                kind: get(&row, 3)?,
                not_null: get(&row, 4)?,
                below: get(&row, 5)?,
                labels: get(&row, 6)?,
            });
        }
        let by_oid: HashMap<i64, &TypeRow> = rows.iter().map(|row| (row.oid, row)).collect();
        self.types =
            by_oid.keys().filter_map(|oid| Some((*oid as u32, resolve_type(*oid, &by_oid)?))).collect();
        Ok(())
    }

    async fn read_tables(
        &mut self,
        conn: &mut PgConnection,
        schemas: &[String],
    ) -> Result<HashMap<u32, TableName>> {
        let mut names = HashMap::new();
        for row in sqlx::query(TABLES).bind(schemas).fetch_all(&mut *conn).await.map_err(failed)? {
            let name = TableName { schema: get(&row, 1)?, name: get(&row, 2)? };
            let kind: String = get(&row, 3)?;
            let table = Table {
                kind: match kind.as_str() {
                    "p" => TableKind::Partitioned,
                    "v" | "m" => TableKind::View,
                    "f" => TableKind::Foreign,
                    _ => TableKind::Plain,
                },
                row_security: get(&row, 4)?,
                privileges: Privileges {
                    select: get(&row, 5)?,
                    insert: get(&row, 6)?,
                    update: get(&row, 7)?,
                    delete: get(&row, 8)?,
                },
                triggers: get(&row, 10)?,
                ..Table::default()
            };
            if !get::<bool>(&row, 9)? {
                self.closed_schemas.insert(name.schema.clone());
            }
            names.insert(get::<i64>(&row, 0)? as u32, name.clone());
            self.tables.insert(name, table);
        }
        for row in sqlx::query(COLUMNS).bind(schemas).fetch_all(&mut *conn).await.map_err(failed)? {
            let table = names.get(&(get::<i64>(&row, 0)? as u32)).and_then(|name| self.tables.get_mut(name));
            let data_type = self.types.get(&(get::<i64>(&row, 3)? as u32));
            let (Some(table), Some(data_type)) = (table, data_type) else { continue };
            let (identity, generated): (String, String) = (get(&row, 7)?, get(&row, 8)?);
            let identity = match identity.as_str() {
                "a" => Some(Identity::Always),
                "d" => Some(Identity::ByDefault),
                _ => None,
            };
            table.columns.push(Column {
                name: get(&row, 1)?,
                number: get(&row, 2)?,
                full_type: get(&row, 4)?,
                not_null: get::<bool>(&row, 5)? || matches!(data_type.kind, TypeKind::Domain(_, true)),
                has_default: get::<bool>(&row, 6)? || identity.is_some(),
                identity,
                generated: !generated.is_empty(),
                data_type: data_type.clone(),
            });
        }
        Ok(names)
    }

    async fn read_keys(
        &mut self,
        conn: &mut PgConnection,
        schemas: &[String],
        names: &HashMap<u32, TableName>,
    ) -> Result<()> {
        for row in sqlx::query(UNIQUE).bind(schemas).fetch_all(&mut *conn).await.map_err(failed)? {
            let table = names.get(&(get::<i64>(&row, 0)? as u32)).and_then(|name| self.tables.get_mut(name));
            let Some(table) = table else { continue };
            let unique = Unique {
                name: get(&row, 1)?,
                columns: column_names(table, &get::<Vec<i16>>(&row, 4)?),
                partial: get(&row, 3)?,
            };
            if get(&row, 2)? {
                table.primary_key = Some(unique.columns.clone());
            }
            table.unique.push(unique);
        }
        for row in sqlx::query(FOREIGN_KEYS).bind(schemas).fetch_all(&mut *conn).await.map_err(failed)? {
            let name =
                |index| -> Result<Option<&TableName>> { Ok(names.get(&(get::<i64>(&row, index)? as u32))) };
            let (Some(child), Some(parent)) = (name(0)?, name(3)?) else { continue };
            let columns_of = |name: &TableName, index| -> Result<Vec<String>> {
                let numbers: Vec<i16> = get(&row, index)?;
                Ok(self.tables.get(name).map(|table| column_names(table, &numbers)).unwrap_or_default())
            };
            let key = ForeignKey {
                name: get(&row, 1)?,
                columns: columns_of(child, 2)?,
                references: parent.clone(),
                referenced_columns: columns_of(parent, 4)?,
                deferrable: get(&row, 5)?,
            };
            if let Some(table) = self.tables.get_mut(child) {
                table.foreign_keys.push(key);
            }
        }
        for row in sqlx::query(SEQUENCES).bind(schemas).fetch_all(&mut *conn).await.map_err(failed)? {
            let table = get::<Option<i64>>(&row, 3)?.and_then(|oid| names.get(&(oid as u32)));
            let column: Option<String> = get(&row, 4)?;
            self.sequences.push(Sequence {
                name: TableName { schema: get(&row, 0)?, name: get(&row, 1)? },
                owner: table.cloned().zip(column),
                usage: get(&row, 2)?,
            });
        }
        Ok(())
    }
}

fn failed(error: sqlx::Error) -> Error {
    Error::database("reading the catalog", &error)
}

fn get<'r, T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>>(
    row: &'r PgRow,
    index: usize,
) -> Result<T> {
    row.try_get(index).map_err(failed)
}

fn column_names(table: &Table, numbers: &[i16]) -> Vec<String> {
    let name = |number: &i16| table.columns.iter().find(|column| column.number == *number);
    numbers.iter().filter_map(name).map(|column| column.name.clone()).collect()
}

/// A type before the types it is made of are filled in.
#[derive(Debug)]
struct TypeRow {
    oid: i64,
    name: String,
    category: String,
    kind: String,
    not_null: bool,
    /// A domain's base type, an array's element.
    below: i64,
    labels: Option<Vec<String>>,
}

/// Follows a domain to its base and an array to its element; Postgres lets neither go round in a circle.
fn resolve_type(oid: i64, rows: &HashMap<i64, &TypeRow>) -> Option<Type> {
    let row = rows.get(&oid)?;
    let below = || resolve_type(row.below, rows).map(Box::new);
    let kind = match (row.kind.as_str(), &row.labels) {
        ("e", labels) => TypeKind::Enum(labels.clone().unwrap_or_default()),
        ("d", _) => TypeKind::Domain(below()?, row.not_null),
        _ if row.category == "A" && row.below != 0 => TypeKind::Array(below()?),
        _ => TypeKind::Base,
    };
    Some(Type { name: row.name.clone(), category: row.category.chars().next().unwrap_or('X'), kind })
}
