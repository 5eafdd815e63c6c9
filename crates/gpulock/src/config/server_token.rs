//! Bearer tokens of the HTTP server.

use std::fmt;
use std::path::PathBuf;

use super::raw::Wrong;

/// One bearer token, and what its bearer may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerToken {
    /// What the bearer may do.
    pub role: Role,
    /// The secret that the bearer shows.
    pub secret: TokenSecret,
}

/// What a bearer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ask.
    Read,
    /// Ask, and change.
    Operate,
}

/// Where the secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSecret {
    /// In the configuration itself.
    Here(Secret),
    /// Alone in this file.
    File(PathBuf),
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for comparing.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ServerToken {
    /// Reads `role:secret` or `role:@file`. No reason repeats any of the text.
    pub(super) fn read(text: &str) -> Result<Self, Wrong> {
        let hint = "write `read:SECRET`, `operate:SECRET` or `operate:@FILE`";
        let role = |name: &str| match name {
            "read" => Some(Role::Read),
            "operate" => Some(Role::Operate),
            _ => None,
        };
        let parts = text.split_once(':').and_then(|(name, secret)| Some((role(name)?, secret)));
        let Some((role, secret)) = parts else {
            return Err(Wrong::new("has a token that does not begin with a role", hint));
        };
        let secret = match secret.strip_prefix('@') {
            Some(file) if !file.is_empty() => TokenSecret::File(file.into()),
            None if !secret.is_empty() => TokenSecret::Here(Secret(secret.to_owned())),
            _ => return Err(Wrong::new("has a token without a secret", hint)),
        };
        Ok(Self { role, secret })
    }
}

impl fmt::Display for ServerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Read => "read",
            Role::Operate => "operate",
        };
        match &self.secret {
            TokenSecret::Here(_) => write!(f, "{role}:***"),
            TokenSecret::File(path) => write!(f, "{role}:@{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_and_never_printed() {
        let token = ServerToken::read("operate:s3cr:et").unwrap();
        assert!(matches!(&token.secret, TokenSecret::Here(secret) if secret.reveal() == "s3cr:et"));
        assert_eq!(token.to_string(), "operate:***");
        assert!(!format!("{token:?}").contains("s3cr"));
    }

    #[test]
    fn a_file_is_named() {
        let token = ServerToken::read("read:@/run/token").unwrap();
        assert_eq!((token.role, token.to_string()), (Role::Read, "read:@/run/token".to_owned()));
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        for text in ["s3cret", "admin:s3cret", "read:", "read:@", ":s3cret"] {
            let wrong = ServerToken::read(text).unwrap_err();
            assert!(!format!("{wrong:?}").contains("s3cret"), "{wrong:?}");
        }
    }
}
