//! Wake-ups through a server: nobody here polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gpulock::core::{Changes, LeaseId, Ledger, PoolName, Reply, Step, Wake, Why};
use gpulock::store::faulty::{Call, FaultyStore};
use gpulock::store::memory::MemoryStore;
use gpulock::store::{Letter, Mailbox, Store, Versions, Write};
use gpulock_testbed::FaultProxy;
use tokio_util::sync::CancellationToken;

use super::served::{
    File, LONG, Served, application_of, block_on, client, mailbox, task, until_queued,
};
use crate::daemon::mailboxes::Limits;

/// Wakes somebody.
async fn wake(store: &Arc<dyn Store>, mailbox: &dyn Mailbox, lease_id: LeaseId) {
    let step = Step {
        reply: Reply::Done,
        events: Vec::new(),
        changes: Changes { ledger: Some(Ledger::default()), ..Changes::default() },
        wake: vec![Wake { channel: mailbox.channel(), lease_id, why: Why::Watch }],
        again: false,
        next_deadline: None,
    };
    let pool = PoolName::default();
    let expected = Versions::default();
    let write = Write { pool: &pool, expected, step: &step, asking: None, incarnation: None };
    store.swap(write).await.unwrap();
}

async fn next(mailbox: &mut dyn Mailbox) -> Letter {
    let letter = tokio::time::timeout(LONG, mailbox.next()).await;
    letter.expect("a letter comes").unwrap()
}

fn letter(lease_id: LeaseId) -> Letter {
    Letter::WakeUp(lease_id, Why::Watch)
}

#[test]
fn a_holder_that_releases_wakes_a_waiter_of_another_client() {
    let file = File::new();
    let served = Served::lending(file.open());
    let inside = file.open();
    for _ in 0..3 {
        let holder = client(served.connect()).request(task("holder")).acquire().unwrap();
        let waiting = client(served.connect()).request(task("waiter")).start().unwrap();
        until_queued(&inside, 1);
        block_on(holder.release()).unwrap();
        let lease = block_on(waiting).unwrap();
        block_on(lease.release()).unwrap();
    }
}

#[test]
fn a_holder_beside_the_server_wakes_a_waiter_behind_it_and_the_other_way_round() {
    let file = File::new();
    let served = Served::lending(file.open());
    let inside = file.open();
    for (holds, waits) in [(file.open(), served.connect()), (served.connect(), file.open())] {
        let holder = client(holds).request(task("holder")).acquire().unwrap();
        let waiting = client(waits).request(task("waiter")).start().unwrap();
        until_queued(&inside, 1);
        block_on(holder.release()).unwrap();
        block_on(block_on(waiting).unwrap().release()).unwrap();
    }
}

/// The grant comes with the letter: picking it up takes one call.
#[test]
fn a_grant_is_picked_up_in_one_call() {
    let file = File::new();
    let served = Served::lending(file.open());
    let holder = client(served.connect()).request(task("holder")).acquire().unwrap();
    let counted = FaultyStore::new(served.connect());
    let waiter = client(Arc::new(counted.clone()));
    let waiting = waiter.request(task("waiter")).start().unwrap();
    until_queued(&file.open(), 1);
    let reads = Arc::new(AtomicUsize::new(0));
    let writes = Arc::new(AtomicUsize::new(0));
    let counters = (Arc::clone(&reads), Arc::clone(&writes));
    counted.plan(move |call| {
        match call {
            Call::Read(_) | Call::Other => counters.0.fetch_add(1, Ordering::SeqCst),
            Call::Write(_) | Call::WriteDocument(_) => counters.1.fetch_add(1, Ordering::SeqCst),
        };
        None
    });
    block_on(holder.release()).unwrap();
    let lease = block_on(waiting).unwrap();
    assert_eq!((reads.load(Ordering::SeqCst), writes.load(Ordering::SeqCst)), (0, 1));
    block_on(lease.release()).unwrap();
}

