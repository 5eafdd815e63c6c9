//! The wait, and the line that says for whom.

use std::time::Duration;

use gpulock::{Acquiring, BootTime, Error, Lease, WaitState, brief, closed};
use nix::sys::signal::{Signal as Number, raise};

use crate::output::StatusLine;

use super::signals::{Signals, asks_to_end};

/// How often the line is rewritten while nothing changes, so that its times run.
const REFRESH: Duration = Duration::from_secs(1);

/// How a wait ended without a lease.
pub(super) enum Ended {
    Failed(Error),
    BySignal(u8),
}

/// Waits for the answer and shows what is known meanwhile.
pub(super) async fn wait(mut acquiring: Acquiring, signals: &Signals) -> Result<Lease, Ended> {
    let began = BootTime::now();
    let mut progress = acquiring.progress();
    let mut line = StatusLine::default();
    let mut shown = WaitState::default();
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut acquiring => break answer.map_err(Ended::Failed),
            signal = signals.next() => match signal {
                end if asks_to_end(end) => break Err(Ended::BySignal(end as u8)),
                // As if nobody had listened: the shell's Ctrl-Z.
                Number::SIGTSTP => { let _ = raise(Number::SIGSTOP); }
                _ => {}
            },
            changed = progress.changed() => if changed.is_ok() {
                let before = shown;
                shown = progress.borrow_and_update().clone();
                let news = shown.store_trouble.is_some()
                    && shown.store_trouble != before.store_trouble;
                show(&mut line, &shown, began, news);
            } else {
                // The answer is on its way.
                tokio::task::yield_now().await;
            },
            () = tokio::time::sleep(REFRESH) => show(&mut line, &shown, began, false),
        }
    };
    line.end();
    if matches!(answer, Err(Ended::BySignal(_))) {
        acquiring.call_off().await;
    }
    answer
}

fn show(line: &mut StatusLine, state: &WaitState, began: BootTime, is_news: bool) {
    let waited = match began.elapsed() {
        short if short < REFRESH => String::new(),
        long => format!(" for {}", brief(long)),
    };
    if let Some(trouble) = &state.store_trouble {
        line.show(&format!("gpulock: {trouble}; trying again{waited}"), is_news);
    } else if let Some(ahead) = state.ahead {
        line.show(&format!("gpulock: waiting{waited}, {}", place(state, ahead)), is_news);
    }
}

/// `place 2 in the queue; GPU 0 held by ocr (pid 4242 on gpu1) for 45s`
fn place(state: &WaitState, ahead: u64) -> String {
    let mut text = format!("place {} in the queue", ahead + 1);
    for holder in &state.holders {
        let gpus: Vec<_> = holder.gpus.iter().map(ToString::to_string).collect();
        text.push_str(&format!("; GPU {} held by {holder}", gpus.join(",")));
    }
    if let Some(left) = state.closed_for {
        text.push_str(&format!("; {}", closed(left)));
    }
    text
}
