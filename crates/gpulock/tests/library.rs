//! The library from outside, in one binary: the promises of its stores, leases and waiters on
//! real stores, stores that fail, files on bad days, and real processes that die.

mod library {
    mod stores;
}
