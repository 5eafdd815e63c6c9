//! Asking the daemon: one pool of connections for a process, made when it is first needed.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Request, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

use super::address::Address;
use super::trouble;
use super::wire::{FORMAT, FORMAT_HEADER};
use crate::store::StoreError;

/// For a connection to be made.
const CONNECTING: Duration = Duration::from_secs(3);

/// For a call with everything in it. The daemon gives its own store less than that.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// After which a connection that nobody uses is closed. The daemon bears with them longer, so
/// it does not close one at the very moment at which it is used.
const IDLE: Duration = Duration::from_secs(30);

/// After which the other end of a silent connection counts as vanished.
const PROBING: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Link {
    address: Address,
    /// With the runtime on which its connections live.
    kept: Mutex<Option<(tokio::runtime::Id, Client)>>,
}

impl Link {
    pub(super) fn new(address: Address) -> Self {
        Self { address, kept: Mutex::default() }
    }

    /// Which store this is, for people.
    pub(super) fn place(&self) -> &str {
        &self.address.shown
    }

    /// Asks for something.
    pub(super) async fn get<A: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<A, StoreError> {
        self.ask(Request::new(Method::GET, self.address.path(path, query))).await
    }

    /// Asks for something that changes something.
    pub(super) async fn post<A: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<A, StoreError> {
        self.ask(posted(self.address.path(path, &[]), question)).await
    }

    /// Asks for an answer that does not end.
    pub(super) async fn stream(
        &self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<Response, StoreError> {
        let begun = self.send(posted(self.address.path(path, &[]), question));
        match tokio::time::timeout(PATIENCE, begun).await {
            Ok(begun) => begun,
            Err(_) => Err(self.late()),
        }
    }

    /// There was no answer in time.
    pub(super) fn late(&self) -> StoreError {
        trouble::late(&self.address)
    }

    /// What the daemon says makes no sense.
    pub(super) fn misread(&self, error: &dyn Display) -> StoreError {
        StoreError::Unreadable { place: self.place().to_owned(), reason: error.to_string() }
    }

    /// Whether others on the way can listen.
    pub(super) fn is_open(&self) -> bool {
        let is_here = matches!(self.address.host(), "localhost" | "127.0.0.1" | "[::1]");
        self.address.tls.is_none() && !is_here
    }

    async fn ask<A: DeserializeOwned>(&self, mut request: Request) -> Result<A, StoreError> {
        *request.timeout_mut() = Some(PATIENCE);
        let answer = self.send(request).await?;
        let text = answer.bytes().await.map_err(|error| trouble::failed(&self.address, &error))?;
        serde_json::from_slice(&text).map_err(|error| self.misread(&error))
    }

    /// The answer, if it is one to the question.
    async fn send(&self, request: Request) -> Result<Response, StoreError> {
        let again = request.try_clone();
        let mut answer = self.send_once(request).await?;
        if answer.status() == StatusCode::UNAUTHORIZED
            && self.address.token.as_ref().is_some_and(|token| token.renew())
            && let Some(again) = again
        {
            answer = self.send_once(again).await?;
        }
        match answer.status() {
            StatusCode::OK => self.in_known_format(answer),
            _ => Err(trouble::refused(&self.address, answer).await),
        }
    }

    fn in_known_format(&self, answer: Response) -> Result<Response, StoreError> {
        let said = answer.headers().get(FORMAT_HEADER).and_then(|said| said.to_str().ok());
        match said.and_then(|said| said.parse().ok()) {
            Some(found) if found > FORMAT => {
                Err(StoreError::Newer { place: self.place().to_owned(), found, known: FORMAT })
            }
            _ => Ok(answer),
        }
    }

    async fn send_once(&self, mut request: Request) -> Result<Response, StoreError> {
        request.headers_mut().insert(FORMAT_HEADER, FORMAT.into());
        if let Some(token) = self.address.token.as_ref().and_then(|token| token.header()) {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        let sent = self.client()?.execute(request).await;
        sent.map_err(|error| trouble::failed(&self.address, &error))
    }

    /// The present connections, if they were made on this runtime: their tasks run there.
    fn client(&self) -> Result<Client, StoreError> {
        let here = Handle::current().id();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((runtime, client)) if *runtime == here => Ok(client.clone()),
            _ => {
                let client = client(&self.address)?;
                *kept = Some((here, client.clone()));
                Ok(client)
            }
        }
    }
}

fn posted(url: Url, question: &impl Serialize) -> Request {
    let body = serde_json::to_vec(question)
        .unwrap_or_else(|error| unreachable!("questions are plain data: {error}"));
    let mut request = Request::new(Method::POST, url);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(body.into());
    request
}

fn client(address: &Address) -> Result<Client, StoreError> {
    // Fails if a program around us has chosen a provider already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plain = Client::builder()
        .user_agent(concat!("gpulock/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        // A token belongs to the daemon and to nobody between.
        .no_proxy()
        .connect_timeout(CONNECTING)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .tcp_keepalive(PROBING)
        .tcp_keepalive_interval(PROBING / 2)
        .tcp_keepalive_retries(2);
    let built = match &address.tls {
        Some(tls) => tls.add_to(plain),
        // Nobody waits for the system's certificates to be read that are of no use.
        None => Ok(plain.tls_certs_only([])),
    };
    let unusable = |reason| StoreError::Refused { place: address.shown.clone(), reason };
    built.map_err(unusable)?.build().map_err(|error| unusable(trouble::said(&error)))
}
