//! The rows of the table, in order. One measures several figures where they come from the
//! same run.

mod arrival;
mod bytes;
mod crash;
mod hand_over;
mod memory;
mod pair;
mod renewals;
mod rest;
mod tight;

/// By name.
pub(crate) const ALL: [(&str, fn()); 9] = [
    ("pair", pair::measure),
    ("hand-over", hand_over::measure),
    ("rest", rest::measure),
    ("crash", crash::measure),
    ("arrival", arrival::measure),
    ("bytes", bytes::measure),
    ("memory", memory::measure),
    ("tight", tight::measure),
    ("renewals", renewals::measure),
];
