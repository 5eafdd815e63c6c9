//! A daemon under way, and calls of its API in plain HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::answer::Answer;
use crate::cli::program::{Running, until, until_or};
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
    address: SocketAddr,
    token: Option<&'static str>,
}

impl Daemon {
    /// Starts it with the store of the scene, and waits until it answers.
    #[track_caller]
    pub(super) fn start(scene: &Scene) -> Self {
        let mut running = scene.start(&["serve", "--listen", "127.0.0.1:0"]);
        let mut address = None;
        let answers = || {
            assert!(!running.has_ended(), "it has ended: {}", running.stderr());
            address = address_in(&running.stderr());
            address.is_some()
        };
        until_or(answers, || "it says where it answers".to_owned());
        let daemon = Self { running, api: Api { address: address.unwrap(), token: None } };
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
        self.running.ended().expect(137);
    }

    /// What it answers under `/api/v1/monitoring`.
    #[track_caller]
    pub(super) fn monitoring(&self, path: &str) -> Value {
        self.api.get(&format!("/api/v1/monitoring/{path}")).expect(200).body
    }

    /// Waits until what it answers there is so, and returns it.
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

    /// Whether this one acts.
    #[track_caller]
    pub(super) fn acts(&self) -> bool {
        self.monitoring("monitor/status")["is_acting"] == true
    }

    #[track_caller]
    pub(super) fn until_it_acts(&self) {
        until("it acts", || self.acts());
    }
}

impl Api {
    /// Waits for the first round of the monitor. It ends the alerts of leases that are not there.
    pub(super) fn until_the_first_round(&self) {
        let status = "/api/v1/monitoring/monitor/status";
        until("it has made a round", || {
            let found = self.get(status).expect(200).body;
            found["healthy_checks"] != 0 || found["unhealthy_checks"] != 0
        });
    }

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
    #[track_caller]
    pub(super) fn give_back(&self, lease: &Value) -> Answer {
        self.delete(&path_of(lease), json!({ "token": lease["token"] }))
    }

    #[track_caller]
    pub(super) fn leases(&self) -> Vec<Value> {
        self.list("/api/v1/leases", "leases")
    }

    /// Who waits.
    #[track_caller]
    pub(super) fn queue(&self) -> Vec<Value> {
        self.list("/api/v1/queue", "queue")
    }

    /// What happened, the latest last.
    #[track_caller]
    pub(super) fn history(&self) -> Vec<Value> {
        let mut events = self.list("/api/v1/history?limit=1000", "events");
        events.reverse();
        events
    }

    #[track_caller]
    fn list(&self, path: &str, name: &str) -> Vec<Value> {
        self.get(path).expect(200).body[name].as_array().unwrap().clone()
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let answer = Answer::receive(self.send(method, path, body, ""));
        answer.unwrap_or_else(|| panic!("no whole answer to {method} {path}"))
    }

    /// Sends a request, and leaves the answer to the caller, who may also hang up.
    #[track_caller]
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        header: &str,
    ) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
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

/// Where a lease is found.
pub(super) fn path_of(lease: &Value) -> String {
    format!("/api/v1/leases/{}", lease["lease_id"].as_str().unwrap())
}

/// What happened to the leases and requests of a task: the names of the events, with the level
/// or the end where they have one.
pub(super) fn story(events: &[Value], task: &str) -> Vec<String> {
    let of_task = events.iter().filter(|event| event["task"] == task);
    of_task.map(chapter).collect()
}

fn chapter(event: &Value) -> String {
    let name = event["event"].as_str().unwrap();
    let more = event["level"].as_str().or(event["how"].as_str());
    more.map_or_else(|| name.to_owned(), |more| format!("{name} {more}"))
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("answers at http://")?;
    // Without the end of the line it may be half a number.
    rest.split_once('\n')?.0.trim().parse().ok()
}
