//! The loop that carries entities from V1 to V2.
