//! What `setup --clean` shows before it asks: everything that an earlier setup made, and what is in it.

/// A table that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanTable {
    /// Schema and table, as SQL writes them; in MongoDB the collection.
    pub name: String,
    /// Rows or documents in it now.
    pub rows: u64,
}

/// What `setup --clean` would remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanPlan {
    /// V2's database: what the user types to agree.
    pub database: String,
    /// Tables, with what is in them; those of v1v2 itself too.
    pub tables: Vec<CleanTable>,
    /// Everything else, in words: `type "Sex"`.
    pub others: Vec<String>,
}

impl CleanPlan {
    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.others.is_empty()
    }

    /// Rows in all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}
