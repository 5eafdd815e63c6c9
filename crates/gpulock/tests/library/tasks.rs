//! Signs of life of tasks, and following the journal, through a client; and what a store that
//! was there before either makes of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gpulock::core::{Progress, TaskBeat, TaskSign, TaskStatus, What};
use gpulock::store::faulty::{Fault, FaultyStore};
use gpulock::store::memory::MemoryStore;
use gpulock::store::sqlite::SqliteStore;
use gpulock::store::{Cursor, Entry, Store, StoreError};
use gpulock::{Client, Error, LastWord};
use gpulock_testbed::{RedisCluster, RedisServer};
use rusqlite::Connection;

use super::support::{AGES, World, block_on, on_every_store, patient, task, until};

on_every_store!(
    a_follower_sees_a_lease_come_and_go,
    a_kept_task_goes_on_until_it_is_ended,
    a_task_says_what_its_silence_means,
    what_a_client_tells_another_reads,
);

fn a_follower_sees_a_lease_come_and_go(world: World) {
    let (client, follower) = (world.client(), world.client());
    assert_eq!(block_on(follower.journal_end()).unwrap(), Cursor::START);
    block_on(client.refresh_gpus()).unwrap();
    let end = block_on(follower.journal_end()).unwrap();
    assert!(end > Cursor::START);
    let lease = client.request(task("seen")).acquire().unwrap();
    block_on(lease.release()).unwrap();
    world.until_free();

    let followed = block_on(follower.follow(end, 100)).unwrap();
    assert!(followed.is_gapless);
    let told: Vec<_> = followed.entries.iter().map(|entry| &entry.event.what).collect();
    assert!(matches!(told[0], What::Granted { .. }), "{told:?}");
    assert!(matches!(told[told.len() - 1], What::Ended { .. }), "{told:?}");
    let last = followed.entries[told.len() - 1].cursor;
    assert_eq!(block_on(follower.journal_end()).unwrap(), last);
    assert_eq!(block_on(follower.follow(last, 100)).unwrap().entries, []);
}

fn what_a_client_tells_another_reads(world: World) {
    let (client, other) = (world.client(), world.client());
    let told = block_on(client.beat(&beat("video-7", TaskStatus::Running))).unwrap();
    assert_eq!(block_on(other.tasks()).unwrap(), std::slice::from_ref(&told));
    let ended = block_on(other.beat(&beat("video-7", TaskStatus::Completed))).unwrap();
    assert_eq!((ended.status, ended.started_at), (TaskStatus::Completed, told.started_at));
    let in_lab = world.client_with(|options| options.pool = "lab".parse().unwrap());
    assert_eq!(block_on(in_lab.tasks()).unwrap(), []);
    assert!(block_on(client.forget_task(&told.task_id)).unwrap());
    assert!(!block_on(client.forget_task(&told.task_id)).unwrap());
    assert_eq!(block_on(other.tasks()).unwrap(), []);
}

/// It is told again and again; what was told last counts, and after its end nothing comes.
fn a_kept_task_goes_on_until_it_is_ended(world: World) {
    let client = world.client();
    let record = || block_on(client.tasks()).unwrap().pop();
    let begins = TaskBeat { begins: true, ..beat("video-7", TaskStatus::Running) };
    let kept = client.keep_task(begins, Duration::from_millis(5));
    until("it has begun", || record().is_some());
    let first = record().unwrap();
    until("it goes on", || record().unwrap().updated_at > first.updated_at);
    let progress = Progress { basis_points: 9_000, message: "frame 200".to_owned() };
    kept.tell(Some(progress.clone()));
    until("it is told", || record().unwrap().progress.as_ref() == Some(&progress));
    assert_eq!(record().unwrap().started_at, first.started_at);
    assert_eq!(kept.trouble(), None);

    assert!(block_on(kept.end(LastWord::Ended(TaskStatus::Failed, None))).unwrap());
    let last = record().unwrap();
    assert_eq!(
        (last.status, last.progress, last.started_at),
        (TaskStatus::Failed, None, first.started_at)
    );

    let again = client.keep_task(beat("video-7", TaskStatus::Running), Duration::from_millis(5));
    until("it works again", || record().unwrap().status == TaskStatus::Running);
    assert!(block_on(again.end(LastWord::Forget)).unwrap());
    assert_eq!(record(), None);
    let dropped = client.keep_task(beat("video-8", TaskStatus::Running), AGES);
    drop(dropped);
    assert_eq!(record(), None);
}

