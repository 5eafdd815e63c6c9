//! A server whose clock somebody sets.

use std::time::Duration;

use gpulock::core::Time;
use gpulock::{Health, Loss};
use gpulock_testbed::RedisServer;

use super::support::{World, block_on, task, trusted, until};

const HOUR: i64 = 3_600;

struct Trouble {
    world: World,
    server: RedisServer,
}

impl Trouble {
    fn new() -> Self {
        let server = RedisServer::with_clock();
        Self { world: World::at(trusted(&server)), server }
    }

    fn now(&self) -> Time {
        self.world.view().now
    }
}

#[test]
fn a_clock_that_is_set_back_neither_ends_nor_lengthens_a_lease() {
    let trouble = Trouble::new();
    let client = trouble.world.client();
    let timeout = Duration::from_millis(1_500);
    let held = client.request(task("held")).heartbeats(timeout / 10, timeout).acquire().unwrap();
    let before = trouble.world.view().pool.leases[0].renewed_at();
    trouble.server.shift_clock(-HOUR);
    assert!(trouble.now() >= before, "the store's clock never goes back behind a write");
    until("heartbeats still count", || trouble.now() > before + timeout * 2);
    held.check().unwrap();
    let token = held.token();
    block_on(held.release()).unwrap();

    let fixed = client.request(task("fixed")).fixed_term(timeout).acquire().unwrap();
    assert!(fixed.token() > token);
    trouble.server.shift_clock(-2 * HOUR);
    block_on(fixed.lost());
    until("the store ends it in its time, not hours later", || {
        let other = client.request(task("other")).no_wait().acquire();
        assert!(other.is_err(), "its process lives, so its GPU is in use");
        trouble.world.view().pool.leases[0].is_over()
    });
}

/// The price of deadlines on the server's clock. Where processes can be seen, the GPU still
/// goes to nobody else before they are done.
#[test]
fn a_clock_that_is_set_ahead_ends_leases_and_their_holders_are_told() {
    let trouble = Trouble::new();
    let client = trouble.world.client();
    let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(60));
    let lease = client.request(task("robbed")).heartbeats(interval, timeout).acquire().unwrap();
    trouble.server.shift_clock(HOUR);
    block_on(lease.lost());
    assert_eq!(lease.state().health, Health::Lost(Loss::Refused));
    let other = client.request(task("other")).no_wait().acquire();
    assert!(other.is_err(), "its process lives, so its GPU is in use");
    let token = lease.token();
    drop(lease);
    let next = client.request(task("next")).acquire().unwrap();
    assert!(next.token() > token);
}
