//! Without anybody to be told the book is kept all the same, and while nothing happens nothing is
//! written.

use super::book::Ledger;
use super::rounds;
use crate::cli::program::until;
use crate::cli::scene::Scene;
use crate::cli::serve::daemon::{BRISK, Daemon};

#[test]
fn without_channels_the_book_is_kept_and_at_rest_it_is_not_written() {
    let scene = Scene::with_config(BRISK);
    let daemon = Daemon::start(&scene);
    daemon.until_it_acts();
    let ledger = Ledger::of(&scene.store_url());
    ledger.raise("cuda_oom", "the card is full");
    until("it stands in the book", || ledger.has("cuda_oom", "firing"));
    let lease = daemon.api().acquire("asr", 60.0);
    assert!(ledger.letters().is_empty());
    assert!(ledger.sums().channels.is_empty(), "nobody was told");
    let until_rounds = |more: u64| {
        let before = rounds(&daemon);
        until("rounds were made", || rounds(&daemon) >= before + more);
    };
    // What was raised is read and settles.
    until_rounds(2);
    let version = ledger.version();
    until_rounds(4);
    assert_eq!(ledger.version(), version, "{:#?}", ledger.alerts());
    daemon.api().give_back(&lease).expect(204);
    until_rounds(2);
    assert_eq!(ledger.version(), version, "a lease that is given back means nothing for alerts");
    daemon.stop();
}
