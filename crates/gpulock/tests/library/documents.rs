//! Documents when things go wrong: replies that are lost, servers that forget, fail over or are
//! full, clocks that are set back, and files of before.

use std::path::Path;
use std::sync::Arc;

use gpulock::connect;
use gpulock::store::faulty::{Call, Fault, FaultyStore};
use gpulock::store::memory::MemoryStore;
use gpulock::store::sqlite::SqliteStore;
use gpulock::store::{Document, DocumentName, DocumentNews, DocumentSwap, Store, StoreError};
use gpulock_testbed::{FaultProxy, RedisCluster, RedisServer, Sentinels};
use rusqlite::Connection;

use super::support::{World, block_on, task, trusted, until};

const NAME: DocumentName = DocumentName::fixed("alerts");

/// Where a Redis server has it.
const KEY: &str = "gpulock:{document:alerts}";

fn read(store: &Arc<dyn Store>) -> Document {
    block_on(store.document(&NAME)).unwrap()
}

/// Text and version.
fn present(store: &Arc<dyn Store>) -> (String, u64) {
    let Document { text, version, .. } = read(store);
    (text, version)
}

fn swap(store: &Arc<dyn Store>, expected: u64, text: &str) -> Result<DocumentSwap, StoreError> {
    block_on(store.swap_document(&NAME, expected, text))
}

/// Writes what nobody else writes meanwhile; the version that it has now.
fn write(store: &Arc<dyn Store>, expected: u64, text: &str) -> u64 {
    match swap(store, expected, text).unwrap() {
        DocumentSwap::Written { version, .. } => version,
        DocumentSwap::Conflict(present) => panic!("nobody else wrote {present:?}"),
    }
}

/// What is there instead of the expected version.
fn conflict(store: &Arc<dyn Store>, expected: u64) -> (String, u64) {
    match swap(store, expected, "too late").unwrap() {
        DocumentSwap::Conflict(Document { text, version, .. }) => (text, version),
        DocumentSwap::Written { .. } => panic!("written although {expected} is not there"),
    }
}

#[test]
fn a_document_whose_reply_is_lost_is_found_when_asked_for_again() {
    let server = RedisServer::start();
    let proxy = FaultProxy::to(("127.0.0.1", server.port()));
    let (store, beside) = (connect(&proxy.url()).unwrap(), connect(&server.url()).unwrap());
    let first = write(&beside, 0, "first");
    block_on(async {
        // So that there is a connection, over which the write goes.
        store.document(&NAME).await.unwrap();
        proxy.swallow_replies(true);
        let lost = store.swap_document(&NAME, first, "second").await.unwrap_err();
        assert!(matches!(lost, StoreError::Unavailable { .. }), "{lost}");
    });
    let (text, second) = present(&beside);
    assert_eq!(text, "second", "it was written, whatever became of the answer");
    proxy.swallow_replies(false);
    proxy.cut();
    assert_eq!(conflict(&store, first), ("second".to_owned(), second));
    write(&store, second, "third");
}

#[test]
fn a_document_is_written_by_a_server_that_forgets_its_scripts() {
    let server = RedisServer::start();
    let store = connect(&server.url()).unwrap();
    let mut version = 0;
    for text in ["first", "second", "third"] {
        server.cli(&["SCRIPT", "FLUSH"]);
        version = write(&store, version, text);
        server.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(present(&store), (text.to_owned(), version));
    }
}

/// Who looks every second at a text that stays the same moves nothing of it.
#[test]
fn a_look_at_an_unchanged_document_costs_little() {
    const LOOKS: u64 = 100;
    let server = RedisServer::start();
    let proxy = FaultProxy::to(("127.0.0.1", server.port()));
    let store = connect(&proxy.url()).unwrap();
    let version = write(&store, 0, &"x".repeat(500_000));
    block_on(async {
        assert_eq!(store.document(&NAME).await.unwrap().text.len(), 500_000);
        let before = proxy.bytes_to_client() + proxy.bytes_to_server();
        for _ in 0..LOOKS {
            let news = store.document_since(&NAME, version).await.unwrap();
            assert!(matches!(news, DocumentNews::Unchanged { .. }));
        }
        let moved = proxy.bytes_to_client() + proxy.bytes_to_server() - before;
        assert!(moved < LOOKS * 500, "{moved} bytes for {LOOKS} looks");
    });
}

#[test]
fn a_server_that_forgot_a_document_gives_no_version_again() {
    let server = RedisServer::start();
    let store = connect(&server.url()).unwrap();
    let lost = write(&store, 0, "forgotten");
    server.start_again();
    until("it answers", || block_on(store.document(&NAME)).is_ok());
    assert_eq!(conflict(&store, lost), (String::new(), 0));
    let next = write(&store, 0, "anew");
    assert!(next > lost, "{next} after {lost}");
    assert_eq!(conflict(&store, lost), ("anew".to_owned(), next));
}

