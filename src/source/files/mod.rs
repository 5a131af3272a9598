//! Files as sources: CSV and JSON become temporary tables of the connection that reads V1, and then they are SQL like
//! everything else: joined with V1's tables, converted by its functions, read in key order within its snapshot.
//!
//! Cells are text unless the definition gives them a type, so that nothing is guessed: `007` stays `007`. What a file says is
//! handed to Postgres as COPY text, so a value that is none of its type is refused by the server that knows the type.

mod delimited;
mod json;
mod sink;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, SqlSafeStr};
use tokio::sync::mpsc::{Receiver, channel};

use self::sink::Sink;
use super::quoted;
use crate::definition::problem::did_you_mean;
use crate::error::{Error, Result};

/// The column that every such table has besides: the record's number in its file, from 1.
pub const ROW: &str = "_row";

/// Spreadsheets put it before the first column's name.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Postgres keeps no longer names (NAMEDATALEN - 1 bytes) and cuts them without a word.
const LONGEST_NAME: usize = 63;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Records of cells, the first one with the columns' names (RFC 4180), with this byte between cells.
    Delimited(u8),
    /// Objects: in one array, or one after the other (NDJSON).
    Json,
}

/// A file, and the table that it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTable {
    /// The name of the temporary table.
    pub table: String,
    /// The file.
    pub path: PathBuf,
    /// How it is written.
    pub format: Format,
    /// Postgres's name of its encoding.
    pub encoding: String,
    /// The types of columns that are not text: name and type.
    pub types: Vec<(String, String)>,
}

/// How much of the files is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// The tables, empty: enough to prepare queries.
    Columns,
    /// All.
    Rows,
}

/// Makes the tables. Before a snapshot is taken, in whose read-only transaction no table can be made.
///
/// # Errors
/// Usage: a file cannot be read or does not hold what its definition says; with its path, and the record. Or what V1 says.
pub async fn load(v1: &mut PgConnection, place: &str, files: &[FileTable], what: Load) -> Result<()> {
    for file in files {
        let columns = file.columns_in_order().await?;
        execute(v1, place, "begin read write").await?;
        let made = file.make(v1, place, &columns, what).await;
        let end = if made.is_ok() { "commit" } else { "rollback" };
        let ended = execute(v1, place, end).await;
        // The first error explains the second one.
        if let Some(rows) = made? {
            tracing::info!(rows, "{} was read as the table {}", file.path.display(), file.table);
        }
        ended?;
    }
    Ok(())
}

impl FileTable {
    /// An error about the file.
    fn wrong(&self, what: impl std::fmt::Display) -> Error {
        Error::usage(format!("{}: {what}", self.path.display()))
    }

    fn wrong_at(&self, record: u64, what: impl std::fmt::Display) -> Error {
        self.wrong(format!("record {record}: {what}"))
    }

    fn open(&self) -> Result<BufReader<File>> {
        let file = File::open(&self.path).map_err(|error| {
            self.wrong(format!(
                "this file, which is the source of the table {}, cannot be read: {error}",
                self.table
            ))
            .help("give its path in `[[source.file]]`, from the folder of the definition")
        })?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let begins = file.fill_buf().map_err(|error| self.wrong(format!("it cannot be read: {error}")))?;
        if begins.starts_with(BYTE_ORDER_MARK) {
            file.consume(BYTE_ORDER_MARK.len());
        }
        Ok(file)
    }

    /// The columns' names as the file has them, in the file's order and encoding.
    async fn columns_in_order(&self) -> Result<Vec<Vec<u8>>> {
        let file = self.clone();
        let columns = blocking(move || match file.format {
            Format::Delimited(delimiter) => delimited::columns(&file, delimiter),
            Format::Json => json::columns(&file),
        });
        columns.await
    }

    /// Makes the table; how many rows it has, if they were asked for.
    async fn make(
        &self,
        v1: &mut PgConnection,
        place: &str,
        columns: &[Vec<u8>],
        what: Load,
    ) -> Result<Option<u64>> {
        let mut names: Vec<String> = Vec::new();
        for column in columns {
            names.push(self.decoded(v1, column).await?);
        }
        self.check_names(&names)?;
        // What no object of a JSON file has today may be there tomorrow.
        if self.format == Format::Json {
            let more = self.types.iter().map(|(name, _)| name.clone());
            let more: Vec<String> = more.filter(|name| !names.contains(name)).collect();
            names.extend(more);
        }
        self.create(v1, place, &names).await?;
        if what == Load::Columns {
            return Ok(None);
        }
        let rows = self.fill(v1, place, &names).await?;
        execute(v1, place, &format!("analyze pg_temp.{}", quoted(&self.table))).await?;
        Ok(Some(rows))
    }

