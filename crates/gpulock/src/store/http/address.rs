//! The URL of a `gpulock serve`, taken apart: `http[s]://[:TOKEN@]HOST[:PORT]`, and for
//! `https` the options `ca`, `cert` and `key` after a `?`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::tls::Tls;
use super::token::Token;
use super::wire;
use crate::config::{edit_distance, masked};
use crate::store::StoreError;

const OPTIONS: [&str; 3] = ["ca", "cert", "key"];

/// Where a daemon is and how it is asked.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// For people: the URL without any secret.
    pub(super) shown: String,
    /// Where the store's paths begin, without credentials.
    root: Url,
    /// `None`: nobody asks for one, we hope.
    pub(super) token: Option<Token>,
    /// `None`: no TLS.
    pub(super) tls: Option<Tls>,
}

impl Address {
    /// Reads a URL, and once the files that it or the environment names.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] with the part that is wrong. It repeats no secret.
    pub(super) fn parse(
        url: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, StoreError> {
        Self::read(url, environment)
            .map_err(|reason| StoreError::BadUrl { url: masked(url), reason })
    }

    /// The URL of one of the store's paths.
    pub(super) fn path(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.root.clone();
        url.set_path(&format!("{}/{path}", wire::ROOT));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// The name by which the daemon is called.
    pub(super) fn host(&self) -> &str {
        self.root.host_str().unwrap_or_default()
    }

    fn read(url: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '#');
        let (_, rest) = url.split_once("://").ok_or("`://` is missing after its scheme")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A token with such a sign would end where the sign stands.
        if rest.contains(odd)
            || query.contains('@')
            || place.split_once('/').is_some_and(|(_, path)| path.contains('@'))
        {
            return Err("a sign stands where it cannot; \
                        write `@`, `/`, `?`, `#`, `%` and `\\` in a token as \
                        %40, %2F, %3F, %23, %25 and %5C"
                .to_owned());
        }
        let mut root = Url::parse(url).map_err(|_| "its host or port makes no sense")?;
        if !matches!(root.path(), "" | "/") {
            return Err("it has a path; write http://HOST:PORT alone".to_owned());
        }
        let token = Token::find(token_in(&root)?.as_deref(), environment)?;
        let tls = tls(root.scheme() == "https", query)?;
        root.set_query(None);
        // These fail for URLs without a host alone.
        let _ = (root.set_username(""), root.set_password(None));
        Ok(Self { shown: masked(url), root, token, tls })
    }
}

/// The password of the URL.
fn token_in(url: &Url) -> Result<Option<Cow<'_, str>>, String> {
    match (url.username(), url.password()) {
        ("", None | Some("")) => Ok(None),
        ("", Some(token)) => {
            let token = percent_decode_str(token).decode_utf8();
            token.map(Some).map_err(|_| "its token is not UTF-8 after its percent signs".to_owned())
        }
        _ => Err("it names a user; the token stands alone: http://:TOKEN@HOST:PORT".to_owned()),
    }
}

fn tls(is_https: bool, query: &str) -> Result<Option<Tls>, String> {
    let mut options = BTreeMap::new();
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').ok_or("an option is written NAME=VALUE")?;
        let name = OPTIONS.into_iter().find(|known| *known == name).ok_or_else(|| unknown(name))?;
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| "an option is not UTF-8 after its percent signs")?;
        if options.insert(name, value.into_owned()).is_some() {
            return Err(format!("`{name}` stands in it twice"));
        }
    }
    match (is_https, options.keys().next()) {
        (true, _) => Tls::read(&mut options).map(Some),
        (false, None) => Ok(None),
        (false, Some(name)) => Err(format!("`{name}` is for TLS; write https://")),
    }
}

fn unknown(name: &str) -> String {
    let nearest = OPTIONS.into_iter().min_by_key(|known| edit_distance(known, name));
    let name: String = name.chars().take(40).collect();
    format!("it has no option `{name}`; the nearest is `{}`", nearest.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Address, String> {
        Address::read(url, |_| None)
    }

    #[test]
    fn the_parts_of_a_url() {
        for (url, path, token) in [
            ("http://gpu1:8788", "http://gpu1:8788/api/v1/store/pools", None),
            ("http://gpu1:8788/", "http://gpu1:8788/api/v1/store/pools", None),
            ("http://:@gpu1", "http://gpu1/api/v1/store/pools", None),
            ("http://:a%40b%2Fc@[::1]:80", "http://[::1]/api/v1/store/pools", Some("a@b/c")),
            ("https://:t+t@h:1", "https://h:1/api/v1/store/pools", Some("t+t")),
        ] {
            let address = read(url).unwrap();
            assert_eq!(address.path("pools", &[]).as_str(), path);
            let found = address.token.map(|token| token.reveal().to_owned());
            assert_eq!(found.as_deref(), token, "{url}");
            assert_eq!(address.tls.is_some(), url.starts_with("https"), "{url}");
        }
        let query = [("pool", "a".to_owned()), ("task", "ä &=?".to_owned())];
        let url = read("http://h").unwrap().path("history", &query);
        assert_eq!(url.query(), Some("pool=a&task=%C3%A4+%26%3D%3F"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, reason) in [
            ("http:h", "`://` is missing"),
            ("http://", "host or port"),
            ("http://h:x", "host or port"),
            ("http://h:70000", "host or port"),
            ("http://::1", "host or port"),
            ("http://h/api", "it has a path"),
            ("http://me:pw@h", "the token stands alone"),
            ("http://token@h", "the token stands alone"),
            ("http://:to/ken@h", "%40, %2F"),
            ("http://:to?ken@h", "%40, %2F"),
            ("http://:to#ken@h", "%40, %2F"),
            ("http://:to\\ken@h", "%40, %2F"),
            ("http://:t%ff@h", "not UTF-8"),
            ("http://:t%C3%A4@h", "no HTTP header can carry"),
            ("http://:t%0d%0aX:y@h", "no HTTP header can carry"),
            ("http://h?ca=/ca.pem", "write https://"),
            ("https://h?cq=/ca.pem", "no option `cq`; the nearest is `ca`"),
            ("https://h?ca", "NAME=VALUE"),
            ("https://h?ca=/nowhere.pem", "/nowhere.pem cannot be read: No such file"),
            ("https://h?ca=/dev/null", "/dev/null holds no certificate"),
            ("https://h?cert=/c.pem", "belong together"),
            ("https://h?ca=/dev/null&ca=/dev/null", "stands in it twice"),
        ] {
            let said = read(url).map(|_| ()).unwrap_err();
            assert!(said.contains(reason), "{url}: {said}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        for url in [
            "http://:canary@h:8788",
            "http://:canary@h:x",
            "http://canary@h",
            "http://u:canary@h",
            "http://:ca/canary@h",
            "http://:ca?canary@h",
            "http://:ca?x=canary@h",
            "http://:ca#canary@h",
            "http://:canary@h/path",
            "http://:canary%ff@h",
            "http://:canary%0a@h",
            "http://:canary",
            "https://:canary@h?ca=/nowhere.pem",
            "https://h?token=canary",
            "http:canary@h",
        ] {
            let said = match Address::parse(url, |_| None) {
                Ok(address) => format!("{address:?} {}", address.shown),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!said.contains("canary"), "{url}: {said}");
        }
    }
}
