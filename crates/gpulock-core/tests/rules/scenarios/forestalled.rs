//! Requests whose decisions others keep forestalling.

use gpulock_core::{Command, Parts, Reply, What};

use crate::rules::support::*;

#[test]
fn a_request_can_stand_in_line_without_reading_anything() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    let step = desk.step(Command::Queue(work(2)));
    assert_eq!(step.reply, Reply::Waiting);
    assert_eq!(step.changes.reads, Parts::default());
    assert_eq!(step.changes.unless_leased, Some(work(2).lease_id));
    assert_eq!(desk.waiting().len(), 1);
}

/// What it does not look at, it leaves for the next look.
#[test]
fn what_is_free_meanwhile_is_handed_out_at_the_next_look() {
    let mut desk = Desk::with_gpus(1);
    let mut pool = desk.view();
    let step = pool.step(desk.now, Command::Queue(work(1))).unwrap();
    assert!(step.again, "somebody has to look");
    assert!(step.events.iter().all(|event| matches!(event.what, What::Queued { .. })));
    desk.record.apply(&step.changes);
    assert!(matches!(desk.ask(&work(1)), Reply::Granted(_)));
    assert_eq!(desk.waiting(), []);
}

#[test]
fn nobody_stands_in_line_twice_or_for_what_it_has() {
    let mut desk = Desk::with_gpus(1);
    desk.take(&work(1));
    desk.queue(&work(2));
    for known in [work(1), work(2)] {
        let step = desk.step(Command::Queue(known));
        assert!(step.changes.is_empty() && step.events.is_empty());
    }
}

#[test]
fn a_request_that_makes_no_sense_does_not_stand_in_line() {
    let mut desk = Desk::with_gpus(1);
    let refused = desk.run(Command::Queue(work(1).on(&[7])));
    assert!(refused.is_err());
    assert_eq!(desk.waiting(), []);
}
