//! What happens when a holder dies, hangs or is robbed: expired, dead and free are three facts.

use gpulock_core::{Command, Evidence, Lease, Reply, Request, SeizeMode, Subject, What, Why};

use crate::rules::support::*;

/// A desk where `request` holds the only GPU, `work(2)` waits for it, and the deadline of
/// the lease has passed.
fn expired(request: &Request) -> (Desk, Lease) {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(request);
    if request.supervised {
        desk.claim(&lease);
    }
    desk.queue(&work(2).patient(1_000));
    desk.pass(secs(30));
    desk.tick();
    (desk, lease)
}

#[test]
fn an_expired_lease_drains_while_its_process_may_live() {
    let (mut desk, lease) = expired(&work(1));
    assert!(desk.drains(&work(1)));
    assert_eq!(desk.free(), Vec::<u32>::new());
    for _ in 0..100 {
        desk.pass(secs(60));
        desk.see(&lease, Seen::HolderAlone);
        desk.tick();
        assert!(desk.drains(&work(1)), "evidence of life keeps it");
    }
    desk.queue(&work(2).patient(1_000));
}

#[test]
fn evidence_that_the_process_is_gone_frees_the_gpu_and_grants_it_in_the_same_step() {
    let (mut desk, lease) = expired(&work(1));
    let step = desk.see(&lease, Seen::Nothing);
    assert!(desk.holds(&work(2)));
    let told: Vec<_> = step.events.iter().map(|event| &event.what).collect();
    assert!(matches!(told[..], [What::Drained { .. }, What::Granted { .. }]), "{told:?}");
    assert_eq!(woken(&step, Why::Granted), [work(2).lease_id]);
}

#[test]
fn a_dead_holder_without_a_group_frees_the_gpu_before_the_deadline() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.queue(&work(2));
    desk.see(&lease, Seen::Nothing);
    assert!(desk.holds(&work(2)));
    let counters = desk.view().ledger.counters;
    assert_eq!((counters.expired, counters.died), (1, 1));
}

#[test]
fn a_living_holder_is_left_alone() {
    let mut desk = Desk::with_gpus(1);
    let request = work(1).supervised();
    let lease = desk.take(&request);
    desk.claim(&lease);
    let before = desk.view();
    for seen in [Seen::AllAlive, Seen::HolderAlone] {
        assert_eq!(desk.see(&lease, seen).reply, Reply::Done);
        assert_eq!(desk.view(), before);
    }
}

#[test]
fn a_dead_holder_whose_group_lives_drains() {
    let mut desk = Desk::with_gpus(1);
    let request = work(1).supervised();
    let lease = desk.take(&request);
    desk.claim(&lease);
    desk.queue(&work(2));
    desk.see(&lease, Seen::GroupAlone);
    assert!(desk.drains(&request));
    desk.pass(secs(5));
    desk.see(&lease, Seen::GroupAlone);
    assert!(desk.drains(&request));
    desk.see(&lease, Seen::Nothing);
    assert!(desk.holds(&work(2)));
}

#[test]
fn a_drained_group_frees_the_gpu_although_its_stopped_supervisor_lives() {
    let (mut desk, lease) = expired(&work(1).supervised());
    desk.see(&lease, Seen::AllAlive);
    assert!(desk.drains(&work(1)));
    desk.see(&lease, Seen::HolderAlone);
    assert!(desk.holds(&work(2)));
}

#[test]
fn late_evidence_about_a_lease_that_is_gone_is_no_violation() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.release(&lease);
    desk.take(&work(2));
    assert_eq!(desk.see(&lease, Seen::Nothing).reply, Reply::Lost);
    assert!(desk.holds(&work(2)));
    assert_eq!(desk.violations(), 0);
}

#[test]
fn a_caller_from_elsewhere_frees_a_silent_drain_after_the_witness_patience_only() {
    for elsewhere in [beta(), None] {
        let (mut desk, lease) = expired(&work(1));
        desk.pass(secs(5));
        desk.see(&lease, Seen::HolderAlone);
        desk.pass(secs(1) - std::time::Duration::from_micros(1));
        desk.tick_from(elsewhere.clone());
        assert!(desk.drains(&work(1)), "somebody on its host has just looked");
        desk.pass(std::time::Duration::from_micros(1));
        desk.tick_from(elsewhere);
        assert!(desk.holds(&work(2)));
    }
}

#[test]
fn a_waiter_from_elsewhere_need_not_wait_for_a_host_that_is_gone() {
    let (mut desk, _lease) = expired(&work(1));
    desk.cancel(&work(2));
    desk.pass(secs(1));
    assert_eq!(desk.take(&work(3).seen_from(beta())).gpus.len(), 1);
}

#[test]
fn a_caller_with_the_same_sight_never_frees_a_silent_drain() {
    let (mut desk, _lease) = expired(&work(1));
    for _ in 0..10 {
        desk.pass(secs(3_600));
        desk.tick();
        desk.queue(&work(2).patient(1_000_000));
        assert!(desk.drains(&work(1)));
    }
}

#[test]
fn the_lease_of_an_owner_without_process_never_drains() {
    let (desk, _lease) = expired(&work(1).seen_from(None));
    assert_eq!(desk.lease(&work(1)), None);
    assert!(desk.holds(&work(2)));
}

#[test]
fn the_word_of_the_owner_frees_a_draining_gpu_and_yet_it_is_lost() {
    let (mut desk, lease) = expired(&work(1));
    let step = desk.release(&lease);
    assert_eq!(step.reply, Reply::Lost);
    assert!(desk.holds(&work(2)));
    assert_eq!(desk.violations(), 0);
}

#[test]
fn a_seizure_drains_until_the_processes_are_gone() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.queue(&work(2));
    assert_eq!(desk.seize(&lease, SeizeMode::Drain).reply, Reply::Done);
    assert!(desk.drains(&work(1)));
    assert_eq!(desk.renew(&lease).held, None);
    assert_eq!(desk.seize(&lease, SeizeMode::Drain).reply, Reply::Done, "a second one");
    assert!(desk.drains(&work(1)));
    desk.see(&lease, Seen::Nothing);
    assert!(desk.holds(&work(2)));
}

#[test]
fn a_seizure_that_ignores_processes_frees_at_once() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.queue(&work(2));
    desk.seize(&lease, SeizeMode::IgnoreProcesses);
    assert!(desk.holds(&work(2)));
}

#[test]
fn a_draining_gpu_can_be_seized_in_spite_of_its_processes() {
    let (mut desk, lease) = expired(&work(1));
    let step = desk.seize(&lease, SeizeMode::IgnoreProcesses);
    assert_eq!(step.reply, Reply::Done);
    assert!(desk.holds(&work(2)));
}

#[test]
fn a_grant_that_was_never_used_does_not_drain() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1).supervised());
    desk.queue(&work(2));
    desk.seize(&lease, SeizeMode::Drain);
    assert!(desk.holds(&work(2)));
}

#[test]
fn a_waiter_whose_process_died_leaves_the_queue() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1_000));
    (0..40).for_each(|id| desk.queue(&work(id)));
    for id in [0, 39] {
        let subject = Subject::Waiter(work(id).lease_id);
        let alive = Evidence { subject, holder_alive: true, group: None, group_alive: false };
        let step = desk.step(Command::Observe(alive.clone()));
        assert_eq!(step.events, []);
        let step = desk.step(Command::Observe(Evidence { holder_alive: false, ..alive }));
        assert!(matches!(step.events[0].what, What::Dropped { .. }));
    }
    assert_eq!(desk.waiting().len(), 38);
    desk.release(&lease);
    assert!(desk.holds(&work(1)));
}