#[test]
fn a_fail_over_that_loses_a_document_gives_no_version_again() {
    let sentinels = Sentinels::start(1);
    let store = connect(&sentinels.url(Sentinels::SERVICE)).unwrap();
    let kept = write(&store, 0, "kept");
    let replica = sentinels.replicas()[0];
    until("the replica has it", || replica.cli(&["HGET", KEY, "text"]) == "kept");
    replica.pause();
    sentinels.master().cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    let lost = write(&store, kept, "lost");
    sentinels.master().kill();
    replica.resume();
    sentinels.wait_for_another_master(0);
    until("it answers", || block_on(store.document(&NAME)).is_ok());

    // Who knows the lost one is told, and whoever does not writes one that is not taken for it.
    assert_eq!(conflict(&store, lost), ("kept".to_owned(), kept));
    let next = write(&store, kept, "next");
    assert!(next > lost, "{next} after {lost}");
    assert_eq!(conflict(&store, lost), ("next".to_owned(), next));
}

/// That replicas are missing is something that has to be told.
#[test]
fn a_document_waits_for_no_replica() {
    let server = RedisServer::start();
    let store = connect(&format!("{}?min_replicas=1", server.url())).unwrap();
    let version = write(&store, 0, "no replica");
    assert_eq!(present(&store), ("no replica".to_owned(), version));
}

#[test]
fn a_cluster_keeps_each_document_in_its_own_slot() {
    let cluster = RedisCluster::start();
    let (store, second) = (connect(&cluster.url()).unwrap(), connect(&cluster.url()).unwrap());
    let names: Vec<DocumentName> =
        (0..12).map(|number| format!("notes-{number}").parse().unwrap()).collect();
    block_on(async {
        for name in &names {
            let written = store.swap_document(name, 0, name.as_str()).await.unwrap();
            let DocumentSwap::Written { version, .. } = written else { panic!("{written:?}") };
            let read = second.document(name).await.unwrap();
            assert_eq!((read.text.as_str(), read.version), (name.as_str(), version));
            let late = second.swap_document(name, version - 1, "too late").await.unwrap();
            assert!(matches!(late, DocumentSwap::Conflict(present) if present == Document {
                now: present.now, ..read.clone()
            }));
            let news = second.document_since(name, version).await.unwrap();
            assert!(matches!(news, DocumentNews::Unchanged { .. }));
        }
    });
    let mut masters: Vec<_> = names
        .iter()
        .map(|name| cluster.master_of(&format!("gpulock:{{document:{name}}}")).port())
        .collect();
    masters.sort_unstable();
    masters.dedup();
    assert_eq!(masters.len(), 3, "they are spread over all nodes");
}

#[test]
fn a_cluster_whose_master_died_goes_on_with_its_documents() {
    let cluster = RedisCluster::with_replicas();
    let store = connect(&cluster.url()).unwrap();
    let version = write(&store, 0, "kept");
    let master = cluster.master_of(KEY);
    until("the replica has it", || {
        master.cli(&["INFO", "replication"]).contains("state=online")
            && cluster.nodes().iter().any(|node| {
                node.port() != master.port()
                    && node.cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot(node)]) == "1"
            })
    });
    master.kill();
    until("another one has taken over", || block_on(store.document(&NAME)).is_ok());
    assert_eq!(present(&store), ("kept".to_owned(), version));
    let next = write(&store, version, "next");
    assert!(next > version);
}

fn slot(node: &RedisServer) -> String {
    node.cli(&["CLUSTER", "KEYSLOT", KEY])
}

#[test]
fn a_full_server_refuses_documents_and_keeps_the_present_ones() {
    let server = RedisServer::start();
    let world = World::at(trusted(&server));
    let lease = world.client().request(task("holder")).acquire().unwrap();
    let version = write(&world.store, 0, "present");
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    for text in ["", "a text that is longer than the present one"] {
        let refused = swap(&world.store, version, text).unwrap_err();
        assert!(matches!(refused, StoreError::OutOfMemory(_)), "{refused}");
    }
    let new = DocumentName::fixed("new");
    let refused = block_on(world.store.swap_document(&new, 0, "text")).unwrap_err();
    assert!(matches!(refused, StoreError::OutOfMemory(_)), "{refused}");
    assert_eq!(block_on(world.store.document(&new)).unwrap().version, 0);
    assert_eq!(present(&world.store), ("present".to_owned(), version));
    assert_eq!(conflict(&world.store, version - 1), ("present".to_owned(), version));
    block_on(lease.release()).unwrap();
    world.until_free();

    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    write(&world.store, version, "next");
}

