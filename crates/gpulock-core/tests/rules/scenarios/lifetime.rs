//! How long leases, grants and waiters live.

use gpulock_core::{
    CancelReason, Cause, Command, Ending, Phase, Progress, Renewal, Reply, What, Why,
};

use crate::rules::support::*;

#[test]
fn a_heartbeat_moves_the_deadline() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    assert_eq!(lease.deadline(), Some(desk.now + secs(30)));
    desk.pass(secs(20));
    assert_eq!(desk.renew(&lease).held, Some((desk.now + secs(30), None)));
    desk.pass(secs(29));
    desk.tick();
    assert!(desk.holds(&work(1)));
}

#[test]
fn a_lease_ends_at_its_deadline_and_not_before() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.now = lease.deadline().unwrap();
    let before = gpulock_core::Time::from_micros(desk.now.as_micros() - 1);
    let mut earlier = desk.clone();
    earlier.now = before;
    assert!(earlier.renew(&lease).held.is_some());
    assert!(desk.renew(&lease).held.is_none());
    assert!(!desk.holds(&work(1)));
}

#[test]
fn renewing_never_revives() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.pass(secs(30));
    assert_eq!(desk.renew(&lease).held, None);
    assert!(desk.drains(&work(1)));
    desk.see(&lease, Seen::Nothing);
    assert_eq!(desk.renew(&lease).held, None);
    assert_eq!(desk.free(), [0]);
    assert_eq!(desk.view().ledger.counters.expired, 1);
}

#[test]
fn an_expired_lease_cannot_be_picked_up_or_claimed() {
    let mut desk = Desk::with_gpus(1);
    let request = work(1).supervised();
    let lease = desk.take(&request);
    desk.claim(&lease);
    desk.pass(secs(30));
    assert_eq!(desk.ask(&request), Reply::Lost);
    assert_eq!(desk.claim(&lease), Reply::Lost);
    assert!(desk.drains(&request));
}

#[test]
fn a_lease_without_heartbeats_ends_at_its_term_whatever_is_renewed() {
    let mut desk = Desk::with_gpus(1);
    let request = work(1).fixed(100).seen_from(None);
    let lease = desk.take(&request);
    let end = desk.now + secs(100);
    for _ in 0..9 {
        desk.pass(secs(10));
        assert_eq!(desk.renew(&lease).held, Some((end, None)));
    }
    desk.pass(secs(10));
    assert_eq!(desk.renew(&lease).held, None);
    assert_eq!(desk.free(), [0]);
}

#[test]
fn a_fixed_term_runs_from_the_grant_and_not_from_picking_it_up() {
    let mut desk = Desk::with_gpus(1);
    let first = desk.take(&work(1));
    let request = work(2).fixed(100);
    desk.queue(&request);
    desk.release(&first);
    let granted_at = desk.now;
    desk.pass(secs(9));
    assert_eq!(desk.take(&request).deadline(), Some(granted_at + secs(100)));
}

#[test]
fn the_last_progress_stands_until_the_next() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let progress = Some(Progress { basis_points: 4_500, message: "frame 100".to_owned() });
    let renewal = Renewal { lease: lease.reference(), progress: progress.clone() };
    desk.step(Command::Renew(vec![renewal]));
    desk.renew(&lease);
    assert_eq!(desk.lease(&work(1)).unwrap().progress, progress);
}

#[test]
fn a_grant_that_nobody_picks_up_goes_on_after_the_claim_time() {
    let mut desk = Desk::with_gpus(1);
    let first = desk.take(&work(1));
    desk.queue(&work(2));
    desk.queue(&work(3));
    desk.release(&first);
    assert!(matches!(desk.lease(&work(2)).unwrap().phase, Phase::Granted { .. }));
    desk.pass(secs(10));
    let step = desk.tick();
    assert!(desk.holds(&work(3)));
    assert!(step.events.iter().any(|event| matches!(
        event.what,
        What::Ended { how: Ending::Expired(Cause::NotClaimed), draining: false, .. }
    )));
    assert_eq!(desk.ask(&work(2)), Reply::Waiting, "it stands at the end of the queue again");
}

#[test]
fn a_grant_is_picked_up_by_asking_again() {
    let mut desk = Desk::with_gpus(1);
    let first = desk.take(&work(1));
    desk.queue(&work(2));
    desk.release(&first);
    desk.pass(secs(9));
    let lease = desk.take(&work(2));
    assert_eq!(lease.deadline(), Some(desk.now + secs(30)));
    desk.pass(secs(2));
    desk.tick();
    assert!(desk.holds(&work(2)));
}

#[test]
fn a_supervised_lease_is_held_from_its_claim_on() {
    let mut desk = Desk::with_gpus(1);
    let request = work(1).supervised();
    let lease = desk.take(&request);
    assert_eq!(lease.deadline(), Some(desk.now + secs(10)));
    desk.pass(secs(5));
    assert_eq!(desk.take(&request), lease, "asking again does not put the claim off");
    desk.claim(&lease);
    assert_eq!(desk.lease(&request).unwrap().deadline(), Some(desk.now + secs(30)));
}

