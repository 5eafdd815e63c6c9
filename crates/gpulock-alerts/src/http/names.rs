//! Looking names up, so that only addresses come out that channels may ask.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::addresses::{Refusal, refusal};

/// The system's own look-up.
#[derive(Debug)]
pub(super) struct SystemNames;

/// Leaves out of what others find the addresses that channels must not ask. The connection goes to
/// what is left, and to nothing else.
pub(super) struct Guarded {
    pub(super) names: Arc<dyn Resolve>,
    pub(super) allow_private: bool,
}

/// A name that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAddress {
    /// It has no addresses.
    #[error("its name cannot be looked up: {0}")]
    Unknown(String),
    /// All of its addresses are refused; this is the first.
    #[error("{0}")]
    Forbidden(Refusal),
}

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, allow_private) = (self.names.resolve(name), self.allow_private);
        Box::pin(async move {
            let found = found.await.map_err(|error| NoAddress::Unknown(error.to_string()))?;
            let allowed = allowed(found, allow_private)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("allow_private", &self.allow_private).finish()
    }
}

fn allowed(found: Addrs, allow_private: bool) -> Result<Vec<SocketAddr>, NoAddress> {
    let (mut allowed, mut refused) = (Vec::new(), None);
    for address in found {
        match refusal(address.ip(), allow_private) {
            None => allowed.push(address),
            Some(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(refusal) => Err(NoAddress::Forbidden(refusal)),
        None => Err(NoAddress::Unknown("it has no address".to_owned())),
    }
}
