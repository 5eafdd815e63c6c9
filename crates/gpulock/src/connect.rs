//! From a store's URL to the store, and where the embedded one lies by default.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};

use crate::config::masked;
use crate::store::memory::MemoryStore;
use crate::store::{Store, StoreError};

/// The folder that all users of a host share, if somebody has made it for them.
const SHARED_FOLDER: &str = "/var/lib/gpulock";

/// The store that a URL names.
///
/// # Errors
/// [`StoreError::BadUrl`] if this program has no such store, and whatever opening it gives.
pub fn connect(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    let bad = |reason: &str| StoreError::BadUrl { url: masked(url), reason: reason.to_owned() };
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(MemoryStore::new())),
        #[cfg(feature = "sqlite")]
        Some(("sqlite", rest)) => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() || path.ends_with('/') {
                return Err(bad("it names no file"));
            }
            Ok(Arc::new(crate::store::sqlite::SqliteStore::open(Path::new(path))?))
        }
        #[cfg(feature = "redis")]
        Some(("redis" | "rediss" | "redis+unix" | "redis+sentinel" | "redis+cluster", _)) => {
            Ok(Arc::new(crate::store::redis::RedisStore::open(url)?))
        }
        #[cfg(feature = "http")]
        Some(("http" | "https", _)) => Ok(Arc::new(crate::store::http::HttpStore::open(url)?)),
        _ => Err(bad("its scheme is unknown")),
    }
}

/// Where the embedded store lies if nobody says otherwise, and who shares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultPlace {
    /// In the folder that all users of the host share.
    Shared(PathBuf),
    /// In the user's own state folder, because there is no shared folder.
    Private(PathBuf),
    /// In the user's own state folder although there is a shared one, which this user may
    /// not write: others use that one and are not seen.
    Excluded(PathBuf),
}

impl DefaultPlace {
    /// Looks for it. The user's state folder is `$XDG_STATE_HOME/gpulock`, else
    /// `~/.local/state/gpulock`.
    pub fn find(environment: impl Fn(&str) -> Option<String>) -> Self {
        let shared = Path::new(SHARED_FOLDER);
        let file = Path::new("gpulock.db");
        if access(shared, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
            return Self::Shared(shared.join(file));
        }
        let state = environment("XDG_STATE_HOME").filter(|folder| folder.starts_with('/'));
        let home = || environment("HOME").unwrap_or_else(|| "/".to_owned());
        let state = state.map_or_else(|| Path::new(&home()).join(".local/state"), PathBuf::from);
        let own = state.join("gpulock").join(file);
        if shared.is_dir() { Self::Excluded(own) } else { Self::Private(own) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Shared(path) | Self::Private(path) | Self::Excluded(path) => path,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    /// Makes the user's own folder, readable by nobody else. The shared one is made by an
    /// administrator or not at all.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn prepare(&self) -> Result<(), StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        let (Self::Private(path) | Self::Excluded(path)) = self else { return Ok(()) };
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            StoreError::NotWritable { place: path.display().to_string(), reason: error.to_string() }
        })
    }

    /// What the user should know about who shares it, if it is not everybody.
    pub fn notice(&self) -> Option<String> {
        let make = format!(
            "`sudo install -d -m 2770 -g GROUP {SHARED_FOLDER}` makes one for all users in GROUP"
        );
        match self {
            Self::Shared(_) => None,
            Self::Private(path) => Some(format!(
                "{} is private to you; other users of this host have stores of their own\nhint: {make}",
                path.display()
            )),
            Self::Excluded(path) => Some(format!(
                "you may not write {SHARED_FOLDER}, so {} is used, which is private to you: jobs of other users are not seen\nhint: ask for write access to {SHARED_FOLDER}, or set GPULOCK_STORE",
                path.display()
            )),
        }
    }
}
