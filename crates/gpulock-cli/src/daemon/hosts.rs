//! Names of servers: those under which this one may be asked, and whether a page belongs to
//! it.
//!
//! An address is always allowed. A page of another site can bind its own name to our address,
//! but then its name stands in `Host`.

use std::net::IpAddr;

use axum::http::Uri;
use axum::http::uri::Authority;

/// A name and a port as they stand in `Host`, in `Origin` or in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    name: String,
    port: Option<u16>,
}

impl Place {
    /// Reads `gpu1`, `gpu1:8788`, `127.0.0.1:8788`, `[::1]`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let is_plain = !text.is_empty() && !text.contains('@');
        Self::of(&text.parse().ok().filter(|_| is_plain)?)
    }

    /// The place in a request's target or in an origin.
    pub(super) fn of(authority: &Authority) -> Option<Self> {
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') && !port.is_empty() => Some(port.parse().ok()?),
            _ => None,
        };
        (!name.is_empty()).then_some(Self { name, port })
    }

    /// Whether it is an address or this host itself.
    pub(super) fn is_address(&self) -> bool {
        let bare = self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        bare.unwrap_or(&self.name).parse::<IpAddr>().is_ok() || self.name == "localhost"
    }

    /// Whether `self`, as it is configured, stands for `asked`: one without a port stands for
    /// every port.
    pub(super) fn covers(&self, asked: &Self) -> bool {
        self.name == asked.name && (self.port.is_none() || self.port == asked.port)
    }

    /// Whether `origin` (`https://gpu1:8788`) is this place.
    pub(super) fn is_origin(&self, origin: &str) -> bool {
        let Ok(uri) = origin.parse::<Uri>() else {
            return false;
        };
        let default = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return false,
        };
        let place = uri.authority().and_then(Self::of);
        place.is_some_and(|place| {
            place.name == self.name && place.port.unwrap_or(default) == self.port.unwrap_or(default)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_this_host_are_told_from_names() {
        for text in ["127.0.0.1", "127.0.0.1:8788", "[::1]", "[::1]:8788", "LOCALHOST.", "10.0.0.9"]
        {
            assert!(Place::read(text).unwrap().is_address(), "{text}");
        }
        for text in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0x7f.1"] {
            assert!(!Place::read(text).unwrap().is_address(), "{text}");
        }
        for text in ["", "a b", "user@127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", ":80", "a/b"]
        {
            assert_eq!(Place::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_configured_name_stands_for_every_port_unless_it_has_one() {
        let asked = Place::read("GPU1.example:8788").unwrap();
        for (configured, covers) in [
            ("gpu1.example", true),
            ("gpu1.example:8788", true),
            ("gpu1.example:80", false),
            ("gpu2.example", false),
            ("example", false),
        ] {
            assert_eq!(Place::read(configured).unwrap().covers(&asked), covers, "{configured}");
        }
    }

    #[test]
    fn an_origin_must_be_the_same_place() {
        for (host, origin, is_same) in [
            ("127.0.0.1:8788", "http://127.0.0.1:8788", true),
            ("gpu1", "https://gpu1", true),
            ("gpu1:443", "https://GPU1", true),
            ("gpu1:80", "https://gpu1", false),
            ("127.0.0.1:8788", "http://127.0.0.1:3000", false),
            ("127.0.0.1:8788", "http://evil.example", false),
            ("localhost:8788", "http://localhost.evil.example:8788", false),
            ("127.0.0.1:8788", "null", false),
            ("127.0.0.1:8788", "", false),
            ("127.0.0.1:8788", "file://127.0.0.1:8788", false),
        ] {
            assert_eq!(Place::read(host).unwrap().is_origin(origin), is_same, "{host} {origin}");
        }
    }
}
