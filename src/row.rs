//! One row of V1 in COPY text.
