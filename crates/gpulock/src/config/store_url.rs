//! The URL of a store, which may hold a password.

use std::fmt;

use super::raw::Wrong;

const MASK: &str = "***";

/// The options of a URL that are no secret.
const SHOWN: [&str; 11] = [
    "after_restart",
    "ca",
    "cert",
    "db",
    "key",
    "min_replicas",
    "prefix",
    "replica_timeout",
    "sentinel_user",
    "tls",
    "user",
];

/// The URL of a store. `Display` and `Debug` mask its password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The whole URL with its password, for the one who connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Takes what looks like a URL; whether a store answers to it is found out by opening
    /// it. No reason repeats any of the text.
    pub(super) fn read(text: &str) -> Result<Self, Wrong> {
        let hint = "write for instance sqlite:///var/lib/gpulock/gpulock.db or redis://host:6379/0";
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(allowed) {
            return Err(Wrong::new("does not begin with the scheme of a URL", hint));
        }
        if text.contains(char::is_whitespace) {
            return Err(Wrong::new("is a URL with blanks in it", "write a blank as %20"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The store that the older application used: a Redis server by host, port, password
    /// and database.
    pub(super) fn of_redis(host: &str, port: u16, password: Option<&str>, database: u32) -> Self {
        let password = password.map(|it| format!(":{}@", percent_encoded(it))).unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Self(format!("redis://{password}{host}:{port}/{database}"))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// The URL without its password and other secrets, also where it is written wrongly.
pub(crate) fn masked(url: &str) -> String {
    let shown = match url.split_once("://") {
        // The name of a file is no secret.
        _ if url.starts_with("sqlite:") => url.to_owned(),
        None if url.contains(['@', '?']) => MASK.to_owned(),
        None => url.to_owned(),
        Some((scheme, rest)) => match rest.split_once('?') {
            // Nobody can tell what is a part of the password here.
            Some((_, query)) if query.contains('@') => format!("{scheme}://{MASK}"),
            Some((place, query)) => {
                format!("{scheme}://{}?{}", masked_credentials(place), masked_query(query))
            }
            None => format!("{scheme}://{}", masked_credentials(rest)),
        },
    };
    shown.replace(char::is_control, "\u{fffd}")
}

/// Masks up to the last `@`, so that a password with signs in it that should have been
/// encoded (`/`, `@`) is not shown in part. A name without a password may be a token, and
/// what stands in the place of a port but is none may be a password without its host.
fn masked_credentials(rest: &str) -> String {
    let Some((credentials, place)) = rest.rsplit_once('@') else {
        return if has_odd_port(rest) { MASK.to_owned() } else { rest.to_owned() };
    };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{user}:{MASK}@{place}"),
        None => format!("{MASK}@{place}"),
    }
}

fn has_odd_port(place: &str) -> bool {
    let hosts = place.split('/').next().unwrap_or_default();
    hosts.split(',').any(|host| {
        let behind_address = host.rsplit(']').next().unwrap_or_default();
        let port = behind_address.split_once(':').map_or("", |(_, port)| port);
        !port.chars().all(|c| c.is_ascii_digit())
    })
}

/// Masks all options but those that are no secret: any other one may be a misspelt password.
fn masked_query(query: &str) -> String {
    let masked = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if SHOWN.contains(&name) => pair.to_owned(),
        Some((name, _)) => format!("{name}={MASK}"),
        None => MASK.to_owned(),
    };
    query.split('&').map(masked).collect::<Vec<_>>().join("&")
}

/// Encodes all but the unreserved characters of RFC 3986, section 2.3.
fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        for (url, shown) in [
            ("redis://h:6379/0", "redis://h:6379/0"),
            ("redis://me:pw@h/0", "redis://me:***@h/0"),
            ("rediss://:p/w@x@h:1/0", "rediss://:***@h:1/0"),
            ("redis://:p?w=1@h/0", "redis://***"),
            ("redis://h/0?Password=p@w", "redis://***"),
            ("http://:TOKEN@h:8788", "http://:***@h:8788"),
            ("http://TOKEN@h:8788", "http://***@h:8788"),
            (
                "redis+unix:///run/r.sock?db=1&password=pw",
                "redis+unix:///run/r.sock?db=1&password=***",
            ),
            ("redis://h/0?db=1&pasword=pw", "redis://h/0?db=1&pasword=***"),
            ("redis://me:pw", "redis://***"),
            ("redis://a:1,[::1]:2,[::1],b/x", "redis://a:1,[::1]:2,[::1],b/x"),
            ("redis:pw@h", "***"),
            ("redis://h\u{1b}[2J", "redis://h\u{fffd}[2J"),
            ("sqlite:///a@b/c?d.db", "sqlite:///a@b/c?d.db"),
            ("sqlite:///a/b.db", "sqlite:///a/b.db"),
            ("memory:", "memory:"),
        ] {
            let url = StoreUrl::read(url).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("StoreUrl({shown})"));
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for text in ["/var/pw.db", "host", ":pw", "re dis://pw", "redis://pw host"] {
            let wrong = StoreUrl::read(text).unwrap_err();
            assert!(!format!("{wrong:?}").contains("pw"), "{wrong:?}");
        }
    }

    #[test]
    fn the_older_redis_becomes_a_url() {
        let url = |host, password| StoreUrl::of_redis(host, 6379, password, 3).reveal().to_owned();
        assert_eq!(url("redis", None), "redis://redis:6379/3");
        assert_eq!(url("::1", Some("a/b@c")), "redis://:a%2Fb%40c@[::1]:6379/3");
    }
}
