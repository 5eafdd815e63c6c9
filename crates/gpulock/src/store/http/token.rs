//! The bearer token: where it comes from, and what is never shown.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, fs};

use reqwest::header::HeaderValue;

/// The token itself.
const VARIABLE: &str = "GPULOCK_HTTP_TOKEN";

/// A file with the token.
const FILE_VARIABLE: &str = "GPULOCK_HTTP_TOKEN_FILE";

/// No token is longer.
const LARGEST_FILE: u64 = 4_096;

/// A token, and where it was found. Clones share the token that a file holds at present.
#[derive(Clone)]
pub(super) struct Token {
    secret: Arc<Mutex<String>>,
    origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Url,
    Variable,
    File(PathBuf),
}

impl Token {
    /// That of the URL, or of the environment. `None`: there is none.
    ///
    /// # Errors
    /// The place and what is wrong with it; never the token.
    pub(super) fn find(
        in_url: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let value = |name| environment(name).filter(|text| !text.trim().is_empty());
        let (secret, origin) = if let Some(secret) = in_url {
            (secret.to_owned(), Origin::Url)
        } else if let Some(secret) = value(VARIABLE) {
            (secret.trim().to_owned(), Origin::Variable)
        } else if let Some(path) = value(FILE_VARIABLE) {
            (content(Path::new(&path))?, Origin::File(path.into()))
        } else {
            return Ok(None);
        };
        let token = Self { secret: Arc::new(Mutex::new(secret)), origin };
        match token.header() {
            Some(_) => Ok(Some(token)),
            None => Err(format!(
                "the token {token} has a sign that no HTTP header can carry; \
                 write it in letters, digits and ASCII signs"
            )),
        }
    }

    /// As the header `Authorization` carries it.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let secret = self.reveal();
        let visible = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        let mut header = HeaderValue::from_str(&format!("Bearer {secret}")).ok()?;
        header.set_sensitive(true);
        visible.then_some(header)
    }

    /// Looks whether the file holds another token by now.
    pub(super) fn renew(&self) -> bool {
        let Origin::File(path) = &self.origin else { return false };
        let Ok(secret) = content(path) else { return false };
        let mut present = self.secret.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *present != secret;
        *present = secret;
        is_new
    }

    /// The token itself.
    pub(super) fn reveal(&self) -> String {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn content(path: &Path) -> Result<String, String> {
    let place = format!("{} (from {FILE_VARIABLE})", path.display());
    let unreadable = |error| format!("{place} cannot be read: {error}");
    // A file such as /dev/zero never ends.
    if fs::metadata(path).map_err(unreadable)?.len() > LARGEST_FILE {
        return Err(format!("{place} is too long for a token"));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    match text.trim() {
        "" => Err(format!("{place} is empty")),
        secret => Ok(secret.to_owned()),
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Url => f.write_str("in the URL"),
            Origin::Variable => write!(f, "in {VARIABLE}"),
            Origin::File(path) => write!(f, "in {}", path.display()),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_goes_before_the_variable_and_that_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "in file\n").unwrap();
        let found = |in_url: Option<&str>, variables: &[(&str, &str)]| {
            let set = |name: &str| {
                variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            };
            Token::find(in_url, set)
        };
        let file = file.to_str().unwrap();
        let both = [(VARIABLE, " in-variable "), (FILE_VARIABLE, file)];
        let secret = |token: Result<Option<Token>, String>| token.unwrap().unwrap().reveal();
        assert_eq!(secret(found(Some("in-url"), &both)), "in-url");
        assert_eq!(secret(found(None, &both)), "in-variable");
        assert!(found(None, &[(FILE_VARIABLE, file)]).unwrap_err().contains("no HTTP header"));
        fs::write(file, "in-file\n").unwrap();
        let token = found(None, &[(VARIABLE, ""), (FILE_VARIABLE, file)]).unwrap().unwrap();
        assert_eq!(token.reveal(), "in-file");
        assert!(!token.renew());
        fs::write(file, "another").unwrap();
        assert!(token.clone().renew());
        assert_eq!(token.reveal(), "another");
        assert!(!format!("{token} {token:?}").contains("another"));
        assert!(found(None, &[]).unwrap().is_none());
        let missing = found(None, &[(FILE_VARIABLE, "/nowhere/token")]).unwrap_err();
        assert!(missing.contains("/nowhere/token (from GPULOCK_HTTP_TOKEN_FILE)"), "{missing}");
    }
}
