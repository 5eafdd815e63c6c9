//! What is remembered of tasks.

use std::sync::Arc;

use gpulock_core::{TaskBeat, TaskRecord, TaskStatus, Time};
use tokio::task::JoinSet;

use super::StoreUnderTest;
use super::samples::{Bench, beat, keeps, ledger};
use crate::store::{TASK_RECORD_CAP, Versions};

/// All of a sign of life comes back, and a later one takes its place.
pub async fn a_sign_of_life_is_read_back(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    assert_eq!(bench.tasks().await, []);
    let bare = TaskBeat { progress: None, lease: None, pid: None, ..beat("speech → text") };
    for told in [
        beat("speech → text"),
        TaskBeat { status: TaskStatus::Failed, ..bare.clone() },
        TaskBeat { status: TaskStatus::Completed, begins: true, ..bare },
    ] {
        let record = bench.put_task(&told).await;
        let expected = TaskRecord::after(told, None, record.updated_at);
        assert_eq!(record, TaskRecord { started_at: record.started_at, ..expected });
        assert_eq!(bench.tasks().await, [record]);
    }
}

/// The start of a run stays what it was, also when it comes to its end; a new run has its own.
pub async fn a_run_keeps_its_start_until_another_begins(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let first = bench.put_task(&beat("a")).await;
    assert_eq!(first.started_at, first.updated_at);
    let later = put_later(&bench, &beat("a"), first.updated_at).await;
    assert_eq!(later.started_at, first.started_at);
    let ended = TaskBeat { status: TaskStatus::Completed, ..beat("a") };
    assert_eq!(bench.put_task(&ended).await.started_at, first.started_at);

    let begins = TaskBeat { begins: true, ..beat("a") };
    let again = put_later(&bench, &begins, first.updated_at).await;
    assert_eq!(again.started_at, again.updated_at);
    assert_eq!(bench.put_task(&beat("a")).await.started_at, again.started_at);
}

/// Times are those of the clock that also decides deadlines, and they never go back.
pub async fn times_are_those_of_the_store(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut last = Time::default();
    for _ in 0..20 {
        let before = bench.view().await.now;
        let told = bench.put_task(&beat("a")).await.updated_at;
        let after = bench.view().await.now;
        assert!(before <= told && told <= after && last <= told, "{before} {told} {after}");
        last = told;
    }
}

/// Whoever told something last comes first.
pub async fn the_latest_sign_of_life_comes_first(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let mut last = Time::default();
    for task_id in ["a", "b", "c", "a"] {
        last = put_later(&bench, &beat(task_id), last).await.updated_at;
    }
    assert_eq!(ids(&bench.tasks().await), ["a", "c", "b"]);
}

/// When there are too many, a new one pushes out the one that has been silent longest, and one
/// that is known already nobody.
pub async fn the_most_silent_gives_way(under_test: StoreUnderTest) {
    const AT_ONCE: usize = 8;
    let bench = Bench::new(&under_test.store);
    let mut last = Time::default();
    for early in ["first", "second"] {
        last = put_later(&bench, &beat(early), last).await.updated_at;
    }
    let mut putting = JoinSet::new();
    for lane in 0..AT_ONCE {
        let bench = bench.clone();
        putting.spawn(async move {
            for number in (lane..TASK_RECORD_CAP - 2).step_by(AT_ONCE) {
                bench.put_task(&beat(&number.to_string())).await;
            }
        });
    }
    putting.join_all().await;
    let full = bench.tasks().await;
    assert_eq!(full.len(), TASK_RECORD_CAP);
    assert_eq!(ids(&full[TASK_RECORD_CAP - 2..]), ["second", "first"]);

    bench.put_task(&beat("first")).await;
    assert_eq!(bench.tasks().await.len(), TASK_RECORD_CAP, "a known task pushed one out");
    bench.put_task(&beat("new")).await;
    let after = bench.tasks().await;
    assert_eq!(after.len(), TASK_RECORD_CAP);
    let known = |task_id: &str| after.iter().any(|record| record.task_id.as_str() == task_id);
    assert!(known("new") && known("first") && !known("second"));

    bench.beside("lab").put_task(&beat("of the lab")).await;
    assert_eq!(bench.tasks().await.len(), TASK_RECORD_CAP, "pools push each other out");
}

/// A task that is removed is gone, alone, and can come back as a new one.
pub async fn a_forgotten_task_is_gone(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    assert!(!bench.remove_task("a").await);
    let first = bench.put_task(&beat("a")).await;
    bench.put_task(&beat("b")).await;
    assert!(bench.remove_task("a").await);
    assert!(!bench.remove_task("a").await);
    assert_eq!(ids(&bench.tasks().await), ["b"]);
    let back = put_later(&bench, &beat("a"), first.updated_at).await;
    assert_eq!(back.started_at, back.updated_at);
}

/// Neither does a sign of life make a pool or change one, nor does a pool touch what is
/// remembered of tasks.
pub async fn a_task_is_no_part_of_the_record(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    bench.put_task(&beat("a")).await;
    let view = bench.view().await;
    assert_eq!((view.pool, view.versions), (gpulock_core::Pool::default(), Versions::default()));
    assert_eq!(bench.store.pools().await.expect("the store can be read"), []);
    assert_eq!(bench.history(10, None).await, []);

    bench.write(keeps(ledger(1))).await;
    let written = bench.view().await.versions;
    let remembered = bench.put_task(&beat("a")).await;
    assert_eq!(bench.view().await.versions, written);
    bench.write(keeps(ledger(2))).await;
    assert_eq!(bench.tasks().await, [remembered]);
    assert_eq!(
        bench.store.pools().await.expect("the store can be read"),
        std::slice::from_ref(&bench.pool)
    );
}

/// The same id in two pools means two tasks.
pub async fn tasks_of_pools_are_separate(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let lab = bench.beside("lab");
    let here = bench.put_task(&beat("a")).await;
    let there = lab.put_task(&TaskBeat { host: "lab1".to_owned(), ..beat("a") }).await;
    assert_eq!(bench.tasks().await, std::slice::from_ref(&here));
    assert_eq!(lab.tasks().await, [there]);
    assert!(lab.remove_task("a").await);
    assert_eq!(bench.tasks().await, [here]);
}

/// What one client tells the other reads, goes on with, and forgets.
pub async fn two_handles_see_each_others_tasks(under_test: StoreUnderTest) {
    let bench = Bench::new(&under_test.store);
    let second = Bench { store: Arc::clone(&under_test.second), ..bench.clone() };
    let told = bench.put_task(&beat("a")).await;
    assert_eq!(second.tasks().await, std::slice::from_ref(&told));
    let gone_on = put_later(&second, &beat("a"), told.updated_at).await;
    assert_eq!(gone_on.started_at, told.started_at);
    assert_eq!(bench.tasks().await, [gone_on]);
    assert!(second.remove_task("a").await);
    assert_eq!(bench.tasks().await, []);
}

/// Tells it until the store's clock has gone on.
async fn put_later(bench: &Bench, beat: &TaskBeat, than: Time) -> TaskRecord {
    loop {
        let record = bench.put_task(beat).await;
        if record.updated_at > than {
            return record;
        }
    }
}

fn ids(records: &[TaskRecord]) -> Vec<&str> {
    records.iter().map(|record| record.task_id.as_str()).collect()
}
