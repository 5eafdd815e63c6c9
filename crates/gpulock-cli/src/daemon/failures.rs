//! How often each peer showed a wrong token lately. Whoever tries many is told to wait; a right
//! token is always taken, so one badly configured program locks nobody else of its host out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many wrong tokens a peer may show within [`WINDOW`].
const ALLOWED: u32 = 20;

const WINDOW: Duration = Duration::from_secs(60);

/// How many peers are remembered.
const MOST_PEERS: usize = 1_024;

/// The wrong tokens of the last minute.
#[derive(Debug, Default)]
pub(super) struct Failures {
    peers: Mutex<HashMap<IpAddr, Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    count: u32,
}

impl Failures {
    /// Counts one. In how many seconds the peer may try again, if these were too many.
    pub(super) fn count(&self, peer: IpAddr, now: Instant) -> Option<u64> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = network(peer);
        if !peers.contains_key(&peer) && peers.len() >= MOST_PEERS {
            make_room(&mut peers, now);
        }
        let window = peers.entry(peer).or_insert(Window { began: now, count: 0 });
        if now.duration_since(window.began) >= WINDOW {
            *window = Window { began: now, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        let left = WINDOW.saturating_sub(now.duration_since(window.began));
        (window.count > ALLOWED).then(|| left.as_secs() + 1)
    }
}

fn make_room(peers: &mut HashMap<IpAddr, Window>, now: Instant) {
    peers.retain(|_, window| now.duration_since(window.began) < WINDOW);
    let oldest = peers.iter().min_by_key(|(_, window)| window.began).map(|(peer, _)| *peer);
    if let Some(oldest) = oldest.filter(|_| peers.len() >= MOST_PEERS) {
        peers.remove(&oldest);
    }
}

/// One host has a whole /64 of IPv6 addresses.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_wrong_tokens_have_to_wait_until_the_window_is_over() {
        let (failures, begin) = (Failures::default(), Instant::now());
        let peer = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..ALLOWED {
            assert_eq!(failures.count(peer, begin), None);
        }
        assert_eq!(failures.count(peer, begin + Duration::from_secs(20)), Some(41));
        assert_eq!(failures.count(IpAddr::from([192, 0, 2, 2]), begin), None);
        assert_eq!(failures.count(peer, begin + WINDOW), None);
    }

    #[test]
    fn memory_is_bounded_and_addresses_of_one_network_count_together() {
        let (failures, begin) = (Failures::default(), Instant::now());
        for number in 0..5_000_u128 {
            let peer = Ipv6Addr::from_bits(0x2001_0db8 << 96 | number << 64 | number);
            failures.count(peer.into(), begin);
        }
        assert_eq!(failures.peers.lock().unwrap().len(), MOST_PEERS);
        let neighbours = (0..=u128::from(ALLOWED))
            .map(|number| failures.count(Ipv6Addr::from_bits(0xfd << 120 | number).into(), begin));
        assert!(neighbours.last().unwrap().is_some());
    }
}
