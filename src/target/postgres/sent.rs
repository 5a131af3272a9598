//! What is sent to bring records up to date, or to compare them: the lines of a write as a table `sent` that a statement can
//! join with V2's own.

use std::collections::BTreeSet;

use crate::plan::Write;
use crate::row::{Lines, Rows};
use crate::target::{Keeps, Update};

/// Lines of a write with the rows that they came from.
pub(super) struct Sent {
    rows: Vec<u32>,
    lines: Rows,
}

impl Sent {
    /// The lines of the wanted rows (ascending).
    pub fn of(write: &Write, lines: &Lines, wanted: &[u32]) -> Self {
        let mut sent = Self { rows: Vec::new(), lines: Rows::new(write.columns.len()) };
        for (row, line) in lines.with_rows().filter(|(row, _)| wanted.binary_search(row).is_ok()) {
            if sent.lines.push(line) {
                sent.rows.push(row);
            }
        }
        sent
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes the lines of some rows out.
    pub fn leave_out(&mut self, rows: &BTreeSet<u32>) {
        let mut lines = Rows::new(self.lines.width());
        let mut left = Vec::new();
        for (at, row) in self.rows.iter().enumerate().filter(|(_, row)| !rows.contains(row)) {
            lines.push(self.lines.row(at).line());
            left.push(*row);
        }
        (self.rows, self.lines) = (left, lines);
    }

    /// The lines as a table `sent`: `n`, the flags of what stays, and one column for each of the write.
    pub fn from(&self, write: &Write) -> String {
        let arrays: Vec<_> =
            (4..write.columns.len() + 4).map(|number| format!("${number}::text[]")).collect();
        let aliases: Vec<_> = (0..write.columns.len()).map(|i| format!("c{i}")).collect();
        format!(
            "unnest($1::int[], $2::bool[], $3::bool[], {}) as sent(n, email, phone, {})",
            arrays.join(", "),
            aliases.join(", ")
        )
    }

    /// The values, column by column.
    pub fn columns(&self) -> impl Iterator<Item = Vec<Option<String>>> + '_ {
        (0..self.lines.width()).map(|column| {
            let value = |row| self.lines.row(row).text(column).map(std::borrow::Cow::into_owned);
            (0..self.lines.len()).map(value).collect()
        })
    }

    fn keeps(&self, update: &Update, of: fn(&Keeps) -> bool) -> Vec<bool> {
        self.rows.iter().map(|&row| update.keeps.get(row as usize).is_some_and(of)).collect()
    }

    fn numbers(&self) -> Vec<i32> {
        self.rows.iter().map(|&row| row as i32).collect()
    }

    /// Binds what [`Sent::from`] needs, as the first parameters of a query.
    pub fn bind<'q, O>(
        &self,
        update: &Update,
        query: sqlx::query::QueryAs<'q, sqlx::Postgres, O, sqlx::postgres::PgArguments>,
    ) -> sqlx::query::QueryAs<'q, sqlx::Postgres, O, sqlx::postgres::PgArguments> {
        let query = query.bind(self.numbers());
        let query =
            query.bind(self.keeps(update, |keeps| keeps.email)).bind(self.keeps(update, |keeps| keeps.phone));
        self.columns().fold(query, |query, values| query.bind(values))
    }

    /// As [`Sent::bind`].
    pub fn bind_query<'q>(
        &self,
        update: &Update,
        query: sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
        let query = query.bind(self.numbers());
        let query =
            query.bind(self.keeps(update, |keeps| keeps.email)).bind(self.keeps(update, |keeps| keeps.phone));
        self.columns().fold(query, |query, values| query.bind(values))
    }
}