#[test]
fn a_clock_that_is_set_back_gives_no_version_again() {
    let server = RedisServer::with_clock();
    let store = connect(&server.url()).unwrap();
    let first = write(&store, 0, "before");
    let before = read(&store).now;
    server.shift_clock(-3_600);
    let second = write(&store, first, "after");
    assert!(second > first, "{second} after {first}");
    // Not earlier than the last write: what was only looked at leaves no trace.
    let after = read(&store).now;
    assert!(after.as_micros() >= first, "{after} after {before}");
    until("time goes on from there", || read(&store).now > before);
    let third = write(&store, second, "later");
    assert!(third > second && third < first + 3_600_000_000, "{third} after {second}");
}

#[test]
fn what_gpulock_did_not_write_is_not_taken_for_a_document() {
    let server = RedisServer::start();
    let store = connect(&server.url()).unwrap();
    for odd in [["version", "odd"], ["version", "7"], ["version", "-1"]] {
        server.cli(&["DEL", KEY]);
        server.cli(&["HSET", KEY, odd[0], odd[1]]);
        for refused in [block_on(store.document(&NAME)).map(drop), swap(&store, 1, "x").map(drop)] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, StoreError::Unreadable { .. }), "{odd:?}: {refused}");
        }
    }
    server.cli(&["DEL", KEY]);
    server.cli(&["SET", KEY, "somebody else's"]);
    for refused in [block_on(store.document(&NAME)).map(drop), swap(&store, 0, "x").map(drop)] {
        let refused = refused.unwrap_err();
        assert!(!refused.is_transient(), "{refused}");
    }
    assert_eq!(server.cli(&["GET", KEY]), "somebody else's");
}

/// A store as version 0.1.0 left it: looking changes nothing, writing adds a table that such a
/// version does not look at.
#[test]
fn a_store_of_before_keeps_documents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    Connection::open(&path).unwrap().execute_batch(include_str!("format_1.sql")).unwrap();
    let store = open(&path);
    assert_eq!(present(&store), (String::new(), 0));
    assert_eq!(conflict(&store, 7), (String::new(), 0));
    assert_eq!(tables(&path), ["clock", "entry", "waiter"]);

    let version = write(&store, 0, "first");
    assert_eq!(tables(&path), ["clock", "document", "entry", "waiter"]);
    assert_eq!(present(&open(&path)), ("first".to_owned(), version));
    let connection = Connection::open(&path).unwrap();
    let number = |pragma: &str| -> u32 {
        connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
    };
    assert_eq!((number("user_version"), number("application_id")), (1, 0x6770_6c6b));
}

#[test]
fn documents_of_a_damaged_table_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    let store = open(&path);
    let version = write(&store, 0, "first");
    let damage = "ALTER TABLE document RENAME COLUMN body TO text";
    Connection::open(&path).unwrap().execute_batch(damage).unwrap();
    for refused in
        [block_on(store.document(&NAME)).map(drop), swap(&store, version, "second").map(drop)]
    {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    }
}

/// Somebody puts a copy of the file in its place that was made before the last write.
#[test]
fn a_file_that_lost_its_latest_writes_gives_no_version_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("gpulock.db"), folder.path().join("copy.db"));
    let store = open(&path);
    let kept = write(&store, 0, "kept");
    let backup = Connection::open(&path).unwrap();
    backup.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    let lost = write(&store, kept, "lost");

    let store = open(&copy);
    assert_eq!(conflict(&store, lost), ("kept".to_owned(), kept));
    let next = write(&store, kept, "next");
    assert!(next > lost, "{next} after {lost}");
}

#[test]
fn faults_that_were_ordered_meet_documents() {
    let inside: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let faulty = FaultyStore::new(Arc::clone(&inside));
    let store: Arc<dyn Store> = Arc::new(faulty.clone());
    let order = |fault| {
        faulty.plan(move |call| match call {
            Call::WriteDocument(name) if *name == NAME => Some(fault),
            _ => None,
        });
    };
    order(Fault::Unavailable);
    assert!(swap(&store, 0, "first").unwrap_err().is_transient());
    assert_eq!(present(&inside).1, 0);
    order(Fault::Conflict);
    assert_eq!(conflict(&store, 0), (String::new(), 0));
    order(Fault::LostReply);
    assert!(swap(&store, 0, "first").unwrap_err().is_transient());
    let (text, version) = present(&store);
    assert_eq!(text, "first");
    // There is nobody to wake.
    let met = faulty.faults_met();
    order(Fault::LostWakeUps);
    write(&store, version, "second");
    assert_eq!(faulty.faults_met(), met);
    faulty.go_away();
    assert!(block_on(store.document(&NAME)).is_err());
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(path).unwrap())
}

fn tables(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut names = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap();
    names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}
