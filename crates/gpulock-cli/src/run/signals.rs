//! The signals that reach `gpulock run`.

use std::cell::RefCell;
use std::task::Poll;

use nix::sys::signal::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Code, Failure};

/// Signals that are passed on to the command.
const PASSED_ON: [Number; 8] = [
    Number::SIGINT,
    Number::SIGTERM,
    Number::SIGHUP,
    Number::SIGQUIT,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGTSTP,
    Number::SIGCONT,
];

/// Listens to every signal that is passed on, except those that this process was started
/// to ignore (`nohup`): the command then ignores them too.
#[derive(Debug)]
pub(super) struct Signals {
    heard: RefCell<Vec<(Number, Signal)>>,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let ignored = ignored_signals();
        let heard = PASSED_ON
            .into_iter()
            .filter(|number| ignored & (1 << (*number as u32 - 1)) == 0)
            .map(|number| Ok((number, signal(SignalKind::from_raw(number as i32))?)))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| {
                Failure::new(Code::Internal, format!("signals cannot be heard: {error}"))
            })?;
        Ok(Self { heard: RefCell::new(heard) })
    }

    /// The next signal.
    pub(super) async fn next(&self) -> Number {
        std::future::poll_fn(|context| {
            for (number, signal) in self.heard.borrow_mut().iter_mut() {
                if let Poll::Ready(Some(())) = signal.poll_recv(context) {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Bit N-1 is set if signal N is ignored: field 33 of `/proc/self/stat`, see proc(5). It
/// knows no real-time signals, and they are not asked for.
fn ignored_signals() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name of the program, in parentheses; it may contain any.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_ascii_whitespace());
    fields.and_then(|mut fields| fields.nth(30)?.parse().ok()).unwrap_or(0)
}

/// Whether this signal asks to end.
pub(super) fn asks_to_end(number: Number) -> bool {
    matches!(number, Number::SIGINT | Number::SIGTERM | Number::SIGHUP | Number::SIGQUIT)
}
