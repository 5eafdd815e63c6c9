//! What a store that came back may have forgotten.

use gpulock_core::{Command, Reply, Token, What};

use crate::rules::support::*;

#[test]
fn nothing_is_lent_while_a_forgotten_lease_may_still_run() {
    let mut desk = Desk::with_gpus(2);
    resume(&mut desk, "second", 30);
    desk.queue(&work(1));
    desk.pass(secs(29));
    assert_eq!(desk.ask(&work(1)), Reply::Waiting);
    assert_eq!(desk.tick().next_deadline, Some(desk.now + secs(1)));
    desk.pass(secs(1));
    assert!(matches!(desk.ask(&work(1)), Reply::Granted(_)));
}

#[test]
fn a_pool_that_opens_serves_its_queue_in_order_at_the_next_look() {
    let mut desk = Desk::with_gpus(1);
    resume(&mut desk, "second", 30);
    desk.queue(&work(1));
    desk.queue(&work(2));
    desk.pass(secs(30));
    let step = desk.tick();
    assert!(desk.holds(&work(1)) && !desk.holds(&work(2)));
    assert!(step.changes.not_before.is_some(), "not before it opens");
}

#[test]
fn who_does_not_want_to_wait_is_told_that_nothing_is_free() {
    let mut desk = Desk::with_gpus(1);
    resume(&mut desk, "second", 30);
    let hasty = gpulock_core::Request { patience: None, ..work(1) };
    assert_eq!(desk.ask(&hasty), Reply::Busy);
}

#[test]
fn what_the_store_still_knows_is_kept_renewed_and_given_back() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    resume(&mut desk, "second", 30);
    assert!(desk.renew(&lease).held.is_some());
    desk.queue(&work(2));
    assert_eq!(desk.release(&lease).reply, Reply::Done);
    assert!(!desk.holds(&work(2)), "somebody else may have it, whom the store forgot");
    desk.pass(secs(30));
    assert!(matches!(desk.ask(&work(2)), Reply::Granted(_)));
}

#[test]
fn each_life_of_the_store_closes_the_pool_once() {
    let mut desk = Desk::with_gpus(1);
    assert_eq!(resume(&mut desk, "second", 30).len(), 1);
    desk.pass(secs(30));
    assert_eq!(resume(&mut desk, "second", 30), []);
    let first = desk.take(&work(1));
    assert!(first.token > Token::default());
    assert_eq!(resume(&mut desk, "third", 0), [What::Resumed { closed_until: None }]);
    desk.release(&first);
    desk.take(&work(2));
}

fn resume(desk: &mut Desk, incarnation: &str, closed_for: u64) -> Vec<What> {
    let closed_until = desk.now + secs(closed_for);
    let step = desk.step(Command::Resume { incarnation: incarnation.to_owned(), closed_until });
    step.events.into_iter().map(|event| event.what).collect()
}
