//! Wake-ups: hints that reach one mailbox. No promise hangs on one, so a calm store is
//! expected to deliver them and nothing more.

use std::time::Duration;

use gpulock_core::{Channel, LeaseId, Parts, Wake, Why};

use super::StoreUnderTest;
use super::samples::{Bench, changing, id, keeps, ledger};
use crate::store::{Letter, Mailbox, Swapped, Versions};

/// How long a calm store may take.
const LONG: Duration = Duration::from_secs(30);

/// Each of two mailboxes gets what is addressed to it, in order, and nothing else.
pub async fn a_wake_up_reaches_the_addressed_mailbox_alone(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut mine = open(&bench).await;
    let mut others = open(&Bench::new(&under_test.second)).await;
    for round in 0..3 {
        let first = (id(round), Why::Granted);
        let second = (id(100 + round), Why::Watch);
        let third = (id(200 + round), Why::Stop);
        wake(
            &bench,
            &[(mine.channel(), first), (others.channel(), second), (mine.channel(), third)],
        )
        .await;
        assert_eq!(next(&mut *mine).await, first);
        assert_eq!(next(&mut *mine).await, third);
        assert_eq!(next(&mut *others).await, second);
    }
}

/// A wake-up to a mailbox that is closed, or never was one, is lost and harms nobody.
pub async fn a_closed_mailbox_harms_nobody(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let closed = open(&bench).await.channel();
    let mut open = open(&Bench::new(&under_test.second)).await;
    let nowhere = ["", "nowhere", "line\nbreak", "\0", &"long".repeat(1_000)];
    for channel in nowhere.into_iter().map(|name| Channel(name.to_owned())).chain([closed]) {
        let letter = (id(1), Why::Granted);
        wake(&bench, &[(channel, letter), (open.channel(), letter)]).await;
        assert_eq!(next(&mut *open).await, letter);
    }
}

/// A write that is refused wakes nobody.
pub async fn a_conflict_wakes_nobody(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut mailbox = open(&bench).await;
    bench.write(keeps(ledger(1))).await;
    let mut step = keeps(ledger(2));
    step.changes.reads = Parts { leases: true, queue: true };
    step.wake = vec![Wake { channel: mailbox.channel(), lease_id: id(1), why: Why::Granted }];
    let swapped = bench.swap(Versions::default(), &step).await;
    assert!(matches!(swapped, Swapped::Conflict(_)));

    let written = (id(2), Why::Granted);
    wake(&bench, &[(mailbox.channel(), written)]).await;
    assert_eq!(next(&mut *mailbox).await, written);
}

/// No two mailboxes share an address, whoever opens them.
pub async fn every_mailbox_has_an_address_of_its_own(under_test: StoreUnderTest) {
    let (bench, second) = (Bench::new(&under_test.store), Bench::new(&under_test.second));
    let mailboxes = [open(&bench).await, open(&second).await, open(&bench).await];
    let mut addresses: Vec<_> = mailboxes.iter().map(|mailbox| mailbox.channel().0).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), mailboxes.len());
}

/// What was sent before is lost; what is sent from then on comes.
pub async fn a_lost_mailbox_is_opened_again_under_its_address(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let channel = open(&bench).await.channel();
    for round in 0..3 {
        let reopened = under_test.store.reopen_mailbox(&channel).await;
        let mut mailbox = reopened.expect("a mailbox can be opened again");
        assert_eq!(mailbox.channel(), channel);
        let letter = (id(round), Why::Watch);
        wake(&bench, &[(channel.clone(), letter)]).await;
        assert_eq!(next(&mut *mailbox).await, letter);
    }
    let nowhere = Channel("not an address of any store".to_owned());
    let reopened = under_test.store.reopen_mailbox(&nowhere).await;
    let mut mailbox = reopened.expect("another one is opened instead");
    let letter = (id(7), Why::Stop);
    wake(&bench, &[(mailbox.channel(), letter)]).await;
    assert_eq!(next(&mut *mailbox).await, letter);
}

async fn open(bench: &Bench) -> Box<dyn Mailbox> {
    bench.store.open_mailbox().await.expect("a mailbox can be opened")
}

async fn wake(bench: &Bench, letters: &[(Channel, (LeaseId, Why))]) {
    let mut step = changing(Default::default());
    step.changes.ledger = Some(ledger(1));
    step.wake = letters
        .iter()
        .map(|(channel, (lease_id, why))| Wake {
            channel: channel.clone(),
            lease_id: *lease_id,
            why: *why,
        })
        .collect();
    bench.write(step).await;
}

async fn next(mailbox: &mut dyn Mailbox) -> (LeaseId, Why) {
    let letter = tokio::time::timeout(LONG, mailbox.next()).await;
    match letter.expect("the wake-up comes").expect("the mailbox is open") {
        Letter::WakeUp(lease_id, why) => (lease_id, why),
        Letter::Awarded(award) => (award.lease.lease_id, Why::Granted),
        Letter::SomeMayBeLost => panic!("a calm store loses no letters"),
    }
}
