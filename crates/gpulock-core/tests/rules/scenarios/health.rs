//! Figures and the verdict over a pool.

use gpulock_core::health::{Issue, Outcomes, Severity, Thresholds};
use gpulock_core::{CancelReason, Command, Event};

use crate::rules::support::*;

fn thresholds() -> Thresholds {
    Thresholds {
        min_success_rate: 0.8,
        max_timeout_rate: 0.2,
        max_lock_age: secs(45),
        levels: watch().levels,
    }
}

fn issues(desk: &Desk) -> Vec<Issue> {
    desk.view().issues(desk.now, &desk.waiting(), Outcomes::default(), &thresholds())
}

#[test]
fn a_pool_in_use_is_healthy() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    desk.queue(&work(2));
    assert_eq!(issues(&desk), []);
}

#[test]
fn a_dead_holder_is_a_deadlock_only_while_others_wait_for_its_gpu() {
    let mut desk = Desk::with_gpus(2);
    let lease = desk.take(&work(1).on(&[0])).lease_id;
    desk.take(&work(2).on(&[1]).fixed(1_000));
    desk.pass(secs(36));
    assert_eq!(issues(&desk), [], "nobody has looked, and nobody waits");
    desk.queue(&work(3).on(&[1]));
    desk.queue(&work(4).on(&[0]));
    let since = secs(0);
    assert_eq!(issues(&desk), [Issue::Zombie { lease, since }], "it has just been noticed");
    desk.cancel(&work(4).on(&[0]));
    desk.pass(secs(5));
    let since = secs(5);
    assert_eq!(issues(&desk), [Issue::Zombie { lease, since }], "who waits does so for another");
    desk.queue(&work(4).on(&[0]));
    let found = issues(&desk);
    let gpu = gpulock_core::GpuIndex(0);
    assert_eq!(found, [Issue::Deadlock { gpu, lease }, Issue::Zombie { lease, since }]);
    assert_eq!(found[0].severity(), Severity::Critical);
}

#[test]
fn a_holder_past_the_hard_timeout_is_a_deadlock() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1).fixed(1_000));
    desk.queue(&work(2).any(1).patient(1_000));
    desk.pass(secs(46));
    assert!(matches!(issues(&desk)[..], [Issue::LongHeld { .. }]));
    desk.pass(secs(18));
    assert!(matches!(issues(&desk)[..], [Issue::LongHeld { .. }]), "the monitor is about to act");
    desk.pass(secs(1));
    assert!(matches!(issues(&desk)[..], [Issue::Deadlock { .. }, Issue::LongHeld { .. }]));
}

#[test]
fn rates_are_those_of_the_latest_requests() {
    let mut desk = Desk::with_gpus(1);
    let mut events: Vec<Event> = Vec::new();
    for id in 0..6 {
        let step = desk.step(Command::Acquire(work(id)));
        events.extend(step.events);
        let lease = desk.lease(&work(id)).expect("a lease");
        desk.release(&lease);
    }
    let lease = desk.take(&work(10));
    for id in 11..15 {
        desk.queue(&work(id));
        let (lease_id, reason) = (work(id).lease_id, CancelReason::TimedOut);
        events.extend(desk.step(Command::Cancel { lease_id, run: None, reason, polls: 3 }).events);
    }
    events.reverse();
    let recent = |window| Outcomes::of_latest(&events, window);
    assert_eq!(recent(5), Outcomes { granted: 1, timed_out: 4, left: 0 });
    assert_eq!(recent(100), Outcomes { granted: 6, timed_out: 4, left: 0 });
    let view = desk.view();
    let found = |recent| view.issues(desk.now, &[], recent, &thresholds());
    assert_eq!(found(recent(4)), [], "too few to say anything");
    assert_eq!(found(recent(5)), [Issue::LowSuccessRate(0.2), Issue::HighTimeoutRate(0.8)]);
    let all = Outcomes::of_all(&view.ledger.counters);
    assert_eq!(all, Outcomes { granted: 7, timed_out: 4, left: 0 });
    assert_eq!(view.ledger.counters.polls, 12);
    desk.release(&lease);
}
