//! The log of the daemon.