#[test]
fn a_broken_connection_is_made_again_at_the_same_address() {
    let file = File::new();
    let served = Served::lending(file.open());
    let proxy = FaultProxy::to(served.address);
    let through = gpulock::connect(&format!("http://{}", proxy.address())).unwrap();
    let direct = served.connect();
    block_on(async {
        let mut mailbox = mailbox(&through).await;
        let channel = mailbox.channel();
        for round in 0..3 {
            let (before, after) = (LeaseId::from_bits(round), LeaseId::from_bits(100 + round));
            wake(&direct, &*mailbox, before).await;
            assert_eq!(next(&mut *mailbox).await, letter(before));
            proxy.cut();
            assert_eq!(next(&mut *mailbox).await, Letter::SomeMayBeLost);
            assert_eq!(mailbox.channel(), channel);
            wake(&direct, &*mailbox, after).await;
            assert_eq!(next(&mut *mailbox).await, letter(after));
            // Not through the server, so by the store's own way.
            wake(&file.open(), &*mailbox, before).await;
            assert_eq!(next(&mut *mailbox).await, letter(before));
        }
    });
}

/// No end of the connection hears that it is broken.
#[test]
fn a_connection_that_falls_silent_is_made_again() {
    let limits = Limits { keep_alive: Duration::from_millis(100), ..Limits::default() };
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::within(Arc::clone(&inside), &CancellationToken::new(), limits);
    let proxy = FaultProxy::to(served.address);
    let through = gpulock::connect(&format!("http://{}", proxy.address())).unwrap();
    block_on(async {
        let mut mailbox = mailbox(&through).await;
        proxy.block();
        let bytes = proxy.bytes_swallowed();
        while proxy.bytes_swallowed() == bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.unblock();
        assert_eq!(next(&mut *mailbox).await, Letter::SomeMayBeLost);
        wake(&inside, &*mailbox, LeaseId::from_bits(1)).await;
        assert_eq!(next(&mut *mailbox).await, letter(LeaseId::from_bits(1)));
    });
}

/// Also when it was made again while nothing came through: such an attempt gets no answer, ever.
#[test]
fn an_attempt_that_gets_no_answer_is_given_up() {
    let limits = Limits { keep_alive: Duration::from_millis(100), ..Limits::default() };
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::within(Arc::clone(&inside), &CancellationToken::new(), limits);
    let proxy = FaultProxy::to(served.address);
    let through = gpulock::connect(&format!("http://{}", proxy.address())).unwrap();
    block_on(async {
        let mut mailbox = mailbox(&through).await;
        proxy.block();
        let connections = proxy.connections();
        let listening = tokio::spawn(async move { mailbox.next().await });
        while proxy.connections() == connections {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let swallowed = proxy.bytes_swallowed();
        while proxy.bytes_swallowed() == swallowed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        proxy.unblock();
        assert_eq!(listening.await.unwrap().unwrap(), Letter::SomeMayBeLost);
    });
}

#[test]
fn mailboxes_end_with_the_server_and_live_on_in_the_next() {
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let shutdown = CancellationToken::new();
    let served = Served::within(Arc::clone(&inside), &shutdown, Limits::default());
    block_on(async {
        let mut mailbox = mailbox(&served.connect()).await;
        let address = served.address;
        shutdown.cancel();
        let stops = served.connect().open_mailbox().await.unwrap_err();
        assert!(stops.is_transient(), "{stops}");
        assert!(stops.to_string().contains("about to end"), "{stops}");
        drop(served);
        let again = application_of(Arc::clone(&inside));
        let served = Served::start(again, Some(address));
        assert_eq!(next(&mut *mailbox).await, Letter::SomeMayBeLost);
        wake(&served.connect(), &*mailbox, LeaseId::from_bits(1)).await;
        assert_eq!(next(&mut *mailbox).await, letter(LeaseId::from_bits(1)));
    });
}

#[test]
fn there_are_only_so_many_mailboxes() {
    let limits = Limits { mailboxes: 2, ..Limits::default() };
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::within(inside, &CancellationToken::new(), limits);
    block_on(async {
        let store = served.connect();
        let (first, _second) = (mailbox(&store).await, mailbox(&store).await);
        let full = store.open_mailbox().await.unwrap_err();
        assert!(full.is_transient(), "{full}");
        assert!(full.to_string().contains("as many wait here as may"), "{full}");
        drop(first);
        // The server hears of it in a moment.
        while store.open_mailbox().await.is_err() {}
    });
}