    /// A column's name.
    async fn decoded(&self, v1: &mut PgConnection, name: &[u8]) -> Result<String> {
        let decoded: sqlx::Result<String> = sqlx::query_scalar("select convert_from($1, $2)")
            .bind(name)
            .bind(&self.encoding)
            .fetch_one(v1)
            .await;
        decoded.map_err(|error| match error {
            sqlx::Error::Database(error) => self
                .wrong(format!("a column's name is not written in {}: {}", self.encoding, error.message()))
                .help("say in which encoding the file is written: `encoding = \"WIN1252\"`, for one"),
            error => Error::database("V1, reading a file", &error),
        })
    }

    fn check_names(&self, names: &[String]) -> Result<()> {
        for (index, name) in names.iter().enumerate() {
            let number = index + 1;
            if name.is_empty() {
                return Err(self.wrong(format!("column {number} has no name")));
            }
            if name.len() > LONGEST_NAME {
                let what = format!(
                    "the name of column {number} is longer than {LONGEST_NAME} bytes, which Postgres cuts"
                );
                return Err(self.wrong(what).help("shorten it in the file"));
            }
            if name == ROW {
                let what = format!("column {number} is named {ROW}, as the number that each record gets");
                return Err(self.wrong(what).help("rename it in the file"));
            }
            if names[..index].contains(name) {
                return Err(self.wrong(format!("two columns are named `{name}`")).help("rename one of them"));
            }
        }
        let missing = |(name, _): &&(String, String)| !names.contains(name);
        // A JSON object leaves out what it has no value for.
        match self.types.iter().find(missing) {
            Some((name, _)) if self.format != Format::Json => {
                let hint = did_you_mean(name, names.iter().map(String::as_str));
                let hint = hint.map_or_else(
                    || format!("it has {}", names.join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                Err(self
                    .wrong(format!(
                        "the definition gives column `{name}` a type, and the file has no such column"
                    ))
                    .help(hint))
            }
            _ => Ok(()),
        }
    }

    async fn create(&self, v1: &mut PgConnection, place: &str, names: &[String]) -> Result<()> {
        // A temporary table would hide V1's own, from this connection alone.
        let taken: Option<String> = sqlx::query_scalar("select to_regclass($1)::text")
            .bind(quoted(&self.table))
            .fetch_one(&mut *v1)
            .await
            .map_err(|error| Error::database(place, &error))?;
        if taken.is_some() {
            return Err(Error::usage(format!(
                "{place} has a table {} of its own, so {} cannot become one of that name",
                self.table,
                self.path.display()
            ))
            .help("give the file another `table`"));
        }
        let columns: Vec<String> =
            names.iter().map(|name| format!("{} {}", quoted(name), self.type_of(name))).collect();
        let sql = format!(
            "create temporary table {} ({} bigint not null{}{})",
            quoted(&self.table),
            quoted(ROW),
            if columns.is_empty() { "" } else { ", " },
            columns.join(", ")
        );
        // Not as a script: a type cannot hold a second statement.
        let made = sqlx::query(AssertSqlSafe(sql).into_sql_str()).execute(v1).await;
        made.map(drop).map_err(|error| {
            let told = Error::database(place, &error);
            match told.sqlstate() {
                Some("42501") => told.help(
                    "files become temporary tables of V1, for which its user needs the right: GRANT TEMPORARY ON DATABASE … TO …",
                ),
                Some("25006") => told.help(
                    "files become temporary tables of V1, which a standby cannot have: use the primary",
                ),
                Some("42704" | "42601") => self.wrong(format!("V1 does not know a type of its columns: {}", told.message())),
                _ => told,
            }
        })
    }

    fn type_of(&self, name: &str) -> &str {
        self.types.iter().find(|(column, _)| column == name).map_or("text", |(_, type_name)| type_name)
    }

    async fn fill(&self, v1: &mut PgConnection, place: &str, names: &[String]) -> Result<u64> {
        let columns: Vec<String> =
            std::iter::once(ROW).chain(names.iter().map(String::as_str)).map(quoted).collect();
        let sql = format!(
            "copy pg_temp.{} ({}) from stdin (encoding '{}')",
            quoted(&self.table),
            columns.join(", "),
            self.encoding
        );
        let failed = |error: sqlx::Error| self.refused(place, names, &error);
        let (sender, mut portions) = channel(4);
        let (file, columns) = (self.clone(), names.to_vec());
        let reading = tokio::spawn(blocking(move || {
            let mut sink = Sink::new(sender);
            match file.format {
                Format::Delimited(delimiter) => delimited::read(&file, delimiter, &mut sink)?,
                Format::Json => json::read(&file, &columns, &mut sink)?,
            }
            sink.end()
        }));
        let mut copy = v1.copy_in_raw(&sql).await.map_err(failed)?;
        let sent = send(&mut copy, &mut portions).await;
        // Whoever still reads finds nobody who listens.
        drop(portions);
        let read =
            reading.await.unwrap_or_else(|error| Err(Error::failed(format!("internal error: {error}"))));
        match (sent, read) {
            // V1's refusal is why the reader could not go on.
            (Err(error), _) => Err(failed(error)),
            (Ok(()), Err(error)) => {
                drop(copy.abort("the file cannot be read").await);
                Err(error)
            }
            (Ok(()), Ok(())) => copy.finish().await.map_err(failed),
        }
    }

    /// What V1 says of a record, without the value, which may be anybody's name.
    fn refused(&self, place: &str, names: &[String], error: &sqlx::Error) -> Error {
        let told = Error::database(place, error);
        let sqlx::Error::Database(database) = error else { return told };
        let context = database.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::r#where);
        let at = context.and_then(|text| text.split_once(", line ")).map(|(_, rest)| rest);
        let record = at.and_then(|rest| rest.split([',', ':']).next()?.trim().parse::<u64>().ok());
        let (Some(at), Some(record)) = (at, record) else { return told };
        if told.sqlstate() == Some("22021") {
            return self
                .wrong_at(
                    record,
                    format!("a cell is not written in {}, or holds a NUL character", self.encoding),
                )
                .help("say in which encoding the file is written: `encoding = \"WIN1252\"`, for one");
        }
        let column = names.iter().find(|name| {
            at.split_once(", column ").is_some_and(|(_, rest)| rest.starts_with(&format!("{name}:")))
        });
        match column {
            Some(name) => self
                .wrong_at(record, format!("the cell of column `{name}` is no {}", self.type_of(name)))
                .help("correct it, or leave the column as text and convert it in the query"),
            None => self.wrong_at(record, told.message()),
        }
    }
}

async fn send(
    copy: &mut sqlx::postgres::PgCopyIn<&mut PgConnection>,
    portions: &mut Receiver<Vec<u8>>,
) -> sqlx::Result<()> {
    while let Some(portion) = portions.recv().await {
        copy.send(portion).await?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::failed(format!("internal error: {error}"))))
}

async fn execute(v1: &mut PgConnection, place: &str, sql: &str) -> Result<()> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(v1).await;
    done.map(drop).map_err(|error| Error::database(place, &error))
}

/// How a file is written, by the end of its name; `None` if that tells nothing.
pub fn format_of(path: &Path) -> Option<Format> {
    let end = path.extension()?.to_str()?.to_ascii_lowercase();
    Some(match end.as_str() {
        "csv" => Format::Delimited(b','),
        "tsv" | "tab" => Format::Delimited(b'\t'),
        "json" | "ndjson" | "jsonl" => Format::Json,
        _ => return None,
    })
}

/// How a file may be written: in UTF-8, or with one byte for each character, so that no character holds a byte that means
/// something between cells. Names as in Postgres's list of character sets.
pub const ENCODINGS: &[&str] = &[
    "UTF8",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
    "LATIN7",
    "LATIN8",
    "LATIN9",
    "LATIN10",
    "ISO_8859_5",
    "ISO_8859_6",
    "ISO_8859_7",
    "ISO_8859_8",
    "KOI8R",
    "KOI8U",
    "WIN866",
    "WIN874",
    "WIN1250",
    "WIN1251",
    "WIN1252",
    "WIN1253",
    "WIN1254",
    "WIN1255",
    "WIN1256",
    "WIN1257",
    "WIN1258",
];
