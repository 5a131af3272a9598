//! Generates the example V1: the only place that knows the example.
