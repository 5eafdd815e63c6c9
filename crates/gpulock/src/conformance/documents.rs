//! Texts that are kept under a name.

use std::collections::BTreeSet;
use std::sync::Arc;

use gpulock_core::Pool;
use tokio::task::JoinSet;

use super::StoreUnderTest;
use super::samples::{Bench, keeps, ledger};
use crate::store::{
    DOCUMENT_CAP, Document, DocumentName, DocumentNews, DocumentSwap, Store, StoreError, Versions,
};

const NAME: DocumentName = DocumentName::fixed("conformance");

/// What a store, a database or JSON could stumble over.
const ODD: &str = "Ä \"b\"\r\n\\ 日本 \u{0}\u{1}\u{1f}\u{7f}\u{2028} '%s' \u{10ffff}";

/// One document, through one handle.
#[derive(Clone)]
struct Desk {
    store: Arc<dyn Store>,
    name: DocumentName,
}

impl Desk {
    fn new(store: &Arc<dyn Store>) -> Self {
        Self { store: Arc::clone(store), name: NAME }
    }

    fn beside(&self, name: &str) -> Self {
        Self { name: name.parse().expect("a document's name"), ..self.clone() }
    }

    async fn read(&self) -> Document {
        self.store.document(&self.name).await.expect("the store can be read")
    }

    async fn since(&self, known: u64) -> DocumentNews {
        self.store.document_since(&self.name, known).await.expect("the store can be read")
    }

    async fn swap(&self, expected: u64, text: &str) -> DocumentSwap {
        let swap = self.store.swap_document(&self.name, expected, text).await;
        swap.expect("the store can be written")
    }

    /// Writes what nobody else writes meanwhile; the version that it has now.
    async fn write(&self, expected: u64, text: &str) -> u64 {
        match self.swap(expected, text).await {
            DocumentSwap::Written { version, .. } => version,
            DocumentSwap::Conflict(present) => panic!("nobody else wrote {present:?}"),
        }
    }

    /// Replaces the text by what `change` makes of it, however often others are first. The
    /// version that it has then.
    async fn change(&self, change: impl Fn(&str) -> String) -> u64 {
        let mut present = self.read().await;
        loop {
            match self.swap(present.version, &change(&present.text)).await {
                DocumentSwap::Written { version, .. } => return version,
                DocumentSwap::Conflict(other) => present = other,
            }
        }
    }
}

/// It has no text and version 0, and looking at it or failing to write it changes nothing.
pub async fn an_unwritten_document_is_empty(under_test: StoreUnderTest) {
    let desk = Desk::new(&under_test.store);
    let empty = desk.read().await;
    assert_eq!((empty.text.as_str(), empty.version), ("", 0));
    assert!(matches!(desk.since(0).await, DocumentNews::Unchanged { .. }));
    for known in [1, empty.now.as_micros(), u64::MAX] {
        let news = desk.since(known).await;
        assert!(matches!(&news, DocumentNews::Changed(now) if now.version == 0), "{news:?}");
        let swap = desk.swap(known, "too late").await;
        assert!(matches!(&swap, DocumentSwap::Conflict(now) if now.version == 0), "{swap:?}");
    }
    let empty = desk.read().await;
    assert_eq!((empty.text.as_str(), empty.version), ("", 0));
}

/// Every text comes back as it was written, the empty one too, which is not an unwritten one.
pub async fn a_document_is_read_back(under_test: StoreUnderTest) {
    let desk = Desk::new(&under_test.store);
    let mut version = 0;
    for text in [ODD, "", "{}", " \n", "null", "0"] {
        version = desk.write(version, text).await;
        assert!(version > 0);
        let read = desk.read().await;
        assert_eq!((read.text.as_str(), read.version), (text, version));
    }
}

