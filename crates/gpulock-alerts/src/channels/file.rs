//! A file of JSON lines.
