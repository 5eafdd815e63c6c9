//! What the monitor does about a lease that is held for long: each level acts once.

use gpulock_core::{Command, Ending, Lease, Level, Phase, Reply, Request, Step, Time, Watch, What};

use crate::rules::support::*;

/// Somebody on `beta` watches as `watch` says.
fn patrol(desk: &mut Desk, watch: Watch) -> Step {
    desk.step(Command::Patrol { watch, sight: beta() })
}

/// Lets a lease grow older by so much, with a heartbeat every ten seconds.
fn grow(desk: &mut Desk, lease: &Lease, seconds: u64) {
    for _ in 0..seconds / 10 {
        desk.pass(secs(10));
        desk.renew(lease);
    }
}

fn levels(step: &Step) -> Vec<Level> {
    let level = |what: &What| match what {
        What::Overdue { level, .. } => Some(*level),
        _ => None,
    };
    step.events.iter().filter_map(|event| level(&event.what)).collect()
}

fn next_look(step: &Step) -> Option<Time> {
    match step.reply {
        Reply::Patrolled(next) => next,
        ref reply => panic!("the answer to a patrol is {reply:?}"),
    }
}

fn held() -> (Desk, Lease, Request) {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let waiter = work(2).patient(1_000);
    desk.queue(&waiter);
    (desk, lease, waiter)
}

#[test]
fn each_level_acts_once_and_the_next_waiter_runs_after_the_last() {
    let (mut desk, lease, waiter) = held();
    assert_eq!(levels(&patrol(&mut desk, watch())), []);
    for (level, is_asked) in [(Level::Warning, false), (Level::Soft, true)] {
        grow(&mut desk, &lease, 20);
        assert_eq!(levels(&patrol(&mut desk, watch())), [level]);
        assert_eq!(levels(&patrol(&mut desk, watch())), [], "a second time");
        assert!(desk.holds(&work(1)), "{level} robs nobody");
        assert_eq!(desk.renew(&lease).held.expect("a lease").1.is_some(), is_asked);
    }
    grow(&mut desk, &lease, 20);
    let step = patrol(&mut desk, watch());
    assert_eq!(levels(&step), [Level::Hard]);
    assert!(desk.drains(&work(1)), "its process lives on alpha");
    let step = desk.see(&lease, Seen::Nothing);
    assert!(matches!(step.events[0].what, What::Drained { .. }));
    assert!(desk.holds(&waiter));
    let counters = desk.view().ledger.counters;
    assert_eq!((counters.warnings, counters.soft_timeouts, counters.hard_timeouts), (1, 1, 1));
    assert_eq!((counters.recovered.hard, counters.recovered.total()), (1, 1));
}

#[test]
fn a_holder_that_gives_its_lease_back_when_asked_is_a_recovery_too() {
    let (mut desk, lease, waiter) = held();
    grow(&mut desk, &lease, 40);
    patrol(&mut desk, watch());
    desk.release(&lease);
    assert!(desk.holds(&waiter));
    assert_eq!(desk.view().ledger.counters.recovered.soft, 1);
}

#[test]
fn a_silent_holder_loses_its_lease_at_any_age() {
    let (mut desk, lease, _) = held();
    desk.pass(secs(30));
    let step = patrol(&mut desk, watch());
    assert_eq!(levels(&step), [], "it is over, and no longer overdue");
    assert!(desk.drains(&work(1)));
    desk.see(&lease, Seen::Nothing);
    assert_eq!(desk.view().ledger.counters.recovered.heartbeat, 1);
}

#[test]
fn a_monitor_that_comes_late_notes_only_the_last_level() {
    let (mut desk, lease, _) = held();
    grow(&mut desk, &lease, 100);
    let step = patrol(&mut desk, watch());
    assert_eq!(levels(&step), [Level::Hard]);
    assert!(matches!(
        &step.events[1].what,
        What::Ended { how: Ending::Seized { by, reason }, draining: true, .. }
            if by == "monitor" && reason == "hard timeout: held for 100 s"
    ));
}

#[test]
fn a_monitor_that_shall_not_recover_notes_levels_alone() {
    let (mut desk, lease, _) = held();
    let only_looks = Watch { recovers: false, ..watch() };
    for level in Level::ALL {
        grow(&mut desk, &lease, 20);
        assert_eq!(levels(&patrol(&mut desk, only_looks.clone())), [level]);
    }
    assert!(matches!(desk.lease(&work(1)).expect("a lease").phase, Phase::Held { .. }));
    // As soon as it may, it acts on what was noted before.
    patrol(&mut desk, watch());
    assert!(desk.drains(&work(1)));
}

#[test]
fn processes_that_live_on_are_noted_at_each_delay_and_given_up_at_last() {
    let (mut desk, lease, waiter) = held();
    grow(&mut desk, &lease, 60);
    patrol(&mut desk, watch());
    let found = |step: &Step| match step.events[..] {
        [] => None,
        [ref event] => match event.what {
            What::StillDraining { failures, is_given_up, .. } => Some((failures, is_given_up)),
            ref what => panic!("{what:?}"),
        },
        ref events => panic!("{events:?}"),
    };
    for (failures, is_given_up) in [(1, false), (2, false), (3, true)] {
        desk.see(&lease, Seen::AllAlive);
        assert_eq!(found(&patrol(&mut desk, watch())), None);
        desk.pass(secs(10));
        desk.see(&lease, Seen::AllAlive);
        assert_eq!(found(&patrol(&mut desk, watch())), Some((failures, is_given_up)));
    }
    desk.pass(secs(500));
    desk.see(&lease, Seen::AllAlive);
    let step = patrol(&mut desk, watch());
    assert_eq!((found(&step), next_look(&step)), (None, None));
    assert!(!desk.holds(&waiter), "the GPU is not free as long as somebody uses it");
    assert_eq!(desk.view().ledger.counters.not_recovered.hard, 1);
}

#[test]
fn a_patrol_says_when_to_come_again() {
    let (mut desk, lease, _) = held();
    let next = |desk: &mut Desk| next_look(&patrol(desk, watch())).expect("a next look");
    assert_eq!(next(&mut desk), START + secs(20), "the first level");
    grow(&mut desk, &lease, 20);
    assert_eq!(next(&mut desk), START + secs(40));
    desk.pass(secs(15));
    assert_eq!(next(&mut desk), START + secs(40));
    desk.renew(&lease);
    desk.pass(secs(6));
    patrol(&mut desk, watch());
    desk.pass(secs(2));
    assert_eq!(next(&mut desk), START + secs(60), "the last level, before the deadline");
}

#[test]
fn a_grant_that_nobody_picked_up_is_not_overdue() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.queue(&work(2));
    desk.release(&lease);
    let levels_at_once = gpulock_core::Levels { warning: secs(0), soft: secs(0), hard: secs(0) };
    let step = patrol(&mut desk, Watch { levels: levels_at_once, ..watch() });
    assert_eq!(levels(&step), []);
    assert!(desk.lease(&work(2)).is_some());
}
