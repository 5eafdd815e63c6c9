//! The connection that listens: one channel for a process.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use gpulock_core::Channel;
use redis::aio::PubSub;

use super::address::Address;
use super::{dial, trouble};
use crate::store::{Award, Letter, Mailbox, StoreError, letter};
use crate::stored::jittered;

/// Whoever asks for a GPU is not kept waiting for longer than this by wake-ups.
const CONFIRMING: Duration = Duration::from_secs(1);

/// Between two attempts to listen again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A channel that is listened to, again and again where the connection breaks.
pub(super) struct Subscription {
    channel: Channel,
    address: Address,
    /// `None` while the connection is down.
    heard: Option<PubSub>,
}

impl Subscription {
    /// Listens from now on, if the server confirms it soon; otherwise as soon as it does.
    ///
    /// # Errors
    /// If the server will never do so as it is set up.
    pub(super) async fn open(address: &Address, channel: Channel) -> Result<Self, StoreError> {
        let mut subscription = Self { channel, address: address.clone(), heard: None };
        match tokio::time::timeout(CONFIRMING, subscription.listen()).await {
            Ok(Err(error)) if !error.is_transient() => Err(error),
            _ => Ok(subscription),
        }
    }

    async fn listen(&mut self) -> Result<(), StoreError> {
        let listening = dial::dial_subscription(&self.address, &self.channel.0).await;
        self.heard = Some(listening.map_err(|error| trouble::failed(&self.address, &error))?);
        Ok(())
    }

    async fn listen_again(&mut self) {
        let mut pause = Duration::from_millis(20);
        while self.listen().await.is_err() {
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[async_trait]
impl Mailbox for Subscription {
    fn channel(&self) -> Channel {
        self.channel.clone()
    }

    async fn next(&mut self) -> Result<Letter, StoreError> {
        loop {
            let Some(heard) = &mut self.heard else {
                self.listen_again().await;
                // What was sent while nobody listened is gone.
                return Ok(Letter::SomeMayBeLost);
            };
            let message = heard.on_message().next().await;
            match message {
                None => self.heard = None,
                Some(message) => {
                    let text = message.get_payload_bytes();
                    if let Some(letter) = read_award(text).or_else(|| letter::read(text)) {
                        return Ok(letter);
                    }
                }
            }
        }
    }
}

/// `ID granted VERSION [LEASE,LEDGER]`, as `swap.lua` writes it. Who may send this to us may
/// also write what it says into the store.
fn read_award(text: &[u8]) -> Option<Letter> {
    let mut parts = std::str::from_utf8(text).ok()?.splitn(4, ' ');
    let (_id, _granted) = (parts.next()?, parts.next()?);
    let version = parts.next()?.parse().ok()?;
    let (lease, ledger) = serde_json::from_str(parts.next()?).ok()?;
    Some(Letter::Awarded(Box::new(Award { lease, ledger, version })))
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("channel", &self.channel).finish_non_exhaustive()
    }
}
