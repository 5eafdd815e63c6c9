//! How channels show a server of the user's own who they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::secret::Secret;

/// A name and its password.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// At most one of both.
#[derive(Clone, Copy)]
pub(super) struct Credentials<'s> {
    pub(super) token: Option<&'s Secret>,
    pub(super) basic: Option<&'s BasicAuth>,
}

impl Credentials<'_> {
    /// What can be seen at once. `named`: the user has set the header as well.
    pub(super) fn check(&self, named: bool) -> Result<(), String> {
        let given = [self.token.is_some(), self.basic.is_some(), named];
        if given.into_iter().filter(|given| *given).count() > 1 {
            return Err(
                "`token`, `basic_auth` and the header `authorization` exclude each other; \
                        keep one of them"
                    .to_owned(),
            );
        }
        self.add_to(&mut HeaderMap::new())
    }

    /// Sets the header `Authorization`.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) -> Result<(), String> {
        let credentials = match (self.token, self.basic) {
            (Some(token), _) => format!("Bearer {}", token.reveal()?),
            (None, Some(BasicAuth { username, password })) => {
                if username.contains(':') {
                    return Err("`username` has a colon in it, which HTTP forbids".to_owned());
                }
                format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.reveal()?)))
            }
            (None, None) => return Ok(()),
        };
        let mut value = HeaderValue::try_from(credentials)
            .map_err(|_| "`token` has characters that HTTP forbids".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }
}
