//! The channels: one file for each kind. Each has `Settings`, the part of the configuration that is
//! its own, and opens with them.

pub mod alertmanager;
pub mod command;
mod credentials;
pub mod dingtalk;
pub mod email;
pub mod feishu;
pub mod file;
pub mod log;
pub mod pagerduty;
mod robot;
pub mod slack;
pub mod webhook;
pub mod wecom;

pub use credentials::BasicAuth;

use crate::http::Poster;

/// What channels need to open besides their own settings.
#[derive(Clone, Debug)]
pub struct Around {
    /// The channel's name in the configuration.
    pub name: String,
    /// Asks servers of others, as this channel may.
    pub poster: Poster,
}
