//! The lock keys of older workers: plain strings in the store's database, without its
//! prefix, and one channel for each.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use redis::aio::PubSub;

use super::address::Address;
use super::link::{Link, Script};
use super::{dial, trouble};
use crate::store::StoreError;
use crate::store::lock_keys::{Claim, LockKeys, Releases, Taken};

static TAKE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("take_key.lua").to_owned()));

static FREE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("free_key.lua").to_owned()));

/// Between two attempts to listen again.
const PAUSE: Duration = Duration::from_secs(1);

/// The lock keys in the database of a Redis store.
#[derive(Debug)]
pub(super) struct RedisLockKeys {
    link: Arc<Link>,
}

impl RedisLockKeys {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    fn misread(&self, key: &str) -> StoreError {
        let place = self.link.place().to_owned();
        StoreError::Unreadable { place, reason: format!("the key `{key}` is no lock key") }
    }
}

#[async_trait]
impl LockKeys for RedisLockKeys {
    async fn take(&self, claim: &Claim<'_>) -> Result<Taken, StoreError> {
        let mut call = TAKE.call(&[claim.key.to_owned()]);
        let millis = u64::try_from(claim.span.as_millis()).unwrap_or(u64::MAX);
        call.arg(claim.value).arg(millis).arg(claim.instead_of.unwrap_or_default());
        let line = self.link.line().await?;
        let answered = self.link.run_on(&line, &TAKE, call).await?;
        let found: Option<(Vec<u8>, i64)> = match answered.value {
            redis::Value::Array(parts) if parts.is_empty() => None,
            other => Some(redis::from_redis_value(other).map_err(|_| self.misread(claim.key))?),
        };
        let Some((value, left)) = found else {
            // Whoever does not see it after a fail-over would work beside us.
            self.link.confirm(&line).await?;
            return Ok(Taken::Ours);
        };
        let left = u64::try_from(left).ok().map(Duration::from_millis);
        Ok(Taken::Others { value: String::from_utf8_lossy(&value).into_owned(), left })
    }

    async fn free(&self, key: &str, value: &str, news: &str) -> Result<bool, StoreError> {
        let mut call = FREE.call(&[key.to_owned()]);
        call.arg(value).arg(channel(key)).arg(news);
        let answered = self.link.run(&FREE, call).await?;
        redis::from_redis_value(answered.value).map_err(|_| self.misread(key))
    }

    async fn listen(&self, key: &str) -> Result<Box<dyn Releases>, StoreError> {
        let address = self.link.address();
        let channel = channel(key);
        let heard = dial::dial_subscription(address, &channel)
            .await
            .map_err(|error| trouble::failed(address, &error))?;
        Ok(Box::new(RedisReleases { address: address.clone(), channel, heard: Some(heard) }))
    }
}

/// Where older workers tell that they have freed a key.
fn channel(key: &str) -> String {
    format!("gpu_lock:{key}")
}

/// A channel that is listened to, again and again where the connection breaks.
struct RedisReleases {
    address: Address,
    channel: String,
    /// `None` while the connection is down.
    heard: Option<PubSub>,
}

#[async_trait]
impl Releases for RedisReleases {
    async fn next(&mut self) {
        loop {
            let Some(heard) = &mut self.heard else {
                tokio::time::sleep(PAUSE).await;
                self.heard = dial::dial_subscription(&self.address, &self.channel).await.ok();
                if self.heard.is_some() {
                    // What was sent while nobody listened is gone.
                    return;
                }
                continue;
            };
            let message = heard.on_message().next().await;
            match message {
                None => self.heard = None,
                Some(message) if is_release(message.get_payload_bytes()) => return,
                Some(_) => {}
            }
        }
    }
}

/// Whether a message says that the key came free. One that cannot be understood may.
fn is_release(text: &[u8]) -> bool {
    let told: Option<serde_json::Value> = serde_json::from_slice(text).ok();
    let kind = told.as_ref().and_then(|told| told.get("event_type")).and_then(|kind| kind.as_str());
    kind.is_none_or(|kind| kind == "lock_released")
}

impl std::fmt::Debug for RedisReleases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisReleases").field("channel", &self.channel).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::is_release;

    #[test]
    fn releases_are_told_from_other_news() {
        assert!(is_release(br#"{"event_type": "lock_released", "lock_key": "gpu_lock:0"}"#));
        assert!(is_release(b"free"));
        assert!(is_release(b"{}"));
        assert!(!is_release(br#"{"event_type": "lock_acquired"}"#));
    }
}
