//! The one connection over which a process calls the server: made when it is first needed,
//! and made anew after it broke.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::runtime::Handle;

use super::address::Address;
use super::dial::{self, Connection};
use super::server::Server;
use super::trouble;
use crate::store::StoreError;

/// A script of ours: its text, and the name under which the server may still know it.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    sha1: String,
}

impl Script {
    pub(super) fn new(text: String) -> Self {
        Self { sha1: redis::Script::new(&text).get_hash().to_owned(), text }
    }

    /// A call by name, to which arguments can be added.
    pub(super) fn call(&self, keys: &[String]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.sha1).arg(keys.len()).arg(keys);
        call
    }

    /// The same call with the text of the script.
    fn in_full(&self, call: &Cmd) -> Cmd {
        let mut full = redis::cmd("EVAL");
        full.arg(&self.text);
        for argument in call.args_iter().skip(2) {
            if let redis::Arg::Simple(argument) = argument {
                full.arg(argument);
            }
        }
        full
    }
}

/// An answer, and which server gave it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) value: Value,
    pub(super) server: Arc<Server>,
}

#[derive(Debug)]
pub(super) struct Link {
    address: Address,
    kept: Mutex<Option<Line>>,
    /// Only one task dials; the others wait for what it gets.
    dialing: tokio::sync::Mutex<()>,
}

/// A connection that works, as far as is known.
#[derive(Clone, Debug)]
pub(super) struct Line {
    connection: Connection,
    pub(super) server: Arc<Server>,
    /// Its task runs there, and the connection ends with it.
    runtime: tokio::runtime::Id,
}

impl Link {
    pub(super) fn new(address: Address) -> Self {
        Self { address, kept: Mutex::default(), dialing: tokio::sync::Mutex::default() }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Which store this is, for people.
    pub(super) fn place(&self) -> &str {
        &self.address.shown
    }

    /// Sends one command.
    pub(super) async fn ask(&self, command: Cmd) -> Result<Answered, StoreError> {
        let line = self.line().await?;
        let value = self.send(&line, &command).await.map_err(|error| self.failed(&error))?;
        Ok(Answered { value, server: line.server })
    }

    /// Calls a script.
    pub(super) async fn run(&self, script: &Script, call: Cmd) -> Result<Answered, StoreError> {
        let line = self.line().await?;
        self.run_on(&line, script, call).await
    }

    /// Waits until as many replicas as the address asks for have what was written over this
    /// connection. If they do not confirm in time, it may survive a fail-over or not, so it
    /// does not count as done.
    pub(super) async fn confirm(&self, line: &Line) -> Result<(), StoreError> {
        let wanted = self.address.min_replicas;
        if wanted == 0 {
            return Ok(());
        }
        let patience = self.address.replica_timeout;
        let mut wait = redis::cmd("WAIT");
        wait.arg(wanted).arg(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        let waited = self.send(line, &wait).await.map_err(|error| self.failed(&error))?;
        match redis::from_redis_value(waited).unwrap_or(0) {
            reached if reached >= wanted => Ok(()),
            reached => {
                let place = self.place().to_owned();
                Err(StoreError::NotReplicated { place, wanted, reached })
            }
        }
    }

    /// Calls a script over this connection.
    pub(super) async fn run_on(
        &self,
        line: &Line,
        script: &Script,
        call: Cmd,
    ) -> Result<Answered, StoreError> {
        let value = match self.send(line, &call).await {
            // The server has started anew or was told to forget its scripts.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(line, &script.in_full(&call)).await
            }
            answer => answer,
        };
        let value = value.map_err(|error| self.failed(&error))?;
        Ok(Answered { value, server: Arc::clone(&line.server) })
    }

    async fn send(&self, line: &Line, command: &Cmd) -> Result<Value, RedisError> {
        let mut connection = line.connection.clone();
        let answer = command.query_async(&mut connection).await;
        if let Err(error) = &answer
            && line.is_spoilt_by(error)
        {
            self.hang_up(line);
        }
        answer
    }

    /// The present connection, or a new one.
    pub(super) async fn line(&self) -> Result<Line, StoreError> {
        if let Some(line) = self.kept() {
            return Ok(line);
        }
        let _dialing = self.dialing.lock().await;
        if let Some(line) = self.kept() {
            return Ok(line);
        }
        let line = self.dial().await.map_err(|error| self.failed(&error))?;
        *self.lock() = Some(line.clone());
        Ok(line)
    }

    async fn dial(&self) -> Result<Line, RedisError> {
        let mut connection = dial::dial(&self.address).await?;
        let server = Arc::new(Server::ask(&mut connection, &self.address).await?);
        Ok(Line { connection, server, runtime: Handle::current().id() })
    }

    /// The connection that was made last, if it was made on this runtime.
    fn kept(&self) -> Option<Line> {
        self.lock().clone().filter(|line| line.runtime == Handle::current().id())
    }

    /// Forgets a connection that broke, unless somebody has made a new one meanwhile.
    fn hang_up(&self, broken: &Line) {
        let mut kept = self.lock();
        if kept.as_ref().is_some_and(|line| Arc::ptr_eq(&line.server, &broken.server)) {
            *kept = None;
        }
    }

    fn failed(&self, error: &RedisError) -> StoreError {
        trouble::failed(&self.address, error)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Line>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Whether the connection is of no use after this error: it broke, the answer did not
    /// come in time, or the server is no longer the master.
    fn is_spoilt_by(&self, error: &RedisError) -> bool {
        let demoted = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        );
        demoted || error.is_timeout() || error.is_connection_dropped() || error.is_io_error()
    }
}
