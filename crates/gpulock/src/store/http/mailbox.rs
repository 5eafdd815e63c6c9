//! Letters by a streamed answer, one JSON line each. The daemon keeps the mailbox for a while
//! when the stream breaks, so its address stays the same.

use std::time::Duration;

use async_trait::async_trait;
use gpulock_core::Channel;
use reqwest::{Method, Response};

use super::address::{Address, SILENCE};
use super::trouble;
use super::wire::{FORMAT, FORMAT_HEADER, Line};
use crate::store::{Letter, Mailbox, StoreError};
use crate::stored::jittered;

/// Between two attempts to listen again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whoever asks for a GPU is not kept waiting for longer than this by wake-ups.
const OPENING: Duration = Duration::from_secs(1);

/// A line that is longer is none of ours.
const LONGEST_LINE: usize = 16 << 20;

/// A mailbox at the daemon.
#[derive(Debug)]
pub(super) struct Stream {
    address: Address,
    channel: Channel,
    /// Names it to the daemon.
    mailbox: String,
    /// `None` while the connection is down.
    answer: Option<Response>,
    /// What has come of a line so far.
    begun: Vec<u8>,
}

impl Stream {
    /// Opens a mailbox.
    ///
    /// # Errors
    /// If the daemon does not give one soon.
    pub(super) async fn open(address: Address) -> Result<Self, StoreError> {
        let mut stream = Self {
            channel: Channel(String::new()),
            mailbox: String::new(),
            answer: None,
            begun: Vec::new(),
            address,
        };
        match tokio::time::timeout(OPENING, stream.listen()).await {
            Ok(opened) => opened.map(|()| stream),
            Err(_) => Err(StoreError::Unavailable {
                place: stream.address.shown,
                reason: "it gave no mailbox in time".to_owned(),
            }),
        }
    }

    /// Listens, and reads the first line. If the daemon no longer knows the mailbox, those who
    /// wait under its address are not woken and look by themselves.
    async fn listen(&mut self) -> Result<(), StoreError> {
        let mut request = self.address.stream(Method::GET, "mailbox");
        if !self.mailbox.is_empty() {
            request = request.query(&[("mailbox", &self.mailbox)]);
        }
        let answer = request.header(FORMAT_HEADER, FORMAT).send().await;
        let answer = answer.map_err(|error| trouble::unreachable(&self.address, &error))?;
        let status = answer.status();
        if !status.is_success() {
            let body = answer.bytes().await.unwrap_or_default();
            return Err(trouble::refused(&self.address, status, &body));
        }
        self.begun.clear();
        self.answer = Some(answer);
        match self.line().await {
            Some(Line::Open { channel, mailbox }) => {
                if self.channel.0.is_empty() {
                    self.channel = channel;
                }
                self.mailbox = mailbox;
                Ok(())
            }
            _ => Err(trouble::odd(&self.address, &"its mailbox does not say whose it is")),
        }
    }

    async fn listen_again(&mut self) {
        let mut pause = Duration::from_millis(20);
        while self.listen().await.is_err() {
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The next line; `None` if the stream has broken, or is silent for too long.
    async fn line(&mut self) -> Option<Line> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                let line = std::mem::replace(&mut self.begun, rest);
                match serde_json::from_slice(&line) {
                    Ok(line) => return Some(line),
                    // A newer daemon may have more to say.
                    Err(_) => continue,
                }
            }
            let chunk = tokio::time::timeout(SILENCE, self.answer.as_mut()?.chunk()).await;
            match chunk {
                Ok(Ok(Some(bytes))) if self.begun.len() < LONGEST_LINE => {
                    self.begun.extend_from_slice(&bytes);
                }
                _ => return None,
            }
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
            if self.answer.is_none() {
                self.listen_again().await;
                // What was sent meanwhile may have gone to a mailbox that is no more.
                return Ok(Letter::SomeMayBeLost);
            }
            match self.line().await {
                None => self.answer = None,
                Some(line) => {
                    if let Some(letter) = line.into_letter() {
                        return Ok(letter);
                    }
                }
            }
        }
    }
}
