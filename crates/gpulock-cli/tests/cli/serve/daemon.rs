//! A daemon under way, and calls of its API in plain HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cli::program::{Running, until};
use crate::cli::scene::Scene;

/// A configuration of one GPU, in which the monitor looks often.
pub(super) const BRISK: &str = "gpus: [0]
gpu_lock_monitor:
  monitor_interval: 1
  heartbeat: {interval: 1, timeout: 5}
";

/// A daemon, which ends with the test.
pub(super) struct Daemon {
    running: Running,
    api: Api,
}

/// Where a daemon answers.
#[derive(Clone)]
pub(super) struct Api {
    address: String,
    token: Option<&'static str>,
}

/// What it answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Value,
}

impl Daemon {
    /// Starts it with the store of the scene, and waits until it answers.
    #[track_caller]
    pub(super) fn start(scene: &Scene) -> Self {
        let running = scene.start(&["serve", "--listen", "127.0.0.1:0"]);
        running.until_it_says("answers at http://");
        let said = running.stderr();
        let (_, place) = said.split_once("answers at http://").unwrap();
        let address = place.split_whitespace().next().unwrap().to_owned();
        let daemon = Self { running, api: Api { address, token: None } };
        until("the GPUs are known", || {
            let store = daemon.api.get("/api/v1/pools");
            store.status == 401 || !store.body["pools"][0]["gpus"].as_array().unwrap().is_empty()
        });
        daemon
    }

    pub(super) fn api(&self) -> Api {
        self.api.clone()
    }

    pub(super) fn log(&self) -> String {
        self.running.stderr()
    }

    #[track_caller]
    pub(super) fn until_it_says(&self, text: &str) {
        self.running.until_it_says(text);
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Ends it as systemd would.
    #[track_caller]
    pub(super) fn stop(self) {
        self.signal(Signal::TERM);
        self.running.ended().expect(0);
    }

    /// Ends it as a power cut would.
    pub(super) fn kill(self) {
        self.signal(Signal::KILL);
        self.running.ended();
    }

    /// Waits until this one acts.
    #[track_caller]
    pub(super) fn until_it_acts(&self) {
        until("it acts", || {
            self.api.get("/api/v1/monitoring/monitor/status").body["is_acting"] == true
        });
    }
}

impl Api {
    /// The same with a bearer token.
    pub(super) fn with_token(&self, token: &'static str) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// Where a store URL leads to it.
    pub(super) fn store_url(&self) -> String {
        format!("http://{}", self.address)
    }

    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    #[track_caller]
    pub(super) fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body))
    }

    #[track_caller]
    pub(super) fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, Some(body))
    }

    #[track_caller]
    pub(super) fn delete(&self, path: &str, body: Value) -> Answer {
        self.call("DELETE", path, Some(body))
    }

    /// Asks for GPU 0 at once, and expects it.
    #[track_caller]
    pub(super) fn acquire(&self, task: &str, heartbeat_timeout: f64) -> Value {
        let asked = json!({ "task": task, "gpus": [0], "heartbeat_timeout": heartbeat_timeout });
        self.post("/api/v1/leases", asked).expect(201).body
    }

    /// Gives a lease back.
    pub(super) fn give_back(&self, lease: &Value) -> Answer {
        self.delete(&path_of(lease), json!({ "token": lease["token"] }))
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut stream = self.send(method, path, body, "");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Answer::read(&answer)
    }

    /// Sends a request, and leaves the answer to the caller.
    #[track_caller]
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        header: &str,
    ) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let token = self.token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}{header}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            token.unwrap_or_default(),
            body.len(),
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// The events of a stream that begins after `last_id`, as they come: id, name and data.
    pub(super) fn events(&self, last_id: Option<&str>) -> impl Iterator<Item = [String; 3]> {
        let header = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let stream = self.send("GET", "/api/v1/events", None, &header);
        let mut lines = BufReader::new(stream).lines();
        // Everything that the daemon has to say before the first event.
        lines.by_ref().take_while(|line| line.as_ref().unwrap() != "").for_each(drop);
        let mut parts: [String; 3] = Default::default();
        std::iter::from_fn(move || {
            loop {
                let line = lines.next()?.ok()?;
                match line.split_once(": ") {
                    Some(("id", id)) => parts[0] = id.to_owned(),
                    Some(("event", name)) => parts[1] = name.to_owned(),
                    Some(("data", data)) => parts[2] = data.to_owned(),
                    _ if line.is_empty() && !parts[2].is_empty() => {
                        return Some(std::mem::take(&mut parts));
                    }
                    _ => {}
                }
            }
        })
    }
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no answer but {text:?}")),
            head: head.to_lowercase(),
            body: serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())),
        }
    }

    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The problem's one sentence.
    #[track_caller]
    pub(super) fn detail(&self) -> &str {
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        self.body["detail"].as_str().unwrap()
    }
}

/// Where a lease is found.
pub(super) fn path_of(lease: &Value) -> String {
    format!("/api/v1/leases/{}", lease["lease_id"].as_str().unwrap())
}
