//! The live structure of a database: tables, columns, types, keys, foreign keys.
