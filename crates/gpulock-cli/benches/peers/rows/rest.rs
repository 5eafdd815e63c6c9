//! What waiters cost while nothing happens.

use std::time::Duration;

use crate::crew::Crew;
use crate::part::Part;
use crate::peer::Peer;
use crate::servers::Server;
use crate::table::{NOTHING, each_at_once, of, row};

const WAITING: usize = 32;

/// Until those who poll less and less often poll as rarely as they ever will.
const SETTLING: Duration = Duration::from_secs(20);
const COUNTED_FOR: Duration = Duration::from_secs(20);

const TTL: Duration = Duration::from_secs(30);

/// Nobody renews this during the measurement.
const TTL_OF_HOLDER: Duration = Duration::from_secs(3_600);

pub(crate) fn measure() {
    let counts = each_at_once(of_one);
    row(&format!("commands of a waiter at rest in 10 s ({WAITING} wait)"), |peer| {
        of(&counts, peer).map_or(NOTHING.to_owned(), |count| format!("{count:.2}"))
    });
}

fn of_one(peer: Peer) -> Option<f64> {
    let server = Server::start(peer);
    let (url, counts) = (server.url(peer), server.counts()?);
    let _holder = Crew::start(peer, &url, 1, &Part::new("keep").ttl(TTL_OF_HOLDER));
    let mut waiters = Crew::start(peer, &url, WAITING, &Part::new("once").ttl(TTL));
    waiters.open_gate();
    std::thread::sleep(SETTLING);
    let watched = counts.watch_commands();
    std::thread::sleep(COUNTED_FOR);
    Some(watched.so_far() as f64 / WAITING as f64 / (COUNTED_FOR.as_secs_f64() / 10.0))
}
