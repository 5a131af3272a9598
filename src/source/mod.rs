//! Reads V1: one snapshot, COPY out in key order.
