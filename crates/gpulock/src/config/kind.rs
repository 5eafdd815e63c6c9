//! The kinds of values: how each is read from what was written, and how it is shown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::gpus::{self, Gpus};
use super::on_store_error::OnStoreError;
use super::raw::{Raw, Wrong};
use super::server_token::ServerToken;
use super::span;
use super::store_url::StoreUrl;
use super::unexamined::Unexamined;

/// How values of one kind are read and shown.
pub(super) struct Kind<T> {
    /// The unit of bare numbers, or nothing.
    pub(super) unit: &'static str,
    /// Whether such a value can only stand in the file.
    pub(super) only_in_file: bool,
    /// Makes the value of what was written.
    pub(super) read: fn(&Raw) -> Result<T, Wrong>,
    /// The value for people, secrets masked.
    pub(super) show: fn(&T) -> String,
}

impl<T> Kind<T> {
    const fn new(read: fn(&Raw) -> Result<T, Wrong>, show: fn(&T) -> String) -> Self {
        Self { unit: "", only_in_file: false, read, show }
    }

    const fn with_unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }
}

pub(super) const SPAN: Kind<Duration> =
    Kind::new(|raw| span::read_positive(raw.text()?), span::show).with_unit("seconds");

pub(super) const SPAN_OR_ZERO: Kind<Duration> =
    Kind::new(|raw| span::read(raw.text()?), span::show).with_unit("seconds");

pub(super) const OPTIONAL_SPAN: Kind<Option<Duration>> = Kind::new(
    |raw| raw.optional_text()?.map(span::read_positive).transpose(),
    |span| span.as_ref().map_or_else(not_set, span::show),
)
.with_unit("seconds");

pub(super) const SWITCH: Kind<bool> = Kind::new(|raw| switch(raw.text()?), bool::to_string);

pub(super) const COUNT: Kind<u32> = Kind::new(|raw| count(raw.text()?, 1), u32::to_string);

pub(super) const COUNT_OR_ZERO: Kind<u32> = Kind::new(|raw| count(raw.text()?, 0), u32::to_string);

pub(super) const RATE: Kind<f64> = Kind::new(|raw| rate(raw.text()?), f64::to_string);

pub(super) const STORE: Kind<Option<StoreUrl>> = Kind::new(
    |raw| raw.optional_text()?.map(StoreUrl::read).transpose(),
    |url| url.as_ref().map_or_else(not_set, StoreUrl::to_string),
);

pub(super) const POOL: Kind<String> = Kind::new(|raw| pool(raw.text()?), String::clone);

pub(super) const GPUS: Kind<Gpus> = Kind::new(gpus::read, Gpus::to_string);

pub(super) const ON_STORE_ERROR: Kind<OnStoreError> =
    Kind::new(|raw| OnStoreError::read(raw.text()?), OnStoreError::to_string);

pub(super) const PATH: Kind<PathBuf> =
    Kind::new(|raw| Ok(PathBuf::from(raw.text()?)), |path| path.display().to_string());

pub(super) const OPTIONAL_PATH: Kind<Option<PathBuf>> = Kind::new(
    |raw| Ok(raw.optional_text()?.map(PathBuf::from)),
    |path| path.as_ref().map_or_else(not_set, |path| path.display().to_string()),
);

pub(super) const LISTEN: Kind<SocketAddr> =
    Kind::new(|raw| listen(raw.text()?), SocketAddr::to_string);

pub(super) const TOKENS: Kind<Vec<ServerToken>> =
    Kind::new(|raw| raw.each(ServerToken::read), |tokens| joined(tokens));

pub(super) const HOSTS: Kind<Vec<String>> = Kind::new(|raw| raw.each(host), |hosts| joined(hosts));

pub(super) const UNEXAMINED: Kind<Option<Unexamined>> = Kind {
    only_in_file: true,
    ..Kind::new(Unexamined::read, |section| match section {
        Some(_) => "set".to_owned(),
        None => not_set(),
    })
};

/// The words of YAML 1.1 count too: the older system read its file with PyYAML.
pub(super) fn switch(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(Wrong::value(text, "neither true nor false", "write `true` or `false`")),
    }
}

fn count(text: &str, least: u32) -> Result<u32, Wrong> {
    text.parse().ok().filter(|count| *count >= least).ok_or_else(|| {
        let hint = format!("write a whole number, {least} or larger");
        Wrong::value(text, "not such a number", hint)
    })
}

fn rate(text: &str) -> Result<f64, Wrong> {
    text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate)).ok_or_else(|| {
        Wrong::value(text, "not a rate", "write a share from 0 to 1, such as 0.8 for 80 %")
    })
}

/// The name becomes part of lock keys (`gpu_lock:<pool>/<gpu>`) and of Redis keys
/// (`gpulock:{<pool>}:`), so their own signs are no part of it.
fn pool(text: &str) -> Result<String, Wrong> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.len() <= 64 && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    let hint = "use at most 64 of the letters a-z and A-Z, digits, `.`, `_` and `-`";
    Err(Wrong::value(text, "not the name of a pool", hint))
}

fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let hint = "write a numeric address and a port, such as 127.0.0.1:8788 or [::1]:8788";
        Wrong::value(text, "not an address to listen on", hint)
    })
}

fn host(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || "/@?#".contains(c)) {
        let hint = "write it as it stands in a Host header, such as gpu1.example.org";
        return Err(Wrong::value(text, "not a host name", hint));
    }
    Ok(text.to_owned())
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn not_set() -> String {
    "not set".to_owned()
}
