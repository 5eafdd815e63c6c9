//! The promises of a [`Store`], each a function and, through [`conformance_tests!`], a test.
//!
//! Whoever writes a store calls the macro once and gets a test for every promise of the
//! [contract](crate::store). The promises know nothing of the rules: they write records of
//! their own making and look at what comes back.
//!
//! ```
//! use std::sync::Arc;
//!
//! use gpulock::conformance::StoreUnderTest;
//! use gpulock::store::memory::MemoryStore;
//!
//! gpulock::conformance_tests!(memory, || async {
//!     let store = MemoryStore::new();
//!     StoreUnderTest::new(Arc::new(store.clone()), Arc::new(store))
//! });
//! # fn main() {}
//! ```
//!
//! The functions panic where a promise is broken, as tests do.
//!
//! [`conformance_tests!`]: crate::conformance_tests

use std::any::Any;
use std::sync::Arc;

use tokio::runtime::Builder;

use crate::store::Store;

pub mod documents;
pub mod following;
pub mod joining;
pub mod journal;
pub mod looking;
pub mod pools;
mod samples;
pub mod swapping;
pub mod tasks;
pub mod wake_ups;

/// A fresh, empty store, opened twice.
#[derive(Debug)]
pub struct StoreUnderTest {
    /// One client's view.
    pub store: Arc<dyn Store>,
    /// Another client's view of the same data: another connection, if there are any.
    pub second: Arc<dyn Store>,
    /// What must live as long as the store, such as its folder or its server.
    _guard: Option<Box<dyn Any + Send + Sync>>,
}

impl StoreUnderTest {
    /// Two views of one empty store.
    pub fn new(store: Arc<dyn Store>, second: Arc<dyn Store>) -> Self {
        Self { store, second, _guard: None }
    }

    /// Keeps something until the test is over.
    #[must_use]
    pub fn guarded_by(mut self, guard: impl Any + Send + Sync) -> Self {
        self._guard = Some(Box::new(guard));
        self
    }
}

/// Tries one promise on a store that `open` opens.
///
/// # Panics
/// If the promise is broken.
pub fn run(open: impl AsyncFnOnce() -> StoreUnderTest, promise: impl AsyncFnOnce(StoreUnderTest)) {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a runtime can be started").block_on(async {
        promise(open().await).await;
    });
}

/// Makes a module `$module` with one test for each promise of a store. `$open` is an async
/// closure that opens a fresh, empty store and gives a
/// [`StoreUnderTest`](crate::conformance::StoreUnderTest).
#[macro_export]
macro_rules! conformance_tests {
    ($module:ident, $open:expr) => {
        $crate::conformance_tests!(@each $module, $open, [
            looking::an_unwritten_pool_is_empty,
            looking::everything_written_is_read_back,
            looking::leases_of_every_phase_are_read_back,
            looking::what_is_removed_is_gone,
            looking::a_picture_is_no_older_than_what_it_shows,
            looking::the_clock_never_goes_back,
            swapping::a_write_that_read_nothing_is_always_written,
            swapping::a_write_conflicts_exactly_when_a_part_that_was_read_changed,
            swapping::a_conflict_writes_nothing_and_shows_the_present,
            swapping::the_parts_have_versions_of_their_own,
            swapping::a_write_before_its_time_conflicts,
            swapping::a_write_that_must_not_meet_a_lease_does_not,
            swapping::of_many_writers_with_one_expectation_one_wins,
            swapping::no_write_is_lost_among_many_writers,
            joining::arrival_is_the_order_of_writes,
            joining::of_many_who_join_at_once_none_is_lost,
            joining::joining_twice_keeps_the_place,
            joining::leaving_without_being_there_is_harmless,
            joining::priority_goes_before_arrival,
            joining::the_window_shows_the_first_of_every_lane,
            joining::the_asker_is_shown_beyond_the_window,
            joining::asking_stamps_the_asker_alone,
            journal::events_and_changes_land_together,
            journal::the_latest_event_comes_first,
            journal::events_are_found_by_task,
            journal::the_journal_is_capped_and_the_sums_go_on,
            following::the_cursor_grows,
            following::what_came_after_a_cursor_is_given_in_order,
            following::of_many_writers_nobody_writes_behind_a_follower,
            following::a_cut_journal_says_so,
            following::an_unknown_cursor_says_so,
            tasks::a_sign_of_life_is_read_back,
            tasks::a_run_keeps_its_start_until_another_begins,
            tasks::times_are_those_of_the_store,
            tasks::the_latest_sign_of_life_comes_first,
            tasks::the_most_silent_gives_way,
            tasks::a_forgotten_task_is_gone,
            tasks::a_task_is_no_part_of_the_record,
            tasks::tasks_of_pools_are_separate,
            tasks::two_handles_see_each_others_tasks,
            documents::an_unwritten_document_is_empty,
            documents::a_document_is_read_back,
            documents::a_document_that_changed_is_not_written_over,
            documents::a_document_never_has_a_version_twice,
            documents::of_many_writers_of_a_document_one_wins,
            documents::no_change_of_a_document_is_lost,
            documents::an_unchanged_document_is_not_sent_again,
            documents::a_document_comes_with_the_time_of_the_store,
            documents::a_document_has_a_largest_size,
            documents::documents_are_separate,
            documents::a_document_is_no_part_of_a_pool,
            documents::two_handles_see_each_others_documents,
            pools::pools_are_separate,
            pools::pools_are_listed_once_written,
            pools::two_handles_see_each_others_writes,
            pools::records_of_different_pools_may_share_ids,
            wake_ups::a_wake_up_reaches_the_addressed_mailbox_alone,
            wake_ups::a_closed_mailbox_harms_nobody,
            wake_ups::a_conflict_wakes_nobody,
            wake_ups::every_mailbox_has_an_address_of_its_own,
            wake_ups::a_lost_mailbox_is_opened_again_under_its_address,
        ]);
    };
    (@each $module:ident, $open:expr, [$($chapter:ident :: $promise:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $promise() {
                    $crate::conformance::run($open, $crate::conformance::$chapter::$promise);
                }
            )*
        }
    };
}
