//! Random commands in random order, some repeated, some late, some with the wrong token:
//! whatever comes, the invariants hold, and in the end everybody was served or told.

mod concurrent;
mod orders;
mod stored;

use gpulock_core::{Command, LeaseRef, Pool, Reply, Request, Waiter};
use proptest::prelude::*;

use self::orders::{Order, Script, orders};
use super::support::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..<_>::default() })]

    /// The desk itself checks the invariants after every step.
    #[test]
    fn no_sequence_of_commands_breaks_an_invariant(gpus in 1u32..=4, orders in orders()) {
        let mut script = Script::new(gpus);
        for order in &orders {
            script.play(order);
        }
    }

    #[test]
    fn a_command_that_comes_twice_at_one_moment_acts_once(
        gpus in 1u32..=4,
        orders in orders(),
    ) {
        let mut script = Script::new(gpus);
        for order in &orders {
            let Some(command) = script.play(order) else { continue };
            if was_put_out(&script.desk, &command) {
                continue;
            }
            let before = settled(&script.desk);
            let Ok(step) = script.desk.run(command.clone()) else { continue };
            prop_assert_eq!(settled(&script.desk), before, "by {:?}", command);
            prop_assert!(step.events.is_empty(), "{:?} told {:?}", command, step.events);
            prop_assert!(step.wake.is_empty(), "{:?} woke {:?}", command, step.wake);
        }
    }

    #[test]
    fn a_command_that_names_no_current_lease_does_nothing_but_what_time_does(
        gpus in 1u32..=4,
        orders in orders(),
    ) {
        let mut script = Script::new(gpus);
        for order in &orders {
            let mut idle = script.desk.clone();
            let leases = script.desk.view().leases;
            let Some(command) = script.play(order) else { continue };
            let Some(named) = names_lease(&command) else { continue };
            if leases.iter().all(|lease| lease.reference() != named) {
                idle.step(Command::Renew(Vec::new()));
                prop_assert_eq!(settled(&script.desk), settled(&idle), "by {:?}", command);
            }
        }
    }

    #[test]
    fn when_holders_release_every_waiter_is_served_or_told(
        gpus in 1u32..=4,
        orders in orders(),
    ) {
        let mut script = Script::new(gpus);
        for order in &orders {
            script.play(order);
        }
        let waiting = script.desk.waiting().len();
        // If the store came back meanwhile, first the pool must open.
        script.desk.pass(secs(40));
        let patience = 4 * (waiting + script.desk.view().leases.len() + 1);
        for _ in 0..patience {
            for lease in script.desk.view().leases {
                script.desk.release(&lease);
            }
            let waiters = script.desk.waiting();
            waiters.iter().for_each(|waiter| ask_or_leave(&mut script, waiter));
        }
        prop_assert_eq!(script.desk.waiting(), vec![]);
        prop_assert_eq!(script.desk.free().len(), script.inventory_size());
    }

    #[test]
    fn when_everybody_dies_everything_becomes_free(gpus in 1u32..=4, orders in orders()) {
        let mut script = Script::new(gpus);
        for order in &orders {
            script.play(order);
        }
        // Grants to waiters that are dead too are taken back one after the other.
        let rounds = script.desk.waiting().len() + script.desk.view().leases.len() + 2;
        for _ in 0..rounds {
            script.desk.pass(secs(100));
            for lease in script.desk.view().leases {
                script.desk.see(&lease, Seen::Nothing);
            }
            script.desk.tick();
        }
        prop_assert_eq!(script.desk.waiting(), vec![]);
        prop_assert_eq!(script.desk.free().len(), script.inventory_size());
    }
}

/// Whether this stood in line and was put out by the look that followed, because it wants what
/// is not there: then it may stand in line again.
fn was_put_out(desk: &Desk, command: &Command) -> bool {
    matches!(command, Command::Queue(request)
        if desk.record.ahead_of(request.lease_id).is_none()
            && !desk.record.is_leased(request.lease_id))
}

/// What somebody who waits does in the end: ask again, and leave if that makes no sense.
fn ask_or_leave(script: &mut Script, waiter: &Waiter) {
    let mut request = Request { inside: Vec::new(), ..script.asked(waiter.lease_id) };
    request.owner.run = waiter.owner.run;
    match script.desk.run(Command::Acquire(request.clone())) {
        Ok(step) => assert!(matches!(step.reply, Reply::Granted(_) | Reply::Waiting | Reply::Busy)),
        Err(_) => {
            script.desk.cancel(&request);
        }
    }
}

/// The lease that a command names by id and token.
fn names_lease(command: &Command) -> Option<LeaseRef> {
    match command {
        Command::Claim { lease, .. }
        | Command::Release(lease)
        | Command::Retire(lease)
        | Command::AskToStop { lease, .. }
        | Command::Seize { lease, .. } => Some(*lease),
        Command::Renew(renewals) if renewals.len() == 1 => Some(renewals[0].lease),
        _ => None,
    }
}

/// Everything that is kept, but for the count of violations.
fn settled(desk: &Desk) -> (Pool, Vec<Waiter>) {
    let mut pool = desk.view();
    pool.ledger.counters.ownership_violations = 0;
    (pool, desk.waiting())
}

/// The commands are worth nothing if they never lead anywhere.
#[test]
fn the_random_commands_reach_every_corner() {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    let reached = RefCell::new(BTreeSet::new());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let played = runner.run(&(1u32..=4, orders()), |(gpus, orders): (u32, Vec<Order>)| {
        let mut script = Script::new(gpus);
        for order in &orders {
            script.play(order);
        }
        reached.borrow_mut().extend(script.reached);
        Ok(())
    });
    played.expect("scripts that play");
    let expected = [
        "asked to stop",
        "overdue",
        "hard timeout",
        "still draining",
        "busy",
        "cancelled",
        "claimed",
        "configured",
        "drained",
        "draining",
        "dropped",
        "duplicate",
        "expired",
        "granted later",
        "granted at once",
        "holder died",
        "lost",
        "not claimed",
        "queued",
        "refused",
        "released",
        "renewed",
        "resumed",
        "seized",
        "waited for bound",
    ];
    let missing: Vec<_> =
        expected.iter().filter(|name| !reached.borrow().contains(*name)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}