/// A write that expected another version leaves everything as it is, and is answered with the
/// present document.
pub async fn a_document_that_changed_is_not_written_over(under_test: StoreUnderTest) {
    let desk = Desk::new(&under_test.store);
    let second = Desk::new(&under_test.second);
    let first = desk.write(0, "first").await;
    let present = second.write(first, ODD).await;
    for expected in [0, first, present - 1, present + 1, u64::MAX] {
        let DocumentSwap::Conflict(shown) = desk.swap(expected, "too late").await else {
            panic!("written although {expected} is not {present}")
        };
        assert_eq!((shown.text.as_str(), shown.version), (ODD, present));
    }
    let read = desk.read().await;
    assert_eq!((read.text.as_str(), read.version), (ODD, present));
    desk.write(present, "in time").await;
}

/// Every version is larger than all before it, also of a text that stays the same.
pub async fn a_document_never_has_a_version_twice(under_test: StoreUnderTest) {
    let desks = [Desk::new(&under_test.store), Desk::new(&under_test.second)];
    let mut version = 0;
    for round in 0..50 {
        let next = desks[round % 2].write(version, "the same").await;
        assert!(next > version, "{next} after {version}");
        version = next;
    }
}

/// Of many who expected the same version, exactly one is written.
pub async fn of_many_writers_of_a_document_one_wins(under_test: StoreUnderTest) {
    const WRITERS: usize = 16;
    let desks = [Desk::new(&under_test.store), Desk::new(&under_test.second)];
    // The first write of all, and a later one.
    let mut expected = 0;
    for _ in 0..2 {
        let mut writing = JoinSet::new();
        for number in 0..WRITERS {
            let desk = desks[number % 2].clone();
            writing.spawn(async move {
                match desk.swap(expected, &number.to_string()).await {
                    DocumentSwap::Written { version, .. } => Some((number, version)),
                    DocumentSwap::Conflict(_) => None,
                }
            });
        }
        let won: Vec<_> = writing.join_all().await.into_iter().flatten().collect();
        let [(winner, version)] = won[..] else { panic!("{} writes won", won.len()) };
        let read = desks[1].read().await;
        assert_eq!((read.text, read.version), (winner.to_string(), version));
        expected = version;
    }
}

/// Many writers who each add one, again and again, get the right sum, and each write has a
/// version of its own.
pub async fn no_change_of_a_document_is_lost(under_test: StoreUnderTest) {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 15;
    let desks = [Desk::new(&under_test.store), Desk::new(&under_test.second)];
    let add_one = |text: &str| (text.parse().unwrap_or(0) + 1).to_string();
    let mut writing = JoinSet::new();
    for number in 0..WRITERS {
        let desk = desks[number % 2].clone();
        writing.spawn(async move {
            let mut versions = Vec::new();
            for _ in 0..ROUNDS {
                versions.push(desk.change(add_one).await);
            }
            versions
        });
    }
    let versions: BTreeSet<_> = writing.join_all().await.into_iter().flatten().collect();
    assert_eq!(versions.len(), WRITERS * ROUNDS);
    assert_eq!(desks[0].read().await.text, (WRITERS * ROUNDS).to_string());
}

/// Whoever knows the present version is told so, and gets the text only when it is another one.
pub async fn an_unchanged_document_is_not_sent_again(under_test: StoreUnderTest) {
    let desk = Desk::new(&under_test.store);
    let second = Desk::new(&under_test.second);
    let first = desk.write(0, "first").await;
    assert!(matches!(second.since(first).await, DocumentNews::Unchanged { .. }));
    let present = desk.write(first, "second").await;
    // A store that lost its latest writes has an earlier version than the one that is known.
    for known in [0, first, present + 1] {
        let DocumentNews::Changed(shown) = second.since(known).await else {
            panic!("{known} is not {present}")
        };
        assert_eq!((shown.text.as_str(), shown.version), ("second", present));
    }
    assert!(matches!(second.since(present).await, DocumentNews::Unchanged { .. }));
}

