//! Where the daemon is, and how it is called.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::{Certificate, Client, Method, RequestBuilder, Url};

use crate::config::masked;
use crate::store::StoreError;

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(3);

/// How long an answer may take.
const ANSWERING: Duration = Duration::from_secs(10);

/// A stream of letters has a sign of life more often than this.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// The daemon's address, with the connections to it.
#[derive(Clone)]
pub(super) struct Address {
    /// The URL without its token.
    pub(super) shown: String,
    base: Url,
    token: Option<String>,
    client: Client,
}

impl Address {
    /// Reads a URL; `environment` may have the token.
    pub(super) fn read(
        url: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, StoreError> {
        let bad = |reason: String| StoreError::BadUrl { url: masked(url), reason };
        let mut base = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if base.host_str().is_none_or(str::is_empty) || base.path() != "/" {
            return Err(bad("it is not http://HOST:PORT".to_owned()));
        }
        let token = match (base.password(), base.username()) {
            (Some(token), "") => Some(percent_decode_str(token).decode_utf8_lossy().into_owned()),
            (None, "") => token_of(environment).map_err(bad)?,
            _ => return Err(bad("the token stands as a password, http://:TOKEN@HOST".to_owned())),
        };
        if token.as_ref().is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic())) {
            return Err(bad("its token has characters that no token has".to_owned()));
        }
        let mut client = Client::builder()
            .connect_timeout(CONNECTING)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .no_proxy();
        for (name, value) in base.query_pairs() {
            let pem = match &*name {
                "ca" => std::fs::read(&*value),
                other => return Err(bad(format!("its option `{other}` is unknown"))),
            };
            let pem = pem.map_err(|error| bad(format!("{value} cannot be read: {error}")))?;
            let authority = Certificate::from_pem(&pem);
            client = client.add_root_certificate(
                authority.map_err(|_| bad(format!("{value} holds no certificate (PEM)")))?,
            );
        }
        base.set_query(None);
        // Neither can fail for a URL with a host.
        let _ = (base.set_password(None), base.set_username(""));
        // Whoever was first has chosen the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = client.build().map_err(|error| bad(error.to_string()))?;
        let shown = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { shown, base, token, client })
    }

    /// Whether others on the way can listen.
    pub(super) fn is_open(&self) -> bool {
        let is_here = matches!(self.base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        self.base.scheme() == "http" && !is_here
    }

    /// A call that is answered soon.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.stream(method, path).timeout(ANSWERING)
    }

    /// A call whose answer goes on for long.
    pub(super) fn stream(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}api/v1/store/{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

fn token_of(environment: impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    if let Some(token) = environment("GPULOCK_HTTP_TOKEN").filter(|token| !token.is_empty()) {
        return Ok(Some(token));
    }
    let Some(file) = environment("GPULOCK_HTTP_TOKEN_FILE").filter(|file| !file.is_empty()) else {
        return Ok(None);
    };
    match std::fs::read_to_string(&file) {
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(error) => Err(format!("GPULOCK_HTTP_TOKEN_FILE: {file} cannot be read: {error}")),
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Address, String> {
        Address::read(url, |_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_is_taken_out_of_the_url_and_never_shown() {
        let address = read("http://:s%40cret@gpu1:8788").expect("an address");
        assert_eq!(address.token.as_deref(), Some("s@cret"));
        assert_eq!(address.shown, "http://gpu1:8788");
        assert!(!format!("{address:?}").contains("cret"));
    }

    #[test]
    fn a_token_may_stand_in_the_environment_or_in_a_file() {
        let variable = |name: &str| (name == "GPULOCK_HTTP_TOKEN").then(|| "one".to_owned());
        let address = Address::read("http://gpu1:8788", variable).expect("an address");
        assert_eq!(address.token.as_deref(), Some("one"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "two\n").expect("a file that can be written");
        let path = file.path().display().to_string();
        let variable = |name: &str| (name == "GPULOCK_HTTP_TOKEN_FILE").then(|| path.clone());
        let address = Address::read("https://gpu1", variable).expect("an address");
        assert_eq!(address.token.as_deref(), Some("two"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secrets() {
        for url in [
            "http://",
            "http://user:s3cret@gpu1:8788",
            "http://:s3cret@gpu1:8788/path",
            "http://:s3cret@gpu1:8788?cas=file",
            "http://:s3cret@gpu1:8788?ca=/no/such/file",
            "http://:s3%0Acret@gpu1:8788",
        ] {
            let error = read(url).expect_err(url);
            assert!(!error.contains("s3"), "{error}");
        }
    }
}
