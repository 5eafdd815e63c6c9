//! What the rules promise to stores: what a decision read, from when on it is right, and whom
//! to wake.

use gpulock_core::{Command, Parts, SeizeMode, Why};

use crate::rules::support::*;

const LEASES: Parts = Parts { leases: true, queue: false };
const BOTH: Parts = Parts { leases: true, queue: true };

#[test]
fn joining_while_everything_is_taken_reads_only_the_leases() {
    let mut desk = Desk::with_gpus(2);
    desk.take(&work(1));
    desk.take(&work(2));
    for id in 3..30 {
        let step = desk.step(Command::Acquire(work(id)));
        assert_eq!(step.changes.reads, LEASES);
        assert!(step.changes.ledger.is_none() && step.changes.leases.is_empty());
        assert_eq!(step.changes.waiters.len(), 1);
    }
}

#[test]
fn a_step_that_frees_a_gpu_reads_the_queue_even_if_it_is_empty() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let step = desk.release(&lease);
    assert_eq!(step.changes.reads, BOTH, "somebody may be joining at this moment");
}

#[test]
fn leaving_the_queue_reads_it() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    desk.queue(&work(2));
    assert_eq!(desk.cancel(&work(2)).changes.reads, BOTH);
    assert_eq!(desk.cancel(&work(2)).changes.reads, BOTH, "that it is not there was read too");
}

#[test]
fn a_heartbeat_while_everything_is_taken_does_not_disturb_the_queue() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.queue(&work(2));
    desk.pass(secs(1));
    let renewal = gpulock_core::Renewal { lease: lease.reference(), progress: None };
    let step = desk.step(Command::Renew(vec![renewal]));
    assert_eq!(step.changes.reads, LEASES);
    assert!(step.changes.ledger.is_none() && step.changes.waiters.is_empty());
}

#[test]
fn a_decision_based_on_the_clock_says_from_when_on_it_is_right() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let deadline = lease.deadline();
    assert_eq!(desk.tick().changes.not_before, None);
    desk.pass(secs(40));
    assert_eq!(desk.tick().changes.not_before, deadline);
    let ended_at = desk.now;
    desk.pass(secs(1));
    let freed = desk.tick_from(beta());
    assert_eq!(freed.changes.not_before, Some(ended_at + secs(1)));
}

#[test]
fn a_decision_that_extends_a_lease_is_right_only_before_its_old_deadline() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.pass(secs(10));
    let renewal = gpulock_core::Renewal { lease: lease.reference(), progress: None };
    let renewed = desk.step(Command::Renew(vec![renewal]));
    assert_eq!(renewed.changes.not_after, lease.deadline());
    assert_eq!(desk.release(&lease).changes.not_after, None);
    let request = work(2).supervised();
    let granted = desk.take(&request);
    let group = group_of(granted.lease_id);
    let claimed = desk.step(Command::Claim { lease: granted.reference(), group });
    assert_eq!(claimed.changes.not_after, granted.deadline());
}

#[test]
fn a_look_without_effect_writes_nothing() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    desk.queue(&work(2));
    desk.pass(secs(1));
    assert!(desk.tick().changes.is_empty());
    assert!(desk.step(Command::Acquire(work(2))).changes.is_empty());
}

#[test]
fn only_the_waiter_that_was_granted_is_woken_for_it() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    (2..50).for_each(|id| desk.queue(&work(id)));
    let step = desk.release(&lease);
    assert_eq!(woken(&step, Why::Granted), [work(2).lease_id]);
    assert_eq!(step.wake[0].channel, work(2).channel.unwrap());
}

#[test]
fn whoever_asks_hears_its_grant_in_the_reply_and_not_by_a_call() {
    let mut desk = Desk::with_gpus(1);
    let step = desk.step(Command::Acquire(work(1)));
    assert_eq!(step.wake, []);
}

#[test]
fn the_first_waiter_of_every_sight_is_told_to_watch_and_nobody_else() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let sights = [alpha(), None, beta(), alpha(), beta(), None, alpha()];
    for (id, sight) in (2..).zip(sights) {
        desk.queue(&work(id).seen_from(sight));
    }
    let step = desk.release(&lease);
    assert_eq!(woken(&step, Why::Granted), [work(2).lease_id]);
    assert_eq!(woken(&step, Why::Watch), [work(4).lease_id, work(5).lease_id]);
}

#[test]
fn when_the_watcher_leaves_the_next_of_its_sight_watches() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    (2..5).for_each(|id| desk.queue(&work(id)));
    let step = desk.cancel(&work(2));
    assert_eq!(woken(&step, Why::Watch), [work(3).lease_id]);
}

#[test]
fn nobody_is_woken_where_nothing_moved() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    (2..5).for_each(|id| desk.queue(&work(id)));
    assert_eq!(desk.see(&lease, Seen::HolderAlone).wake, []);
    assert!(desk.renew(&lease).held.is_some());
    assert_eq!(desk.tick().wake, []);
}

#[test]
fn a_holder_that_loses_its_lease_by_force_is_told_at_once() {
    for mode in [SeizeMode::Drain, SeizeMode::IgnoreProcesses] {
        let mut desk = Desk::with_gpus(1);
        let lease = desk.take(&work(1));
        assert_eq!(woken(&desk.seize(&lease, mode), Why::Stop), [lease.lease_id]);
        assert_eq!(desk.seize(&lease, mode).wake, []);
    }
}

#[test]
fn one_step_hands_out_all_that_came_free() {
    let mut desk = Desk::with_gpus(4);
    let lease = desk.take(&work(1).any(4));
    (2..10).for_each(|id| desk.queue(&work(id)));
    let step = desk.release(&lease);
    assert_eq!(woken(&step, Why::Granted).len(), 4);
    assert_eq!(desk.waiting().len(), 4);
}
