//! Somebody who is told: a small HTTP server that behaves as the test wants it to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use crate::cli::program::{until, until_or};

/// What it does with a request that it has read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// It takes it.
    Takes,
    /// It answers with this code.
    Refuses(u16),
    /// It wants nothing for a second.
    Throttles,
    /// It answers with success and the words of a robot that has not taken it.
    Complains,
    /// It never answers.
    Hangs,
    /// It hangs up.
    HangsUp,
}

/// A request that it has read.
#[derive(Clone, Debug)]
pub(super) struct Got {
    /// `webhook-id`, where the message was signed.
    pub(super) id: String,
    pub(super) body: Value,
    /// It was taken.
    pub(super) is_taken: bool,
}

/// Somebody who is told.
pub(super) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    manner: Mutex<Manner>,
    got: Mutex<Vec<Got>>,
    /// Whom it leaves without an answer.
    left: Mutex<Vec<TcpStream>>,
}

impl Receiver {
    /// One that takes everything.
    pub(super) fn start() -> Self {
        Self::with(Manner::Takes)
    }

    pub(super) fn with(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state =
            State { manner: Mutex::new(manner), got: Mutex::default(), left: Mutex::default() };
        let state = Arc::new(state);
        let of_thread = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&of_thread);
                // Whoever asks may go away at any time.
                thread::spawn(move || drop(state.answer(stream)));
            }
        });
        Self { address, state }
    }

    pub(super) fn behave(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// An address on it.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A webhook to it, as a channel of the configuration.
    pub(super) fn webhook(&self, name: &str) -> String {
        format!(
            "    {name}: {{webhook: {{url: \"{}\", secret: {SECRET}}}, allow_private: true, \
             rate_limit: {{messages: 100, per: 10s}}}}\n",
            self.url("/hook")
        )
    }

    /// Every request that it has read.
    pub(super) fn requests(&self) -> Vec<Got> {
        self.state.got.lock().unwrap().clone()
    }

    /// Those that it has taken.
    pub(super) fn taken(&self) -> Vec<Got> {
        self.requests().into_iter().filter(|got| got.is_taken).collect()
    }

    /// Those about a rule that it has taken.
    pub(super) fn about(&self, rule: &str) -> Vec<Got> {
        self.taken().into_iter().filter(|got| got.rules().contains(&rule.to_owned())).collect()
    }

    /// Waits until it has taken so many messages about a rule.
    #[track_caller]
    pub(super) fn until_told(&self, rule: &str, messages: usize) -> Vec<Got> {
        until_or(
            || self.about(rule).len() >= messages,
            || format!("{rule} is told {messages} times; told are {:?}", self.headlines()),
        );
        self.about(rule)
    }

    /// Waits until it has read so many requests, whatever it did about them.
    #[track_caller]
    pub(super) fn until_asked(&self, requests: usize) -> Vec<Got> {
        until(&format!("{requests} requests"), || self.requests().len() >= requests);
        self.requests()
    }

    /// What it was told, in short: `firing RULE RULE`.
    pub(super) fn headlines(&self) -> Vec<String> {
        self.taken().iter().map(Got::headline).collect()
    }
}

/// The key with which messages are signed.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr";

impl State {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let manner = *self.manner.lock().unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let is_taken = matches!(manner, Manner::Takes);
        self.got.lock().unwrap().push(Got { id: header("webhook-id"), body, is_taken });
        let mut stream = reader.into_inner();
        let (status, more, text) = match manner {
            Manner::Takes => (200, "", r#"{"errcode":0,"errmsg":"ok"}"#),
            Manner::Complains => (200, "", r#"{"errcode":-1,"errmsg":"system busy"}"#),
            Manner::Refuses(status) => (status, "", ""),
            Manner::Throttles => (429, "Retry-After: 1\r\n", ""),
            Manner::HangsUp => return Ok(()),
            Manner::Hangs => {
                self.left.lock().unwrap().push(stream);
                return Ok(());
            }
        };
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nConnection: close\r\n{more}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{text}",
            text.len()
        )
    }
}

impl Got {
    pub(super) fn alerts(&self) -> &[Value] {
        self.body["alerts"].as_array().map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_firing(&self) -> bool {
        self.body["status"] == "firing"
    }

    /// The rules of its alerts, each once.
    pub(super) fn rules(&self) -> Vec<String> {
        let names = self.alerts().iter().map(|alert| &alert["labels"]["alertname"]);
        let mut names: Vec<_> = names.filter_map(Value::as_str).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The values of a label, sorted.
    pub(super) fn labels(&self, name: &str) -> Vec<String> {
        let values = self.alerts().iter().map(|alert| &alert["labels"][name]);
        let mut values: Vec<_> = values.filter_map(Value::as_str).map(str::to_owned).collect();
        values.sort_unstable();
        values
    }

    fn headline(&self) -> String {
        let status = self.body["status"].as_str().unwrap_or("?");
        format!("{status} {} {}", self.rules().join(" "), self.labels("task").join(" "))
    }
}
