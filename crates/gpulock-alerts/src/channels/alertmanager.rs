//! Alertmanager, by its API version 2.
