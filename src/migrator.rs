//! What the engine runs for one entity.
