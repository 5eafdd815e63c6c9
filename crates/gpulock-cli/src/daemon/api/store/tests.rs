//! The library's HTTP store against a daemon that runs in this process.

mod answers;
mod documents;
mod outages;
mod promises;
mod served;
mod tls;
mod tokens;
mod wake_ups;
