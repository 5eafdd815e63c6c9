//! The library from outside, in one binary: the promises of its stores, leases and waiters on
//! real stores, stores that fail, files on bad days, and real processes that die.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod library {
    mod bad_files;
    mod critical;
    mod deliveries;
    mod direct;
    mod documents;
    mod endings;
    mod faults;
    mod leases;
    mod legacy_keys;
    mod process_liveness;
    mod processes;
    mod redis_addresses;
    mod redis_clock;
    mod redis_connections;
    mod redis_examination;
    mod redis_restarts;
    mod stores;
    mod support;
    mod tasks;
    mod waiting;
}
