//! Who is told about trouble with GPU leases, and how.
//!
//! `book` decides: it is a state machine without clock and I/O that groups alerts, mutes, repeats
//! and lets them climb. Channels only deliver what it wants delivered, and report what became of it.

#![forbid(unsafe_code)]

mod alerting;
pub mod book;
pub mod channel;
pub mod channels;
pub mod config;
mod desk;
mod dispatch;
pub mod http;
mod mute_times;
mod notification;
pub mod plan;
mod secret;
mod span;
mod switch;
mod template;
mod text;

pub use alerting::Alerting;
pub use book::Book;
pub use channel::{Channel, Failure, Message, Reason};
pub use desk::Desk;
pub use dispatch::{Dispatch, Round};
pub use mute_times::MuteTimes;
pub use notification::{Notification, NotifiedAlert, Status};
pub use secret::Secret;
pub use span::Span;
pub use switch::DeadMansSwitch;
pub use template::{Part, Template};
pub use text::{Markup, Text};
