//! A local command.
