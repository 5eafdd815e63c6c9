//! Every promise of a store, kept through servers and beside them at the same time.

use gpulock::conformance::StoreUnderTest;
use gpulock::conformance_tests;
use gpulock_testbed::RedisServer;

use super::served::{File, Served};

// One client comes through a server, the other does not.
conformance_tests!(sqlite_and_beside_it, || async {
    let file = File::new();
    let served = Served::lending(file.open());
    StoreUnderTest::new(served.connect(), file.open()).guarded_by((served, file))
});

// Two servers on one store.
conformance_tests!(redis, || async {
    let server = RedisServer::start();
    let one = Served::lending(gpulock::connect(&server.url()).unwrap());
    let other = Served::lending(gpulock::connect(&server.url()).unwrap());
    StoreUnderTest::new(one.connect(), other.connect()).guarded_by((one, other, server))
});
