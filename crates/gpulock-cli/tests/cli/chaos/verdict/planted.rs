//! Evidence that the tests of the verdict make up. What belongs together has one number: it is
//! the token, the pid, the lease id and the number of the run.

use std::time::Duration;

use gpulock::core::{Ending, Event, GpuIndex, LeaseId, Party, Priority, Time, Token, Wants, What};

use crate::cli::chaos::crew::{Answer, Run};
use crate::cli::chaos::work::{Moment, Note, Work};

pub(super) fn begins(number: u32, at: u64, gpus: &[u32]) -> Note {
    note(number, at, gpus, Moment::Begins { shared: Vec::new() })
}

pub(super) fn ends(number: u32, at: u64) -> Note {
    note(number, at, &[0], Moment::Ends { code: 0 })
}

fn note(number: u32, at: u64, gpus: &[u32], what: Moment) -> Note {
    Note {
        at,
        pid: number.cast_signed(),
        task: format!("run{number}"),
        lease_id: LeaseId::from_bits(number.into()),
        token: Token::from_value(number.into()),
        gpus: indices(gpus),
        what,
    }
}

pub(super) fn queued(number: u32, at: u64) -> Event {
    event(number, at, What::Queued { wants: Wants::Any(1), priority: Priority::Normal })
}

pub(super) fn granted(number: u32, at: u64, gpus: &[u32]) -> Event {
    event(number, at, What::Granted { gpus: indices(gpus), token: token(number), waited_micros: 0 })
}

pub(super) fn claimed(number: u32, at: u64) -> Event {
    event(number, at, What::Claimed { token: token(number) })
}

pub(super) fn ended(number: u32, at: u64, gpus: &[u32], how: Ending) -> Event {
    let (token, gpus) = (token(number), indices(gpus));
    event(number, at, What::Ended { token, gpus, how, held_micros: 0, draining: false })
}

/// The same, but its GPUs are not free yet.
pub(super) fn ended_draining(number: u32, at: u64, gpus: &[u32], how: Ending) -> Event {
    let (token, gpus) = (token(number), indices(gpus));
    event(number, at, What::Ended { token, gpus, how, held_micros: 0, draining: true })
}

pub(super) fn drained(number: u32, at: u64, gpus: &[u32]) -> Event {
    event(number, at, What::Drained { token: token(number), gpus: indices(gpus) })
}

fn event(number: u32, at: u64, what: What) -> Event {
    let party = Party {
        lease_id: LeaseId::from_bits(number.into()),
        task: format!("run{number}").parse().unwrap(),
        host: "here".to_owned(),
        pid: Some(number),
    };
    Event { at: Time::from_micros(at), what, party: Some(party) }
}

/// A run that waits for 30 s, and was answered after so many seconds.
pub(super) fn run(number: u32, seconds: u64, answer: Answer) -> Run {
    let work = Work {
        task: format!("run{number}"),
        lasts: Duration::from_millis(1),
        code: 0,
        is_deaf: false,
        leaves_one: false,
    };
    let (began, ended) = (Duration::from_secs(100), Duration::from_secs(100 + seconds));
    let patience = Duration::from_secs(30);
    Run { work, options: Vec::new(), patience, began, ended, suffered: Vec::new(), answer }
}

pub(super) fn code(code: u8, said: &str) -> Answer {
    Answer::Code { code, said: said.to_owned() }
}

fn token(number: u32) -> Token {
    Token::from_value(number.into())
}

fn indices(gpus: &[u32]) -> Vec<GpuIndex> {
    gpus.iter().copied().map(GpuIndex).collect()
}
