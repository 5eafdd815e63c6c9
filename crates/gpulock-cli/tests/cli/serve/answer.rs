//! What a daemon answered, read from the very bytes.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes that a test waits for.
const LONG: Duration = Duration::from_secs(100);

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Value,
}

impl Answer {
    /// The answer to what was sent; `None` if the connection ends before it is whole.
    #[track_caller]
    pub(super) fn receive(mut stream: TcpStream) -> Option<Self> {
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut text = String::new();
        match stream.read_to_string(&mut text) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("no answer came in {LONG:?}, but {text:?}")
            }
            read => read.ok()?,
        };
        let (head, body) = text.split_once("\r\n\r\n")?;
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some_and(|length| length != body.len().to_string()) {
            return None;
        }
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        Some(Self {
            status: status.unwrap_or_else(|| panic!("no answer but {text:?}")),
            body: serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())),
            head,
        })
    }

    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The problem's one sentence.
    #[track_caller]
    pub(super) fn detail(&self) -> &str {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let text = |name: &str| self.body[name].as_str().unwrap();
        assert_eq!(self.body["status"], self.status, "{self:?}");
        assert!(text("type").starts_with("/problems/"), "{self:?}");
        assert_ne!(text("title"), "", "{self:?}");
        text("detail")
    }
}
