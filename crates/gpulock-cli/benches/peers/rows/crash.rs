//! How soon the next holder runs after SIGKILL hit the one before it, on the same host.

use std::time::Duration;

use crate::crew::Crew;
use crate::part::Part;
use crate::peer::Peer;
use crate::servers::Server;
use crate::table::{each_at_once, median, of, row, shown};
use crate::worker::now;

const ROUNDS: [&str; 3] = ["crash-1", "crash-2", "crash-3"];
const TTL: Duration = Duration::from_secs(4);

/// For the waiter to get into the queue, or to begin to poll.
const STANDING: Duration = Duration::from_millis(300);

pub(crate) fn measure() {
    let times = each_at_once(of_one);
    let figure = format!("next holder after SIGKILL, leases of {} s, median", TTL.as_secs());
    row(&figure, |peer| shown(*of(&times, peer)));
}

fn of_one(peer: Peer) -> Duration {
    let server = Server::start(peer);
    let url = server.url(peer);
    median(ROUNDS.map(|key| of_round(peer, &url, key)).into())
}

fn of_round(peer: Peer, url: &str, key: &'static str) -> Duration {
    let part = Part::new("once").ttl(TTL).key(key);
    let mut waiter = Crew::start(peer, url, 1, &part);
    let mut holder = Crew::start(peer, url, 1, &Part { play: "keep", ..part });
    let until = waiter.open_gate() + Duration::from_secs(60);
    waiter.await_reports("asks", 1, until).unwrap();
    std::thread::sleep(STANDING);
    let killed = now();
    holder.kill();
    let held = waiter.await_reports("held", 1, until).unwrap().numbers[1];
    Duration::from_nanos(held.saturating_sub(killed))
}
