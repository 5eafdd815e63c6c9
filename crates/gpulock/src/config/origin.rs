//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// A configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the value; for a list or a mapping, that of its key. The first is 1.
        line: usize,
    },
    /// The environment.
    Environment {
        /// Name of the variable; names with commas where several made the value.
        variable: String,
    },
    /// A flag of the command line.
    Flag,
}

/// One line of `gpulock config show`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names from the top, with dots between: `gpu_lock.poll_interval`.
    pub path: String,
    /// The effective value, secrets masked.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Origin {
    /// The same place, at another line if it has lines.
    pub(super) fn at_line(self, line: Option<usize>) -> Self {
        match (self, line) {
            (Self::File { path, .. }, Some(line)) => Self::File { path, line },
            (origin, _) => origin,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}