#[test]
fn a_heartbeat_does_not_put_off_a_claim() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1).supervised());
    let claim_by = lease.deadline().unwrap();
    desk.pass(secs(5));
    assert_eq!(desk.renew(&lease).held, Some((claim_by, None)));
    desk.pass(secs(5));
    assert_eq!(desk.claim(&lease), Reply::Lost);
    assert_eq!(desk.free(), [0]);
}

#[test]
fn a_waiter_unseen_for_its_patience_is_dropped_and_never_granted() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.queue(&work(2).patient(6));
    desk.queue(&work(3).patient(60));
    desk.pass(secs(7));
    let step = desk.release(&lease);
    assert!(!desk.holds(&work(2)));
    assert!(desk.holds(&work(3)));
    assert_eq!(woken(&step, Why::Granted), [work(3).lease_id]);
    assert_eq!(desk.view().ledger.counters.dropped, 1);
}

#[test]
fn a_waiter_that_asks_now_and_then_is_not_dropped() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1).fixed(1_000));
    let request = work(2).patient(6);
    for _ in 0..10 {
        desk.queue(&request);
        desk.pass(secs(6));
    }
    desk.release(&lease);
    assert!(desk.holds(&request));
}

#[test]
fn whoever_does_not_want_to_wait_is_told_busy_and_leaves_nothing_behind() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    let before = desk.view();
    assert_eq!(desk.ask(&work(2).without_waiting()), Reply::Busy);
    assert_eq!(desk.view(), before);
}

#[test]
fn whoever_does_not_want_to_wait_takes_what_is_free() {
    let mut desk = Desk::with_gpus(1);
    assert_eq!(desk.take(&work(1).without_waiting()).gpus.len(), 1);
}

#[test]
fn leaving_the_queue_says_why() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    for (id, reason) in [(2, CancelReason::TimedOut), (3, CancelReason::GaveUp)] {
        desk.queue(&work(id));
        desk.pass(secs(1));
        let step =
            desk.step(Command::Cancel { lease_id: work(id).lease_id, run: None, reason, polls: 0 });
        let waited_micros = 1_000_000;
        assert_eq!(step.events[0].what, What::Cancelled { reason, waited_micros });
    }
    let counters = desk.view().ledger.counters;
    assert_eq!((counters.timed_out, counters.cancelled), (1, 1));
    assert_eq!(desk.waiting(), []);
}

#[test]
fn a_waiter_far_behind_can_leave_too() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1_000));
    (0..100).for_each(|id| desk.queue(&work(id)));
    desk.cancel(&work(99));
    assert_eq!(desk.waiting().len(), 99);
    assert_eq!(desk.record.ahead_of(work(99).lease_id), None);
}

#[test]
fn giving_up_gives_back_a_grant_that_crossed_it() {
    let mut desk = Desk::with_gpus(1);
    let first = desk.take(&work(1));
    desk.queue(&work(2));
    desk.queue(&work(3));
    desk.release(&first);
    assert!(desk.holds(&work(2)));
    desk.cancel(&work(2));
    assert!(!desk.holds(&work(2)));
    assert!(desk.holds(&work(3)), "and hands it on in the same step");
}

#[test]
fn giving_up_does_not_touch_a_lease_that_is_in_use() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.cancel(&work(1));
    assert_eq!(desk.lease(&work(1)), Some(lease));
}

#[test]
fn a_request_to_stop_reaches_every_heartbeat_after_it() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let step = desk.ask_to_stop(&lease);
    assert_eq!(woken(&step, Why::Stop), [lease.lease_id]);
    let asked_at = desk.now;
    for _ in 0..2 {
        desk.pass(secs(5));
        let (deadline, stop) = desk.renew(&lease).held.unwrap();
        assert_eq!(deadline, desk.now + secs(30), "a fresh heartbeat is never robbed");
        assert_eq!(
            stop.map(|stop| (stop.at, stop.reason)),
            Some((asked_at, "soft timeout".into()))
        );
    }
}

#[test]
fn a_holder_is_asked_to_stop_once() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.ask_to_stop(&lease);
    desk.pass(secs(1));
    let second = desk.ask_to_stop(&lease);
    assert_eq!(second.reply, Reply::Done);
    assert_eq!((second.events, second.wake), (vec![], vec![]));
}

#[test]
fn a_grant_that_is_not_in_use_yet_is_taken_back_instead_of_asked_to_stop() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1).supervised());
    desk.queue(&work(2));
    assert_eq!(desk.ask_to_stop(&lease).reply, Reply::Done);
    assert!(desk.holds(&work(2)));
    assert_eq!(desk.claim(&lease), Reply::Lost);
}

#[test]
fn a_step_tells_when_the_next_lease_ends() {
    let mut desk = Desk::with_gpus(2);
    desk.take(&work(1).fixed(100));
    let step = desk.step(Command::Acquire(work(2).fixed(20)));
    assert_eq!(step.next_deadline, Some(desk.now + secs(20)));
}
