//! From one holder to the next: how long, for how many commands, and in which order.

use std::time::{Duration, Instant};

use crate::crew::Crew;
use crate::part::Part;
use crate::peer::Peer;
use crate::servers::Server;
use crate::table::{NOTHING, each, median_and_p99, of, row};
use crate::turns::Turns;
use crate::worker::now;

const WAITING: [usize; 3] = [2, 32, 256];

/// Long enough for whoever gave it back to stand in the queue again.
const HOLD: Duration = Duration::from_millis(2);

const TIMED: usize = 1_000;
const TIMED_FOR: Duration = Duration::from_secs(4);
const COUNTED: usize = 200;
const COUNTED_FOR: Duration = Duration::from_secs(2);

/// With few waiting, the plain polling lock takes seconds for each.
const PATIENCE_WITH_POLLING: u32 = 2;

/// What one lock did with so many waiting.
struct Outcome {
    times: Vec<Duration>,
    overtakers: usize,
    served: usize,
    /// For each hand-over, where they can be counted.
    commands: Option<f64>,
}

pub(crate) fn measure() {
    for waiting in WAITING {
        let outcomes = each(|peer| of_one(peer, waiting));
        row(&format!("hand-over, {waiting} waiting, median / p99"), |peer| {
            median_and_p99(of(&outcomes, peer).times.clone())
        });
        row(&format!("commands for each hand-over, {waiting} waiting"), |peer| {
            let commands = of(&outcomes, peer).commands;
            commands.map_or(NOTHING.to_owned(), |commands| format!("{commands:.1}"))
        });
        row(&format!("went before somebody who had asked earlier, {waiting} waiting"), |peer| {
            let Outcome { overtakers, served, .. } = of(&outcomes, peer);
            format!("{overtakers} of {served}")
        });
    }
}

fn of_one(peer: Peer, waiting: usize) -> Outcome {
    let is_slow = peer == Peer::Polling && waiting == WAITING[0];
    let patience = if is_slow { PATIENCE_WITH_POLLING } else { 1 };
    let server = Server::start(peer);
    let part = Part::new("relay").hold(HOLD);
    let mut crew = Crew::start(peer, &server.url(peer), waiting + 1, &part);
    crew.open_gate();
    let mut turns = Turns::default();
    turns.listen_until_all_ask(&crew, waiting + 1);
    let all_wait = now();
    turns.listen(&crew, turns.count() + TIMED, Instant::now() + TIMED_FOR * patience);
    let (times, overtakers, served) =
        (turns.hand_overs(all_wait), turns.overtakers(), turns.count());
    let commands = server.counts().map(|counts| {
        let (watched, from) = (counts.watch_commands(), now());
        turns.listen(&crew, served + COUNTED, Instant::now() + COUNTED_FOR * patience);
        watched.so_far() as f64 / turns.count_since(from).max(1) as f64
    });
    Outcome { times, overtakers, served, commands }
}
