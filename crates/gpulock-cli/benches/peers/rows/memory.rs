//! What a lease and a waiter take of the server's memory: the keys that are there for them.

use crate::crew::Crew;
use crate::part::{KEY, Part};
use crate::peer::Peer;
use crate::servers::Server;
use crate::stand_in;
use crate::table::{NOTHING, each, of, row, row_of_gpulock};

const LEASES: usize = 1_000;
const WAITERS: u128 = 1_000;

pub(crate) fn measure() {
    let leases = each(of_lease);
    row("memory in Redis for each lock that is held", |peer| {
        of(&leases, peer).map_or(NOTHING.to_owned(), |bytes| format!("{bytes} B"))
    });
    row_of_gpulock("memory in Redis for each waiter", &format!("{} B", of_waiter()));
}

/// Each in a pool of its own.
fn of_lease(peer: Peer) -> Option<u64> {
    let server = Server::start(peer);
    let mut counts = server.counts()?;
    let _holder = Crew::start(peer, &server.url(peer), 1, &Part::new("keep").each(LEASES));
    Some(counts.memory_of_keys() / LEASES as u64)
}

fn of_waiter() -> u64 {
    let server = Server::start(Peer::Gpulock);
    let (url, mut counts) = (server.url(Peer::Gpulock), server.counts().unwrap());
    let _holder = Crew::start(Peer::Gpulock, &url, 1, &Part::new("keep"));
    let before = counts.memory_of_keys();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = gpulock::connect(&url).unwrap();
        stand_in::join(&store, &KEY.parse().unwrap(), 0, WAITERS).await;
    });
    (counts.memory_of_keys() - before) / WAITERS as u64
}
