//! Every promise of a store, on every store.

use std::sync::Arc;

use gpulock::conformance::StoreUnderTest;
use gpulock::conformance_tests;
use gpulock::connect;
use gpulock::store::faulty::FaultyStore;
use gpulock::store::memory::MemoryStore;
use gpulock::store::sqlite::SqliteStore;
use gpulock_testbed::RedisServer;

conformance_tests!(memory, || async {
    let store = MemoryStore::new();
    StoreUnderTest::new(Arc::new(store.clone()), Arc::new(store))
});

conformance_tests!(sqlite, || async {
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(SqliteStore::open(&folder.path().join("gpulock.db")).unwrap());
    let (store, second) = (open(), open());
    StoreUnderTest::new(store, second).guarded_by(folder)
});

conformance_tests!(redis, || async {
    let server = RedisServer::start();
    let open = || connect(&server.url()).unwrap();
    let (store, second) = (open(), open());
    StoreUnderTest::new(store, second).guarded_by(server)
});

// A faulty store that meets no fault is as good as the one behind it.
conformance_tests!(faulty, || async {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    StoreUnderTest::new(Arc::new(store.clone()), Arc::new(store))
});
