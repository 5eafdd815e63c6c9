//! Who is told about trouble with GPU leases, and how.
//!
//! `book` decides: it is a state machine without clock and I/O that groups alerts, mutes, repeats
//! and lets them climb. Channels only deliver what it wants delivered, and report what became of it.

#![forbid(unsafe_code)]

pub mod book;
pub mod channel;
pub mod channels;
mod desk;
pub mod http;
mod notification;
pub mod plan;
mod secret;
mod span;
mod text;

pub use channel::{Channel, Failure, Message, Reason};
pub use desk::Desk;
pub use notification::{Notification, NotifiedAlert, Status};
pub use secret::Secret;
pub use span::Span;
pub use text::{Markup, Text};
