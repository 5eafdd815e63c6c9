//! How far the command is: lines that it writes into a pipe, passed on with heartbeats.
//!
//! ```text
//!   progress PERCENT [MESSAGE]
//! ```
//!
//! The pipe is a courtesy. Whatever comes through it costs little memory and little time, and
//! nobody waits for its end: what the command left behind may keep it open for ever.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use rustix::fs::fstat;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep_until};

use crate::output;

/// The number of the pipe's end, for the command.
pub(super) const NUMBER: &str = "GPULOCK_PROGRESS_FD";
/// The pipe itself: who inherited the variable without the pipe can tell that the number means
/// something else by now.
pub(super) const IDENTITY: &str = "GPULOCK_PROGRESS_PIPE";

/// Between two words to the store.
const PAUSE: Duration = Duration::from_secs(1);
/// After a whole buffer: more than so many a second are not read.
const FLOOD_PAUSE: Duration = Duration::from_millis(10);
/// What a pipe holds.
const BUFFER: usize = 64 * 1024;
/// The longest line, with its end: the longest that a pipe takes in one piece.
const LONGEST_LINE: usize = 4096;
/// The longest message, in characters.
const LONGEST_MESSAGE: usize = 256;

/// The pipe before anybody listens.
#[derive(Debug)]
pub(super) struct Pipe {
    out: File,
    /// The other end, as the command will have it.
    number: RawFd,
}

impl Pipe {
    /// A pipe, and its other end.
    pub(super) fn new() -> io::Result<(Self, File)> {
        let (out, inward) = pipe_with(PipeFlags::CLOEXEC)?;
        let number = inward.as_raw_fd();
        Ok((Self { out: File::from(out), number }, File::from(inward)))
    }

    /// Listens, and says what the command must find in its environment.
    pub(super) fn listen(self) -> io::Result<(Listener, [(&'static str, String); 2])> {
        let identity = fstat(&self.out)?.st_ino;
        let variables = [(NUMBER, self.number.to_string()), (IDENTITY, identity.to_string())];
        Ok((Listener::new(self.out)?, variables))
    }
}

/// How far the work is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub(super) percent: f32,
    pub(super) message: String,
}

/// Listens to the command.
#[derive(Debug)]
pub(super) struct Listener {
    /// `None` when nobody can write any more.
    pipe: Option<Receiver>,
    lines: Lines,
    /// Not yet passed on.
    latest: Option<Word>,
    next_word: Instant,
    next_read: Instant,
    has_warned: bool,
}

impl Listener {
    fn new(pipe: File) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            pipe: Some(Receiver::from_file(pipe)?),
            lines: Lines::default(),
            latest: None,
            next_word: now,
            next_read: now,
            has_warned: false,
        })
    }

    /// What is to be passed on next: the latest word, at most one a [`PAUSE`]. It may be dropped
    /// and asked again without losing anything.
    pub(super) async fn next(&mut self) -> Word {
        loop {
            let is_due = self.next_word;
            tokio::select! {
                biased;
                () = sleep_until(is_due), if self.latest.is_some() => {
                    if let Some(word) = self.latest.take() {
                        self.next_word = Instant::now() + PAUSE;
                        return word;
                    }
                }
                () = self.read() => {}
            }
        }
    }

    /// Reads what is there, as soon as something is.
    async fn read(&mut self) {
        sleep_until(self.next_read).await;
        let Some(pipe) = &self.pipe else { return std::future::pending().await };
        let is_readable = pipe.readable().await;
        // Not before: one that never writes costs nothing.
        let mut bytes = vec![0; BUFFER];
        let count = match is_readable.and_then(|()| pipe.try_read(&mut bytes)) {
            Ok(0) => return self.pipe = None,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return self.pipe = None,
        };
        if count == BUFFER {
            self.next_read = Instant::now() + FLOOD_PAUSE;
        }
        for line in self.lines.take(&bytes[..count]) {
            match Word::read(&line) {
                Some(word) => self.latest = Some(word),
                None => self.warn(&line),
            }
        }
    }

    fn warn(&mut self, line: &[u8]) {
        if std::mem::replace(&mut self.has_warned, true) {
            return;
        }
        let shown: String = String::from_utf8_lossy(line).chars().take(60).collect();
        output::warning(&format!(
            "the command wrote {shown:?} to {NUMBER}; such lines are ignored\n\
             hint: write lines `progress PERCENT [MESSAGE]` with PERCENT from 0 to 100"
        ));
    }
}

