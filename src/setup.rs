//! Prepares V2: schema, reference data, control schema.
