//! Lock keys beside a store, as an older system keeps them: whoever sets the key of a GPU
//! may use it, until the key is deleted or runs out.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// The lock keys in the database of a store.
#[async_trait]
pub trait LockKeys: fmt::Debug + Send + Sync {
    /// Sets a key if it is free, and extends it if it is ours.
    async fn take(&self, claim: &Claim<'_>) -> Result<Taken, StoreError>;

    /// Deletes a key if it is ours, and tells those who listen. `false` if it is not.
    async fn free(&self, key: &str, value: &str, news: &str) -> Result<bool, StoreError>;

    /// Hears of everybody who frees this key, from now on.
    async fn listen(&self, key: &str) -> Result<Box<dyn Releases>, StoreError>;
}

/// How a key is to be set.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Which.
    pub key: &'a str,
    /// What nobody else sets it to.
    pub value: &'a str,
    /// How long it lasts unless it is extended.
    pub span: Duration,
    /// What stands there and may be replaced; `None`: nothing may.
    pub instead_of: Option<&'a str>,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The key is ours.
    Ours,
    /// It is somebody else's.
    Others {
        /// What stands there.
        value: String,
        /// How long it lasts; `None`: for ever.
        left: Option<Duration>,
    },
}

/// News of a key.
#[async_trait]
pub trait Releases: fmt::Debug + Send {
    /// Returns when somebody has freed the key, or when that may have gone unheard.
    async fn next(&mut self);
}