impl Word {
    /// Understands a line.
    fn read(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok().filter(|text| text.len() < LONGEST_LINE)?;
        let rest = text.trim().strip_prefix("progress")?;
        let (percent, message) = match rest.trim_start().split_once(char::is_whitespace) {
            Some((percent, message)) => (percent, message.trim_start()),
            None => (rest.trim_start(), ""),
        };
        let number = percent.parse().ok().filter(|number| (0.0..=100.0).contains(number))?;
        if !rest.starts_with(char::is_whitespace) {
            return None;
        }
        let message = message.chars().take(LONGEST_MESSAGE).collect::<String>();
        Some(Self { percent: number, message: output::visible(&message) })
    }
}

/// Makes lines of what arrives in pieces.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of the next one.
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that these bytes bring to an end, without their ends. Of a line that is longer
    /// than [`LONGEST_LINE`] only so much is kept that it is seen to be.
    fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LONGEST_LINE - self.begun.len();
            self.begun.extend(&piece[..piece.len().min(room)]);
            if pieces.peek().is_some() {
                lines.push(std::mem::take(&mut self.begun));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn word(percent: f32, message: &str) -> Option<Word> {
        Some(Word { percent, message: message.to_owned() })
    }

    #[test]
    fn a_line_is_a_number_and_perhaps_a_message() {
        for (line, expected) in [
            ("progress 45", word(45.0, "")),
            ("progress 45.5 frame 100 of 220\r", word(45.5, "frame 100 of 220")),
            ("  progress\t0   two  blanks ", word(0.0, "two  blanks")),
            ("progress 100 a\u{1b}[2Jb", word(100.0, "a\u{fffd}[2Jb")),
            ("progress", None),
            ("progress45", None),
            ("progress 101", None),
            ("progress -1", None),
            ("progress NaN", None),
            ("progress inf", None),
            ("progress 45%", None),
            ("Progress 45", None),
            ("", None),
        ] {
            assert_eq!(Word::read(line.as_bytes()), expected, "{line:?}");
        }
        assert_eq!(Word::read(b"progress 1 \xff"), None);
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let long = format!("progress 1 {}", "\u{e4}".repeat(1000));
        assert_eq!(Word::read(long.as_bytes()).unwrap().message, "\u{e4}".repeat(LONGEST_MESSAGE));
    }

    #[test]
    fn lines_may_arrive_in_pieces() {
        let whole = b"progress 1\n\nprogress 2 two\nprogress";
        for piece in 1..whole.len() {
            let mut lines = Lines::default();
            let read: Vec<_> = whole.chunks(piece).flat_map(|bytes| lines.take(bytes)).collect();
            assert_eq!(read, [&b"progress 1"[..], b"", b"progress 2 two"], "{piece}");
            assert_eq!(lines.begun, b"progress");
        }
    }

    #[test]
    fn a_line_without_end_costs_no_memory_and_is_not_understood() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            assert!(lines.take(b"progress 1 ").is_empty());
            assert!(lines.take(&[b'x'; 1000]).is_empty());
            assert!(lines.begun.len() <= LONGEST_LINE);
        }
        let read = lines.take(b"\nprogress 2\n");
        assert_eq!((read.len(), Word::read(&read[0])), (2, None));
        assert_eq!(Word::read(&read[1]), word(2.0, ""));
    }

    fn listener() -> (Listener, File) {
        let (pipe, inward) = Pipe::new().unwrap();
        (pipe.listen().unwrap().0, inward)
    }

    #[tokio::test]
    async fn the_last_of_many_words_is_passed_on() {
        let (mut listener, mut pipe) = listener();
        pipe.write_all(b"progress 1\n").unwrap();
        assert_eq!(listener.next().await, word(1.0, "").unwrap());
        let first = listener.next_word;
        pipe.write_all(b"progress 2\nnonsense\nprogress 3 three\n").unwrap();
        assert_eq!(listener.next().await, word(3.0, "three").unwrap());
        assert!(listener.next_word - first >= PAUSE);
        assert!(listener.latest.is_none() && listener.has_warned);
    }

    #[tokio::test]
    async fn a_word_survives_that_nobody_waits_for_it() {
        let (mut listener, mut pipe) = listener();
        listener.next_word = Instant::now() + Duration::from_secs(3600);
        pipe.write_all(b"progress 7 seven\n").unwrap();
        drop(pipe);
        // Given up again and again, as the supervisor does when something else happens.
        while listener.pipe.is_some() {
            let _ = tokio::time::timeout(Duration::from_millis(1), listener.next()).await;
        }
        listener.next_word = Instant::now();
        assert_eq!(listener.next().await, word(7.0, "seven").unwrap());
    }
}
