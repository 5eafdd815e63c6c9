//! A small HTTP client, so that tests see the very bytes and choose when to hang up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes that a test waits for.
const LONG: Duration = Duration::from_secs(100);

/// One connection to a daemon.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    token: Option<String>,
}

impl Connection {
    #[track_caller]
    pub(super) fn open(address: SocketAddr, token: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { stream: BufReader::new(stream), token: token.map(str::to_owned) }
    }

    /// Asks, and waits for the answer.
    #[track_caller]
    pub(super) fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.send(method, path, &[], body);
        self.answer().unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// Asks, and leaves the answer for later.
    pub(super) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(token) = &self.token {
            text += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            text +=
                &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        // A daemon that has ended does not take it; that shows where the answer is missing.
        let _ = self.stream.get_mut().write_all((text + &body).as_bytes());
    }

    /// Another handle of the same connection, to hang up with.
    pub(super) fn line(&self) -> TcpStream {
        self.stream.get_ref().try_clone().unwrap()
    }

    /// The answer to what was sent; `None` if the connection ends before it is complete.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.head()?;
        let length = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        answer.body = String::from_utf8(body).unwrap();
        Some(answer)
    }

    /// The answer without its body.
    pub(super) fn head(&mut self) -> Option<Answer> {
        let status = self.line_of_text()?;
        let status = status.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line_of_text()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Some(Answer { status, headers, body: String::new() })
    }

    fn line_of_text(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(length) if length > 0 => Some(line.trim_end().to_owned()),
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("no answer came in {LONG:?}")
            }
            Err(_) => None,
        }
    }
}

/// What a daemon said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    /// A header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its JSON. Fails with everything that was said unless it came with this status.
    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        match self.body.as_str() {
            "" => Value::Null,
            body => serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {self:?}")),
        }
    }

    /// Its JSON, if it came with one of these statuses.
    #[track_caller]
    pub(super) fn expect_one_of<const N: usize>(self, statuses: [u16; N]) -> Value {
        assert!(statuses.contains(&self.status), "{self:?}");
        let status = self.status;
        self.expect(status)
    }

    /// A problem document of this status: what is wrong, and what to do about it.
    #[track_caller]
    pub(super) fn problem(self, status: u16) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.expect(status);
        assert_eq!(problem["status"], status, "{problem}");
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        assert!(text("type").starts_with("/problems/"), "{problem}");
        assert_ne!(text("title"), "", "{problem}");
        match text("hint") {
            hint if hint.is_empty() => text("detail"),
            hint => format!("{} hint: {hint}", text("detail")),
        }
    }
}