fn a_task_says_what_its_silence_means(world: World) {
    let client = world.client();
    let lease = client.request(task("holder")).acquire().unwrap();
    let under = TaskBeat { lease: Some(lease.id()), ..beat("on a GPU", TaskStatus::Running) };
    block_on(client.beat(&under)).unwrap();
    block_on(client.beat(&beat("without", TaskStatus::Running))).unwrap();
    block_on(client.beat(&beat("over", TaskStatus::Completed))).unwrap();
    let short = world.client_with(|options| options.heartbeat_timeout = Duration::from_millis(1));
    let signs = |client: &Client| {
        let mut signs: Vec<_> = block_on(client.task_heartbeats())
            .unwrap()
            .into_iter()
            .map(|told| (told.task_id.to_string(), told.sign))
            .collect();
        signs.sort_by_key(|(task_id, _)| task_id.clone());
        signs.into_iter().map(|(_, sign)| sign).collect::<Vec<_>>()
    };
    assert_eq!(signs(&client), [TaskSign::Active, TaskSign::Finished, TaskSign::Active]);
    until("they are silent for too long", || {
        signs(&short) == [TaskSign::Dead, TaskSign::Finished, TaskSign::Dead]
    });
    block_on(lease.release()).unwrap();
    world.until_free();
    assert_eq!(signs(&client), [TaskSign::Orphaned, TaskSign::Finished, TaskSign::Active]);
}

/// A sign of life that is under way when the task ends does not come after its end.
#[test]
fn nothing_is_told_after_the_end_of_a_kept_task() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let client = Client::builder(Arc::new(store.clone())).options(patient()).build().unwrap();
    // The first call takes long, the second does not; when the third, which takes as long, has
    // got through, so has the first.
    let mut slow = [true, false, true].into_iter();
    let long = Duration::from_millis(50);
    store.plan(move |_| slow.next().unwrap_or(false).then_some(Fault::Delay(long)));
    let kept = client.keep_task(beat("video-7", TaskStatus::Running), AGES);
    kept.tell(None);
    until("it is under way", || store.faults_met() == 1);
    block_on(kept.end(LastWord::Forget)).unwrap();
    let last = block_on(client.beat(&beat("another", TaskStatus::Running))).unwrap();
    assert_eq!(store.faults_met(), 2);
    assert_eq!(block_on(client.tasks()).unwrap(), [last]);
}

#[test]
fn a_kept_task_tells_of_trouble_and_begins_when_it_can() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let mut options = patient();
    options.store_patience = Duration::ZERO;
    let client = Client::builder(Arc::new(store.clone())).options(options).build().unwrap();
    let early = block_on(client.beat(&beat("video-7", TaskStatus::Running))).unwrap();
    store.go_away();
    let begins = TaskBeat { begins: true, ..beat("video-7", TaskStatus::Running) };
    let kept = client.keep_task(begins, Duration::from_millis(1));
    until("it is in trouble", || kept.trouble().is_some());
    assert!(kept.trouble().unwrap().contains("cannot be reached"));
    store.heal();
    until("it is out of trouble", || kept.trouble().is_none());
    let record = block_on(client.tasks()).unwrap().pop().unwrap();
    assert!(record.started_at > early.started_at, "it has not begun anew");
    assert!(block_on(kept.end(LastWord::Forget)).unwrap());
}

#[test]
fn a_sign_of_life_bears_with_a_store_that_is_away_for_a_moment() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let client = Client::builder(Arc::new(store.clone())).options(patient()).build().unwrap();
    let mut left = 3;
    store.plan(move |_| {
        left -= 1;
        (left >= 0).then_some(if left == 1 { Fault::LostReply } else { Fault::Unavailable })
    });
    let told = block_on(client.beat(&beat("video-7", TaskStatus::Running))).unwrap();
    assert_eq!(store.faults_met(), 3);
    assert_eq!(block_on(client.tasks()).unwrap(), [told]);
}

#[test]
fn a_cluster_remembers_tasks_and_can_be_followed() {
    let cluster = RedisCluster::start();
    let world = World::at(cluster.url());
    what_a_client_tells_another_reads(World::at(cluster.url()));
    a_follower_sees_a_lease_come_and_go(world);
}

/// The pool has never lent anything, so nothing but the sign of life keeps its clock.
#[test]
fn a_clock_that_is_set_back_makes_no_task_older_than_it_was() {
    let server = RedisServer::with_clock();
    let client = World::at(server.url()).client();
    let first = block_on(client.beat(&beat("video-7", TaskStatus::Running))).unwrap();
    server.shift_clock(-3_600);
    let second = block_on(client.beat(&beat("video-7", TaskStatus::Running))).unwrap();
    assert!(second.updated_at >= first.updated_at);
    assert_eq!(second.started_at, first.started_at);
    until("time goes on from there", || {
        let told = block_on(client.beat(&beat("video-7", TaskStatus::Running))).unwrap();
        told.updated_at > second.updated_at
    });
    let shown = block_on(client.task_heartbeats()).unwrap();
    assert!(shown[0].last_heartbeat_seconds_ago < 3_600.0 / 2.0, "{shown:?}");
}

