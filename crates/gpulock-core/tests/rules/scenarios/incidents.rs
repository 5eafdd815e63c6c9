//! Ends that do not go well: processes that are about to die, releases that fail.

use gpulock_core::{Command, Incident, Party, Reply, What};

use crate::rules::support::*;

#[test]
fn what_a_dying_process_holds_goes_on_when_it_is_gone() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    desk.queue(&work(2));
    let step = desk.step(Command::Retire(held.reference()));
    assert_eq!(step.reply, Reply::Done);
    assert!(desk.drains(&work(1)), "its process may still use the GPU");
    desk.see(&held, Seen::AllAlive);
    assert!(!desk.holds(&work(2)));
    desk.see(&held, Seen::Nothing);
    assert!(desk.holds(&work(2)));
}

#[test]
fn a_dying_process_that_lives_on_may_say_that_it_is_done() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    desk.step(Command::Retire(held.reference()));
    desk.release(&held);
    assert_eq!(desk.free(), [0]);
    assert_eq!(desk.violations(), 0);
}

#[test]
fn only_the_current_lease_is_retired() {
    let mut desk = Desk::with_gpus(1);
    let old = desk.take(&work(1));
    desk.release(&old);
    desk.take(&work(2));
    assert_eq!(desk.step(Command::Retire(old.reference())).reply, Reply::Lost);
    assert!(desk.holds(&work(2)));
    assert_eq!(desk.violations(), 1);
}

#[test]
fn what_went_wrong_is_counted_and_remembered() {
    let mut desk = Desk::with_gpus(1);
    let held = desk.take(&work(1));
    let mut report = |incident| {
        let (error, party) = ("no answer".to_owned(), Party::from(&held));
        desk.step(Command::Report { incident, error, party })
    };
    report(Incident::NormalReleaseFailure);
    report(Incident::EmergencyRelease);
    report(Incident::ReleaseScriptError);
    let step = report(Incident::CriticalFailure);
    assert!(matches!(&step.events[0].what, What::Incident { error, .. } if error == "no answer"));
    let counters = desk.view().ledger.counters;
    let counted = [
        counters.normal_release_failures,
        counters.emergency_releases,
        counters.release_script_errors,
    ];
    assert_eq!(counted, [1, 1, 1]);
}
