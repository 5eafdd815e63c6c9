//! Why a configuration cannot be used.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::file::LARGEST_FILE;
use super::origin::Origin;

/// Why a configuration cannot be used. Each text completes "failed to …".
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is missing, a folder, or may not be read.
    #[error("read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("read the configuration file {}: it is larger than {LARGEST_FILE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what YAML calls a mapping.
    #[error("understand {place}: {reason}")]
    Malformed {
        /// Where it went wrong.
        place: Origin,
        /// What is wrong there.
        reason: String,
        /// What would be right.
        hint: &'static str,
    },
    /// A section of ours holds a key that does not exist.
    #[error("understand {place}: there is no key `{key}`; the nearest is `{nearest}`")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        place: Origin,
        /// The most similar key, spelled as that place spells keys.
        nearest: String,
    },
    /// A key stands twice in one mapping.
    #[error("understand {place}: `{key}` stands in line {first} already")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where it stands again.
        place: Origin,
        /// The line where it stands first.
        first: usize,
    },
    /// A value is not of its key's kind.
    #[error("understand {place}: `{key}` {reason}")]
    WrongValue {
        /// The key.
        key: String,
        /// Where the value stands.
        place: Origin,
        /// What is wrong with it; never a secret.
        reason: String,
        /// What would be right.
        hint: String,
    },
    /// `${NAME}` without a default, and no such variable.
    #[error(
        "understand {place}: `{key}` uses the environment variable {variable}, which is not set"
    )]
    UnsetVariable {
        /// The key.
        key: String,
        /// Where its value stands.
        place: Origin,
        /// Name of the variable.
        variable: String,
    },
}

impl ConfigError {
    /// A way out, where one is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { path, source } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "name another with --config or GPULOCK_CONFIG, or create it".to_owned()
                }
                io::ErrorKind::IsADirectory => {
                    format!(
                        "name the file inside it, such as {}",
                        path.join("config.yml").display()
                    )
                }
                io::ErrorKind::PermissionDenied => {
                    "let this user read it, or name another with --config".to_owned()
                }
                _ => return None,
            },
            Self::TooLarge { .. } => {
                "check that this is the configuration; name another with --config".to_owned()
            }
            Self::Malformed { hint, .. } => (*hint).to_owned(),
            Self::UnknownKey { nearest, .. } => {
                format!("write `{nearest}` if that is meant, or remove it")
            }
            Self::DuplicateKey { .. } => "keep one of the two".to_owned(),
            Self::WrongValue { hint, .. } => hint.clone(),
            Self::UnsetVariable { variable, .. } => {
                format!("set it, or write a default as ${{{variable}:DEFAULT}}")
            }
        })
    }
}
