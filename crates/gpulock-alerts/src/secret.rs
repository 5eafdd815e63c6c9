//! Secrets of channels: in the configuration, or alone in a file.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

/// A secret of a channel, never printed: the text itself, or `@FILE` for one that stands alone in a
/// file. The file is read at every use, so a secret can be changed without a restart.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(Place);

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Here(String),
    File(PathBuf),
}

impl Secret {
    /// The secret itself, without blanks and line breaks around it.
    ///
    /// # Errors
    /// One sentence, if its file cannot be read or holds nothing.
    pub fn reveal(&self) -> Result<String, String> {
        let path = match &self.0 {
            Place::Here(text) => return Ok(text.clone()),
            Place::File(path) => path,
        };
        let shown = path.display();
        let text = fs::read_to_string(path)
            .map_err(|error| format!("the secret in {shown} cannot be read: {error}"))?;
        match text.trim() {
            "" => Err(format!("{shown} holds no secret")),
            text => Ok(text.to_owned()),
        }
    }
}

impl TryFrom<String> for Secret {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.trim();
        match text.strip_prefix('@') {
            Some("") => Err("`@` without the name of a file".to_owned()),
            Some(file) => Ok(Self(Place::File(file.into()))),
            None if text.is_empty() => Err("an empty secret".to_owned()),
            None => Ok(Self(Place::Here(text.to_owned()))),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Here(_) => f.write_str("***"),
            Place::File(path) => write!(f, "@{}", path.display()),
        }
    }
}
