//! Alerts: which events and figures are worth telling somebody, and how urgent they are.
//!
//! Who is told, when and how is not decided here: that is the crate `gpulock-alerts`.

mod labels;
mod urgency;

pub use labels::{Fingerprint, Labels};
pub use urgency::{UnknownUrgency, Urgency};
