//! A daemon under way.

use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::super::program::{Ended, Running, until_or};
use super::super::scene::Scene;
use super::http::{Answer, Connection};

/// `gpulock serve`, where the system chose a port for it. It is killed when this is dropped.
pub(super) struct Daemon {
    running: Running,
    address: SocketAddr,
    token: Option<String>,
}

impl Daemon {
    /// Starts one in the scene, and waits until it answers.
    #[track_caller]
    pub(super) fn start(scene: &Scene) -> Self {
        Self::launch(scene, scene.command(&["serve", "--listen", "127.0.0.1:0"]))
    }

    /// Starts one by this command, and waits until it answers.
    #[track_caller]
    pub(super) fn launch(scene: &Scene, command: Command) -> Self {
        let mut running = scene.launch(command);
        let mut address = None;
        let answers = || {
            assert!(!running.has_ended(), "it has ended: {}", running.stderr());
            address = address_in(&running.stderr());
            address.is_some()
        };
        until_or(answers, || "gpulock serve says where it answers".to_owned());
        Self { running, address: address.unwrap(), token: None }
    }

    /// From now on questions come with this token.
    pub(super) fn with_token(mut self, token: &str) -> Self {
        self.show(token);
        self
    }

    /// The same.
    pub(super) fn show(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    /// From now on questions come without a token.
    pub(super) fn show_nothing(&mut self) {
        self.token = None;
    }

    #[track_caller]
    pub(super) fn connect(&self) -> Connection {
        Connection::open(self.address, self.token.as_deref())
    }

    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Answer {
        self.connect().ask("GET", path, None)
    }

    #[track_caller]
    pub(super) fn post(&self, path: &str, body: &Value) -> Answer {
        self.connect().ask("POST", path, Some(body))
    }

    #[track_caller]
    pub(super) fn put(&self, path: &str, body: &Value) -> Answer {
        self.connect().ask("PUT", path, Some(body))
    }

    #[track_caller]
    pub(super) fn delete(&self, path: &str, body: &Value) -> Answer {
        self.connect().ask("DELETE", path, Some(body))
    }

    /// What it answers under `/api/v1/monitoring`.
    #[track_caller]
    pub(super) fn monitoring(&self, path: &str) -> Value {
        self.get(&format!("/api/v1/monitoring/{path}")).expect(200)
    }

    /// Acquires, and expects to.
    #[track_caller]
    pub(super) fn acquire(&self, wish: &Value) -> Value {
        self.post("/api/v1/leases", wish).expect(201)
    }

    /// Gives a lease back, and expects that it was current.
    #[track_caller]
    pub(super) fn give_back(&self, lease: &Value) {
        let path = place_of(lease);
        self.delete(&path, &json!({"token": lease["token"]})).expect(204);
    }

    /// What happened, the latest last.
    #[track_caller]
    pub(super) fn history(&self) -> Vec<Value> {
        let history = self.get("/api/v1/history?limit=1000").expect(200);
        history["events"].as_array().unwrap().iter().rev().cloned().collect()
    }

    /// Waits until an answer under `/api/v1/monitoring` is as it should be, and returns it.
    #[track_caller]
    pub(super) fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut latest = Value::Null;
        let reached = || {
            latest = self.monitoring(path);
            is_so(&latest)
        };
        until_or(reached, || format!("{path} answers so\n{}", self.log()));
        latest
    }

    /// What it has logged so far.
    pub(super) fn log(&self) -> String {
        self.running.stderr()
    }

    #[track_caller]
    pub(super) fn until_it_logs(&self, text: &str) {
        self.running.until_it_says(text);
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub(super) fn ended(self) -> Ended {
        self.running.ended()
    }

    /// Tells it to end, and waits until it has.
    #[track_caller]
    pub(super) fn stop(self) {
        self.signal(Signal::TERM);
        self.ended().expect(0);
    }
}

/// Where a lease is asked for.
pub(super) fn place_of(lease: &Value) -> String {
    format!("/api/v1/leases/{}", lease["lease_id"].as_str().unwrap())
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("answers at http://")?;
    // Without the end of the line it may be half a number.
    rest.split_once('\n')?.0.trim().parse().ok()
}
