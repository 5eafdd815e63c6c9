//! The answer that never ends: a line for each letter.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gpulock_core::Channel;
use reqwest::Response;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::link::Link;
use super::wire::{Line, Listening};
use crate::store::{Letter, Mailbox, StoreError};
use crate::stored::jittered;

/// Whoever asks for a GPU is not kept waiting for longer than this by wake-ups.
const CONFIRMING: Duration = Duration::from_secs(1);

/// Between two attempts to listen again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// A connection that broke sooner is not made again at once.
const BRIEF: Duration = Duration::from_millis(200);

/// Between two attempts where the daemon turns us away.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// So many keep-alive lines may be missing.
const MISSING: u32 = 3;

/// No letter is longer.
const LONGEST_LINE: usize = 1 << 20;

/// A mailbox at the daemon, opened again and again where the connection breaks.
pub(super) struct Stream {
    link: Arc<Link>,
    channel: Channel,
    /// `None` while the connection is down.
    heard: Option<Heard>,
    /// When it last came up.
    opened_at: Instant,
}

/// One connection.
struct Heard {
    answer: Response,
    /// What came of the next line.
    begun: Vec<u8>,
    /// A connection that is silent for longer is broken.
    silence: Duration,
}

impl Stream {
    /// Opens a mailbox, if the daemon answers soon.
    ///
    /// # Errors
    /// If it does not: only the daemon can say under which address its store finds us.
    pub(super) async fn open(
        link: Arc<Link>,
        before: Option<&Channel>,
    ) -> Result<Self, StoreError> {
        let give_up = Instant::now() + CONFIRMING;
        let (mut pause, mut failure) = (PAUSES.0, None);
        loop {
            let opened = timeout_at(give_up, Heard::open(&link, before)).await;
            match opened.unwrap_or_else(|_| Err(failure.take().unwrap_or_else(|| link.late()))) {
                Ok((heard, channel)) => {
                    let (heard, opened_at) = (Some(heard), Instant::now());
                    return Ok(Self { link, channel, heard, opened_at });
                }
                Err(error) if !error.is_transient() || Instant::now() >= give_up => {
                    return Err(error);
                }
                Err(error) => failure = Some(error),
            }
            sleep(jittered(pause)).await;
            pause *= 2;
        }
    }

    async fn listen_again(&mut self) {
        let mut pause = PAUSES.0;
        if self.opened_at.elapsed() < BRIEF {
            // A daemon that opens mailboxes and does not keep them open.
            sleep(jittered(BRIEF)).await;
        }
        loop {
            match Heard::open(&self.link, Some(&self.channel)).await {
                Ok((heard, _)) => {
                    self.heard = Some(heard);
                    self.opened_at = Instant::now();
                    return;
                }
                Err(error) if error.is_transient() => pause = (pause * 2).min(PAUSES.1),
                Err(_) => pause = PAUSE_AFTER_REFUSAL,
            }
            sleep(jittered(pause)).await;
        }
    }
}

#[async_trait]
impl Mailbox for Stream {
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
            match heard.line().await {
                None => self.heard = None,
                Some(text) => {
                    // A newer daemon may have more to say.
                    let line = serde_json::from_slice::<Line>(&text).ok();
                    if let Some(letter) = line.and_then(Line::into_letter) {
                        return Ok(letter);
                    }
                }
            }
        }
    }
}

impl Heard {
    async fn open(link: &Link, channel: Option<&Channel>) -> Result<(Self, Channel), StoreError> {
        let question = Listening { channel: channel.cloned() };
        let answer = link.stream("mailbox", &question).await?;
        let mut heard = Self { answer, begun: Vec::new(), silence: CONFIRMING };
        let broken = || StoreError::Unavailable {
            place: link.place().to_owned(),
            reason: "its mailbox broke off".to_owned(),
        };
        let text = heard.line().await.ok_or_else(broken)?;
        match serde_json::from_slice(&text) {
            Ok(Line::Open { channel, keep_alive_millis }) => {
                heard.silence = Duration::from_millis(keep_alive_millis) * MISSING;
                Ok((heard, channel))
            }
            Ok(_) => Err(broken()),
            Err(error) => Err(link.misread(&error)),
        }
    }

    /// The next line; `None` when the connection is broken.
    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                return Some(std::mem::replace(&mut self.begun, rest));
            }
            let piece = timeout(self.silence, self.answer.chunk()).await;
            let Ok(Ok(Some(piece))) = piece else { return None };
            self.begun.extend_from_slice(&piece);
            if self.begun.len() > LONGEST_LINE {
                return None;
            }
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("channel", &self.channel).finish_non_exhaustive()
    }
}
