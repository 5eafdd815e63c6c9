//! A server that is away for a while, and one whose own store is.

use std::net::SocketAddr;
use std::sync::Arc;

use gpulock::core::{Changes, Ledger, PoolName, Reply, Step, Token};
use gpulock::store::faulty::FaultyStore;
use gpulock::store::memory::MemoryStore;
use gpulock::store::{Store, StoreError, Versions, Write};
use gpulock_testbed::{FaultProxy, wait_until};

use super::served::{File, Served, application_of, block_on, client, task, until_queued, view};

fn start_again(store: Arc<dyn Store>, address: SocketAddr) -> Served {
    Served::start(application_of(store), Some(address))
}

async fn failure(store: &Arc<dyn Store>) -> StoreError {
    store.read(&PoolName::default(), None).await.unwrap_err()
}

#[test]
fn a_server_that_is_away_cannot_be_reached_until_it_is_back() {
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::lending(Arc::clone(&inside));
    let (address, store) = (served.address, served.connect());
    // One runtime, so that a connection is left over that was used before.
    block_on(async {
        view(&store).await;
        drop(served);
        wait_until("it has ended", || std::net::TcpStream::connect(address).is_err());
        // The old connection may be tried once more.
        let broken = failure(&store).await;
        assert!(broken.is_transient(), "{broken}");
        let away = failure(&store).await;
        assert!(away.is_transient(), "{away}");
        let text = away.to_string();
        assert_eq!(
            text,
            format!("the store http://{address} cannot be reached: nobody listens there")
        );
        let _served = start_again(inside, address);
        view(&store).await;
    });
}

/// The waiter is woken neither by a poll nor by a heartbeat: by what its mailbox tells it when
/// it is open again.
#[test]
fn a_waiter_gets_its_gpu_although_the_server_was_away_when_it_came_free() {
    let file = File::new();
    let served = Served::lending(file.open());
    let address = served.address;
    let beside = file.open();
    let holder = client(file.open()).request(task("holder")).acquire().unwrap();
    let waiting = client(served.connect()).request(task("waiter")).start().unwrap();
    until_queued(&beside, 1);
    drop(served);
    block_on(holder.release()).unwrap();
    assert_eq!(block_on(view(&beside)).pool.queue_len, 0, "it is granted while nobody listens");
    let _served = start_again(file.open(), address);
    block_on(block_on(waiting).unwrap().release()).unwrap();
}

#[test]
fn a_waiter_gets_its_gpu_after_the_server_was_killed_and_started_again() {
    let file = File::new();
    let mut served = Served::lending(file.open());
    let address = served.address;
    let beside = file.open();
    let holder = client(file.open()).request(task("holder")).acquire().unwrap();
    let waiting = client(served.connect()).request(task("waiter")).start().unwrap();
    until_queued(&beside, 1);
    for _ in 0..3 {
        drop(served);
        served = start_again(file.open(), address);
    }
    block_on(holder.release()).unwrap();
    block_on(block_on(waiting).unwrap().release()).unwrap();
}

#[test]
fn whose_store_is_away_is_said() {
    let behind = FaultyStore::new(Arc::new(MemoryStore::new()));
    let served = Served::lending(Arc::new(behind.clone()));
    let store = served.connect();
    behind.go_away();
    let away = block_on(failure(&store));
    assert!(away.is_transient(), "{away}");
    let url = served.url();
    assert_eq!(
        away.to_string(),
        format!("the store with faults behind {url} cannot be reached: it was told to be away")
    );
    behind.heal();
    block_on(view(&store));
}

/// Whether it was written is not known, and asking again is safe.
#[test]
fn a_reply_that_is_lost_leaves_open_what_was_done() {
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::lending(Arc::clone(&inside));
    let proxy = FaultProxy::to(served.address);
    let store = gpulock::connect(&format!("http://{}", proxy.address())).unwrap();
    let ledger = Ledger { last_token: Token::from_value(7), ..Ledger::default() };
    let step = Step {
        reply: Reply::Done,
        events: Vec::new(),
        changes: Changes { ledger: Some(ledger.clone()), ..Changes::default() },
        wake: Vec::new(),
        again: false,
        next_deadline: None,
    };
    let pool = PoolName::default();
    let expected = Versions::default();
    let write = Write { pool: &pool, expected, step: &step, asking: None, incarnation: None };
    proxy.swallow_replies(true);
    let lost = block_on(store.swap(write)).unwrap_err();
    assert!(matches!(lost, StoreError::Unavailable { .. }), "{lost}");
    assert!(lost.to_string().contains("did not answer in time"), "{lost}");
    assert_eq!(block_on(view(&inside)).pool.ledger, ledger);
    proxy.swallow_replies(false);
    proxy.cut();
    assert_eq!(block_on(view(&store)).pool.ledger, ledger);
}

/// Each program has its own ideas of what ends a connection that is not used.
#[test]
fn a_connection_that_was_closed_meanwhile_is_made_again() {
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let served = Served::lending(inside);
    let proxy = FaultProxy::to(served.address);
    let store = gpulock::connect(&format!("http://{}", proxy.address())).unwrap();
    block_on(async {
        for _ in 0..5 {
            view(&store).await;
            proxy.cut();
            // The end of the connection arrives while nobody looks.
            tokio::task::yield_now().await;
        }
    });
    assert!(proxy.connections() > 1);
}
