//! Definitions, checked against both live catalogs.
