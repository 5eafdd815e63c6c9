//! Tasks that a queue of tasks delivers more than once, or runs again later: every run asks with
//! the same lease id.

use gpulock_core::{Reply, What};

use crate::rules::support::*;

#[test]
fn a_second_run_of_a_task_that_holds_is_a_duplicate() {
    let mut desk = Desk::with_gpus(2);
    let held = desk.take(&work(1).run(1));
    let step = desk.step(gpulock_core::Command::Acquire(work(1).run(2)));
    assert_eq!(step.reply, Reply::Duplicate);
    assert!(step.changes.is_empty() && step.events.is_empty());
    assert_eq!(desk.lease(&work(1)), Some(held), "the first run keeps what it has");
}

#[test]
fn the_same_run_that_asks_again_has_its_lease() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1).run(1));
    assert_eq!(desk.ask(&work(1).run(1)), Reply::Granted(held));
}

#[test]
fn a_second_run_of_a_task_that_waits_is_a_duplicate() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    desk.queue(&work(2).run(1));
    assert_eq!(desk.ask(&work(2).run(2)), Reply::Duplicate);
    assert_eq!(desk.waiting()[0].owner, work(2).run(1).owner);
}

#[test]
fn a_run_that_gives_up_takes_nothing_from_the_other() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1).run(1));
    desk.queue(&work(2).run(1));
    for other in [work(1).run(2), work(2).run(2)] {
        let step = desk.cancel(&other);
        assert_eq!(step.reply, Reply::Duplicate);
        assert!(step.changes.is_empty() && step.events.is_empty());
    }
    desk.cancel(&work(2).run(1));
    assert_eq!(desk.waiting(), []);
}

#[test]
fn a_second_run_gets_the_gpu_once_the_first_is_dead() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1).run(1));
    desk.see(&held, Seen::Nothing);
    let lease = desk.take(&work(1).run(2));
    assert!(lease.token > held.token);
    assert_eq!(lease.owner, work(1).run(2).owner);
}

#[test]
fn who_comes_back_keeps_its_place_whatever_becomes_of_the_process_that_asked() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    desk.queue(&work(2).run(1).coming_back());
    desk.queue(&work(3));
    assert_eq!(desk.waiting()[0].owner.process, None, "nobody is there to look at");
    desk.pass(secs(20));
    desk.queue(&work(2).run(2).coming_back());
    assert_eq!(desk.waiting()[0].lease_id, work(2).lease_id);
    desk.pass(secs(20));
    desk.renew(&held);
    assert_eq!(desk.waiting().len(), 2, "it was seen when it came back");
}

#[test]
fn a_grant_is_kept_for_who_comes_back_in_time() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    desk.queue(&work(2).run(1).coming_back());
    let step = desk.release(&held);
    assert!(step.wake.is_empty(), "nobody is there to be woken");
    desk.pass(secs(25));
    desk.tick();
    let lease = desk.take(&work(2).run(2).coming_back());
    assert_eq!(lease.owner, work(2).run(2).owner, "it is the lease of whoever came");
    assert_eq!(lease.channel, work(2).channel);
    assert_eq!(desk.ask(&work(2).run(3).coming_back()), Reply::Duplicate);
}

#[test]
fn a_grant_is_not_kept_for_longer_than_it_takes_to_come_back() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    desk.queue(&work(2).run(1).coming_back());
    desk.release(&held);
    desk.queue(&work(3).patient(60));
    desk.pass(secs(31));
    desk.tick();
    assert!(desk.holds(&work(3)));
}

#[test]
fn who_finds_its_turn_when_it_comes_back_is_the_owner() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    desk.queue(&work(2).run(1).coming_back());
    desk.see(&held, Seen::Nothing);
    let lease = desk.take(&work(2).run(2).coming_back());
    assert_eq!(lease.owner.run, Some(2));
}

#[test]
fn who_does_not_come_back_drops_out() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1).fixed(300));
    desk.queue(&work(2).run(1).coming_back());
    desk.pass(secs(31));
    let step = desk.release(&held);
    assert!(matches!(step.events[1].what, What::Dropped { .. }), "{:?}", step.events);
    assert_eq!(desk.free(), [0]);
}