/// Times are those of the clock that also decides deadlines, and they never go back.
pub async fn a_document_comes_with_the_time_of_the_store(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let desk = Desk::new(&under_test.store);
    let mut last = bench.view().await.now;
    let mut version = 0;
    for _ in 0..10 {
        let written = match desk.swap(version, "text").await {
            DocumentSwap::Written { version: present, now } => {
                version = present;
                now
            }
            DocumentSwap::Conflict(present) => panic!("nobody else wrote {present:?}"),
        };
        let refused = match desk.swap(0, "text").await {
            DocumentSwap::Conflict(present) => present.now,
            DocumentSwap::Written { .. } => panic!("0 is not {version}"),
        };
        let read = desk.read().await.now;
        let DocumentNews::Unchanged { now: known } = desk.since(version).await else {
            panic!("nobody wrote")
        };
        let after = bench.view().await.now;
        let times = [last, written, refused, read, known, after];
        assert!(times.is_sorted(), "{times:?}");
        last = after;
    }
}

/// A text of the largest size comes back, and of one that is larger nothing is written.
pub async fn a_document_has_a_largest_size(under_test: StoreUnderTest) {
    let desk = Desk::new(&under_test.store);
    let mut text = ODD.repeat(DOCUMENT_CAP / ODD.len());
    text.push_str(&"x".repeat(DOCUMENT_CAP - text.len()));
    let version = desk.write(0, &text).await;
    let read = desk.read().await;
    assert!(read.text == text, "{} of {} bytes came back", read.text.len(), text.len());
    assert_eq!(read.version, version);

    text.push('x');
    for expected in [version, 0] {
        let refused = desk.store.swap_document(&desk.name, expected, &text).await;
        let refused = refused.expect_err("it is too large");
        let StoreError::TooLarge { limit, actual, .. } = &refused else { panic!("{refused}") };
        assert_eq!((*limit, *actual), (DOCUMENT_CAP, DOCUMENT_CAP + 1));
        assert!(!refused.is_transient());
    }
    assert!(matches!(desk.since(version).await, DocumentNews::Unchanged { .. }));
}

/// What is written under one name cannot be seen under another, nor counts there.
pub async fn documents_are_separate(under_test: StoreUnderTest) {
    let desk = Desk::new(&under_test.store);
    let longest = "z".repeat(64);
    let others = ["conformance-2", "pools", "default", "0", "-", &longest];
    let version = desk.write(0, "here").await;
    for name in others {
        let other = desk.beside(name);
        assert_eq!(other.read().await.version, 0, "{name}");
        other.write(0, name).await;
    }
    for name in others {
        assert_eq!(desk.beside(name).read().await.text, name);
    }
    let here = desk.read().await;
    assert_eq!((here.text.as_str(), here.version), ("here", version));
}

/// Neither does a document make a pool or change one, nor does a pool touch a document, also of
/// the same name.
pub async fn a_document_is_no_part_of_a_pool(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let desk = Desk::new(&under_test.store).beside(bench.pool.as_str());
    let version = desk.write(0, "before").await;
    let view = bench.view().await;
    assert_eq!((view.pool, view.versions), (Pool::default(), Versions::default()));
    assert_eq!(bench.store.pools().await.expect("the store can be read"), []);
    assert_eq!(bench.history(10, None).await, []);

    bench.write(keeps(ledger(1))).await;
    let written = bench.view().await.versions;
    assert!(matches!(desk.since(version).await, DocumentNews::Unchanged { .. }));
    desk.write(version, "after").await;
    let view = bench.view().await;
    assert_eq!((view.pool.ledger, view.versions), (ledger(1), written));
    let pools = bench.store.pools().await.expect("the store can be read");
    assert_eq!(pools, std::slice::from_ref(&bench.pool));
    assert_eq!(bench.history(10, None).await, []);
}

/// What one client writes the other reads, and goes on from there.
pub async fn two_handles_see_each_others_documents(under_test: StoreUnderTest) {
    let desk = Desk::new(&under_test.store);
    let second = Desk::new(&under_test.second);
    let mut version = 0;
    for round in 0..10 {
        let (from, to) = if round % 2 == 0 { (&desk, &second) } else { (&second, &desk) };
        let text = format!("round {round}");
        version = from.write(version, &text).await;
        let read = to.read().await;
        assert_eq!((read.text, read.version), (text, version));
    }
}
