//! What stands after the `?` of a URL.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::written::decoded;
use crate::config::edit_distance;

const NAMES: [&str; 13] = [
    "after_restart",
    "ca",
    "cert",
    "db",
    "key",
    "min_replicas",
    "password",
    "prefix",
    "replica_timeout",
    "sentinel_password",
    "sentinel_user",
    "tls",
    "user",
];

/// The options that nobody has taken yet.
pub(super) struct Options(BTreeMap<&'static str, String>);

impl Options {
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut options = BTreeMap::new();
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (name, value) =
                option.split_once('=').ok_or("an option is written NAME=VALUE".to_owned())?;
            let name =
                NAMES.into_iter().find(|known| *known == name).ok_or_else(|| unknown(name))?;
            if options.insert(name, decoded(value)?).is_some() {
                return Err(twice(name));
            }
        }
        Ok(Self(options))
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<String> {
        self.0.remove(name)
    }

    /// The option, or the same thing from elsewhere in the URL.
    pub(super) fn take_or(
        &mut self,
        name: &'static str,
        elsewhere: Option<String>,
    ) -> Result<Option<String>, String> {
        match (self.take(name), elsewhere) {
            (Some(_), Some(_)) => Err(twice(name)),
            (option, elsewhere) => Ok(option.or(elsewhere)),
        }
    }

    pub(super) fn take_switch(&mut self, name: &'static str) -> Result<bool, String> {
        match self.take(name).as_deref() {
            Some("true") => Ok(true),
            Some("false") | None => Ok(false),
            Some(_) => Err(format!("`{name}` is neither true nor false")),
        }
    }

    /// Refuses what has no meaning for the servers of this URL.
    pub(super) fn finish(self) -> Result<(), String> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name @ ("ca" | "cert" | "key" | "tls")) => Err(format!(
                "`{name}` is for TLS; write rediss://, or tls=true for Sentinels and clusters"
            )),
            Some(name) => Err(format!("`{name}` has no meaning for this kind of servers")),
        }
    }
}

pub(super) fn number<T: FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} is no number that can be meant"))
}

fn unknown(name: &str) -> String {
    let nearest = NAMES.into_iter().min_by_key(|known| edit_distance(known, name));
    let name: String = name.chars().take(40).collect();
    format!("it has no option `{name}`; the nearest is `{}`", nearest.unwrap_or_default())
}

fn twice(name: &str) -> String {
    format!("`{name}` stands in it twice")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::masked;

    #[test]
    fn only_passwords_are_masked() {
        for name in NAMES {
            let url = masked(&format!("redis://h?{name}=canary"));
            assert_eq!(url.contains("canary"), !name.contains("password"), "{url}");
        }
    }
}
