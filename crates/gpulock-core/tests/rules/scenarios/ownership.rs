//! Who may do what to a lease.

use gpulock_core::{Command, LeaseRef, ProcessGroup, Renewal, Reply, SeizeMode, Time, Token, What};

use crate::rules::support::*;

#[test]
fn a_release_with_a_stale_token_frees_nothing_and_is_a_violation() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let step = desk.step(Command::Release(stale(lease.reference())));
    assert_eq!(step.reply, Reply::Lost);
    assert_eq!(step.events, []);
    assert!(desk.holds(&work(1)));
    assert_eq!(desk.violations(), 1);
}

#[test]
fn a_release_that_comes_a_second_time_does_not_touch_the_next_holder() {
    let mut desk = Desk::with_gpus(1);
    let first = desk.take(&work(1));
    desk.queue(&work(2));
    assert_eq!(desk.release(&first).reply, Reply::Done);
    assert_eq!(desk.release(&first).reply, Reply::Lost);
    assert!(desk.holds(&work(2)));
    assert_eq!(desk.violations(), 1);
}

#[test]
fn a_late_release_does_not_touch_a_later_lease_with_the_same_id() {
    let mut desk = Desk::with_gpus(1);
    let first = desk.take(&work(1));
    desk.release(&first);
    let second = desk.take(&work(1));
    assert!(second.token > first.token);
    assert_eq!(desk.release(&first).reply, Reply::Lost);
    assert!(desk.holds(&work(1)));
}

#[test]
fn no_command_with_a_stale_token_changes_the_lease() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let named = stale(lease.reference());
    let group = group_of(lease.lease_id);
    let words = || ("operator".to_owned(), "because".to_owned());
    let seize = |mode| Command::Seize { lease: named, by: words().0, reason: words().1, mode };
    let commands = [
        Command::Claim { lease: named, group },
        Command::Renew(vec![Renewal { lease: named, progress: None }]),
        Command::Release(named),
        Command::AskToStop { lease: named, reason: words().1 },
        seize(SeizeMode::Drain),
        seize(SeizeMode::IgnoreProcesses),
    ];
    desk.pass(secs(1));
    for (count, command) in (1..).zip(commands) {
        let step = desk.step(command);
        let lost = match &step.reply {
            Reply::Renewed(answers) => answers[0].held.is_none(),
            reply => *reply == Reply::Lost,
        };
        assert!(lost, "{:?}", step.reply);
        assert_eq!(desk.lease(&work(1)).as_ref(), Some(&lease));
        assert_eq!(desk.violations(), count);
    }
}

#[test]
fn two_runs_of_one_task_are_two_owners() {
    let mut desk = Desk::with_gpus(1);
    let (mut first, mut second) = (work(1), work(2));
    first.task = "ocr".parse().unwrap();
    second.task = "ocr".parse().unwrap();
    let lease = desk.take(&first);
    desk.queue(&second);
    let forged = LeaseRef { lease_id: second.lease_id, token: lease.token };
    assert_eq!(desk.step(Command::Release(forged)).reply, Reply::Lost);
    assert!(desk.holds(&first));
}

#[test]
fn asking_again_answers_the_same_lease() {
    let mut desk = Desk::with_gpus(2);
    let lease = desk.take(&work(1));
    desk.pass(secs(3));
    assert_eq!(desk.take(&work(1)), lease);
    assert_eq!(desk.free(), [1]);
    let counters = desk.view().ledger.counters;
    assert_eq!(counters.granted, 1);
}

#[test]
fn asking_again_does_not_renew() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    desk.pass(secs(29));
    assert_eq!(desk.take(&work(1)).deadline(), lease.deadline());
}

#[test]
fn tokens_grow_with_every_grant() {
    let mut desk = Desk::with_gpus(1);
    let mut last = Token::default();
    for id in 0..5 {
        let lease = desk.take(&work(id));
        assert!(lease.token > last);
        last = lease.token;
        desk.release(&lease);
    }
}

#[test]
fn tokens_grow_when_the_clock_goes_back() {
    let mut desk = Desk::with_gpus(1);
    let first = desk.take(&work(1));
    desk.release(&first);
    desk.now = Time::from_micros(desk.now.as_micros() - 3_600_000_000);
    assert!(desk.take(&work(2)).token > first.token);
}

#[test]
fn tokens_grow_when_the_store_lost_its_data() {
    let mut desk = Desk::with_gpus(1);
    let mut last = desk.take(&work(0));
    for id in 1..1_000 {
        desk.release(&last);
        last = desk.take(&work(id));
    }
    let mut reborn = Desk::with_gpus(1);
    reborn.now = desk.now;
    reborn.pass(secs(1));
    assert!(reborn.take(&work(2_000)).token > last.token);
}

#[test]
fn tokens_fit_the_integers_of_json() {
    let mut desk = Desk::with_gpus(1);
    let in_2100 = Time::from_micros(4_102_444_800_000_000);
    desk.now = in_2100;
    assert!(desk.take(&work(1)).token.value() < 1 << 53);
}

#[test]
fn a_claim_names_the_group_that_does_the_work() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1).supervised());
    assert_eq!(lease.group, None);
    let Reply::Granted(claimed) = desk.claim(&lease) else { panic!("not claimed") };
    assert_eq!(claimed.group, Some(group_of(lease.lease_id)));
    let again = desk.claim(&lease);
    assert_eq!(again, Reply::Granted(claimed), "claiming again answers the same");
}

#[test]
fn a_claim_under_a_stale_token_names_no_group() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1).supervised());
    let group = ProcessGroup { session: 1, ..group_of(lease.lease_id) };
    let step = desk.step(Command::Claim { lease: stale(lease.reference()), group });
    assert_eq!(step.reply, Reply::Lost);
    assert_eq!(desk.lease(&work(1)).unwrap().group, None);
}

#[test]
fn one_client_renews_all_its_leases_in_one_call_and_hears_of_each() {
    let mut desk = Desk::with_gpus(2);
    let (first, second) = (desk.take(&work(1)), desk.take(&work(2)));
    desk.release(&first);
    desk.pass(secs(10));
    let renewals = [&first, &second]
        .map(|lease| Renewal { lease: lease.reference(), progress: None })
        .to_vec();
    let Reply::Renewed(answers) = desk.step(Command::Renew(renewals)).reply else {
        panic!("no answer to heartbeats")
    };
    assert_eq!(answers[0].held, None);
    assert_eq!(answers[1].held, Some((desk.now + secs(30), None)));
}

#[test]
fn a_seizure_says_who_took_the_lease_and_why() {
    let mut desk = Desk::with_gpus(1);
    let lease = desk.take(&work(1));
    let step = desk.seize(&lease, SeizeMode::IgnoreProcesses);
    let told = step.events.iter().find_map(|event| match &event.what {
        What::Ended { how: gpulock_core::Ending::Seized { by, reason }, .. } => Some((by, reason)),
        _ => None,
    });
    assert_eq!(told, Some((&"operator".to_owned(), &"hard timeout".to_owned())));
    assert_eq!(desk.view().ledger.counters.seized, 1);
}