/// A task is the least that has to be written when memory is short; leases go on.
#[test]
fn a_full_server_refuses_a_new_task_and_still_forgets() {
    let server = RedisServer::start();
    let world = World::at(format!("{}?after_restart=trust", server.url()));
    let client = world.client();
    let lease = client.request(task("holder")).acquire().unwrap();
    let told = block_on(client.beat(&beat("early", TaskStatus::Running))).unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = block_on(client.beat(&beat("late", TaskStatus::Running))).unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::OutOfMemory(_))), "{error}");
    assert_eq!(block_on(client.tasks()).unwrap(), std::slice::from_ref(&told));
    assert!(block_on(client.forget_task(&told.task_id)).unwrap());
    block_on(lease.release()).unwrap();
    world.until_free();
}

/// The record of a task that is written over by something else is refused by name.
#[test]
fn what_gpulock_did_not_write_is_not_taken_for_a_task() {
    let server = RedisServer::start();
    let client = World::at(server.url()).client();
    for odd in ["", "1 2", "1\n{}", "1 2\n{", "a b\n{}", "1 2\n{\"task_id\":\"\"}"] {
        server.cli(&["HSET", "gpulock:{default}:tasks", "odd", odd]);
        let error = block_on(client.tasks()).unwrap_err();
        assert!(matches!(error, Error::Store(StoreError::Unreadable { .. })), "{odd:?}: {error}");
    }
}

/// A store as version 0.1.0 left it: it is used as it is, and that version can go on with it.
#[test]
fn a_store_of_before_can_be_followed_and_remembers_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    Connection::open(&path).unwrap().execute_batch(include_str!("format_1.sql")).unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).unwrap());
    let client = Client::builder(store).options(patient()).build().unwrap();
    assert_eq!(block_on(client.tasks()).unwrap(), []);
    assert!(!block_on(client.forget_task(&task("video-7"))).unwrap());
    assert_eq!(tables(&path), ["clock", "entry", "waiter"]);

    let before = follow_one_by_one(&client);
    let at: Vec<_> = before.iter().map(|entry| entry.event.at).collect();
    assert_eq!(at.len(), 17);
    assert!(at.is_sorted(), "{at:?}");
    let told = block_on(client.beat(&beat("video-7", TaskStatus::Running))).unwrap();
    assert_eq!(block_on(client.tasks()).unwrap(), [told]);
    let lease = client.request(task("new")).acquire().unwrap();
    block_on(lease.release()).unwrap();
    let after = follow_one_by_one(&client);
    assert_eq!(after[..17], before);
    assert!(matches!(after[after.len() - 1].event.what, What::Ended { .. }));

    let connection = Connection::open(&path).unwrap();
    let number = |pragma: &str| -> u32 {
        connection.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
    };
    assert_eq!((number("user_version"), number("application_id")), (1, 0x6770_6c6b));
    assert_eq!(tables(&path), ["clock", "entry", "task", "waiter"]);
    // As version 0.1.0 tells of an event.
    connection
        .execute(
            "INSERT INTO entry (pool, kind, id, body)
             VALUES ('default', 0, x'01000000000000000006ffffffffffff000000000001', ?1)",
            [serde_json::to_string(&after[3].event).unwrap()],
        )
        .unwrap();
    let last = follow_one_by_one(&client).pop().unwrap();
    assert_eq!(last.event, after[3].event);
}

#[test]
fn tasks_of_a_damaged_table_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gpulock.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).unwrap());
    let client = Client::builder(store).options(patient()).build().unwrap();
    block_on(client.beat(&beat("video-7", TaskStatus::Running))).unwrap();
    let damages = ["UPDATE task SET body = '{'", "ALTER TABLE task RENAME COLUMN body TO text"];
    for damage in damages {
        Connection::open(&path).unwrap().execute_batch(damage).unwrap();
        let error = block_on(client.tasks()).unwrap_err();
        assert!(matches!(error, Error::Store(StoreError::Damaged { .. })), "{damage}: {error}");
    }
}

fn beat(task_id: &str, status: TaskStatus) -> TaskBeat {
    TaskBeat {
        task_id: task(task_id),
        status,
        progress: Some(Progress { basis_points: 4_500, message: "frame 100".to_owned() }),
        lease: None,
        host: "gpu1".to_owned(),
        pid: Some(4_242),
        begins: false,
    }
}

/// The whole journal, in the smallest steps.
fn follow_one_by_one(client: &Client) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map_or(Cursor::START, |entry| entry.cursor);
        let followed = block_on(client.follow(after, 1)).unwrap();
        assert!(followed.is_gapless, "after {after}");
        match followed.entries.into_iter().next() {
            Some(entry) => entries.push(entry),
            None => return entries,
        }
    }
}

fn tables(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut names = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap();
    names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}
