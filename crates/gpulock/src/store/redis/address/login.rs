//! A user of a server.

use std::fmt;

use super::options::Options;
use super::written::decoded;

/// A user of a server and its password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    /// `None`: the server's default user.
    pub(crate) user: Option<String>,
    /// `None`: nobody logs in.
    pub(crate) password: Option<String>,
}

impl Login {
    /// `USER:PASSWORD` or `:PASSWORD`, or the same as options.
    pub(super) fn read(text: Option<&str>, options: &mut Options) -> Result<Self, String> {
        let (user, password) = match text.map(|text| text.split_once(':').ok_or(text)) {
            Some(Ok((user, password))) => (Some(decoded(user)?), Some(decoded(password)?)),
            Some(Err(user)) => (Some(decoded(user)?), None),
            None => (None, None),
        };
        let some = |text: &String| !text.is_empty();
        let user = options.take_or("user", user.filter(some))?;
        Self::of(user, options.take_or("password", password)?)
    }

    /// For Sentinels, which have users of their own.
    pub(super) fn of_sentinels(options: &mut Options) -> Result<Self, String> {
        Self::of(options.take("sentinel_user"), options.take("sentinel_password"))
    }

    fn of(user: Option<String>, password: Option<String>) -> Result<Self, String> {
        match (user.filter(|user| !user.is_empty()), password) {
            (Some(_), None) => Err("it names a user without a password; \
                                    write USER:@ if that user needs none"
                .to_owned()),
            (None, Some(password)) if password.is_empty() => Ok(Self::default()),
            (user, password) => Ok(Self { user, password }),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}
