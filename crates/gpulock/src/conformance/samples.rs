//! Records of the suite's own making, and a pool to write them to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gpulock_core::{
    Changes, Event, GpuIndex, Inventory, Lease, LeaseId, Ledger, Level, OwnProcess, Owner, Parts,
    Party, Phase, PoolName, Priority, Process, Progress, Reply, Sight, Step, TaskBeat, TaskName,
    TaskRecord, TaskStatus, Term, Time, Token, Waiter, Wants, What,
};

use crate::store::{Cursor, Entry, Followed, Store, Swapped, Versions, View, Wanted, Write};

/// One pool of a store, written to without the rules.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) pool: PoolName,
}

impl Bench {
    pub(super) fn new(store: &Arc<dyn Store>) -> Self {
        Self { store: Arc::clone(store), pool: PoolName::default() }
    }

    /// The same store, another pool.
    pub(super) fn beside(&self, pool: &str) -> Self {
        Self { store: Arc::clone(&self.store), pool: pool.parse().expect("a pool's name") }
    }

    pub(super) async fn view(&self) -> View {
        self.store.read(&self.pool, None).await.expect("the store can be read")
    }

    pub(super) async fn view_for(&self, asking: LeaseId) -> View {
        self.store.read(&self.pool, Some(asking)).await.expect("the store can be read")
    }

    pub(super) async fn swap(&self, expected: Versions, step: &Step) -> Swapped {
        let write = Write { pool: &self.pool, expected, step, asking: None, incarnation: None };
        self.store.swap(write).await.expect("the store can be written")
    }

    /// Writes a step that is based on nothing, so that it cannot come too late.
    pub(super) async fn write(&self, mut step: Step) {
        step.changes.reads = Parts::default();
        let swapped = self.swap(Versions::default(), &step).await;
        assert!(
            matches!(swapped, Swapped::Written { .. }),
            "a write that read nothing was refused"
        );
    }

    pub(super) async fn join(&self, waiter: Waiter) {
        self.write(joins([waiter])).await;
    }

    pub(super) async fn waiters(&self, limit: usize) -> Vec<Waiter> {
        self.store.waiters(&self.pool, limit).await.expect("the store can be read")
    }

    pub(super) async fn history(&self, limit: usize, task: Option<&str>) -> Vec<Event> {
        events(&self.entries(limit, task).await)
    }

    pub(super) async fn entries(&self, limit: usize, task: Option<&str>) -> Vec<Entry> {
        let task = task.map(|task| task.parse().expect("a task's name"));
        let wanted = Wanted { limit, task };
        self.store.history(&self.pool, &wanted).await.expect("the store can be read")
    }

    pub(super) async fn follow(&self, after: Cursor, limit: usize) -> Followed {
        self.store.follow(&self.pool, after, limit).await.expect("the store can be read")
    }

    pub(super) async fn put_task(&self, beat: &TaskBeat) -> TaskRecord {
        self.store.put_task(&self.pool, beat).await.expect("the store can be written")
    }

    pub(super) async fn tasks(&self) -> Vec<TaskRecord> {
        self.store.tasks(&self.pool).await.expect("the store can be read")
    }

    pub(super) async fn remove_task(&self, task_id: &str) -> bool {
        let removed = self.store.remove_task(&self.pool, &task(task_id)).await;
        removed.expect("the store can be written")
    }
}

/// A step that writes these changes and nothing else.
pub(super) fn changing(changes: Changes) -> Step {
    Step {
        reply: Reply::Done,
        events: Vec::new(),
        changes,
        wake: Vec::new(),
        again: false,
        next_deadline: None,
    }
}

pub(super) fn joins(waiters: impl IntoIterator<Item = Waiter>) -> Step {
    let waiters = waiters.into_iter().map(|waiter| (waiter.lease_id, Some(waiter))).collect();
    changing(Changes { waiters, ..Changes::default() })
}

pub(super) fn leaves(lease_id: LeaseId) -> Step {
    changing(Changes { waiters: BTreeMap::from([(lease_id, None)]), ..Changes::default() })
}

pub(super) fn puts(leases: impl IntoIterator<Item = Lease>) -> Step {
    let leases = leases.into_iter().map(|lease| (lease.lease_id, Some(lease))).collect();
    changing(Changes { leases, ..Changes::default() })
}

pub(super) fn keeps(ledger: Ledger) -> Step {
    changing(Changes { ledger: Some(ledger), ..Changes::default() })
}

/// A ledger in which `granted` leases were granted so far.
pub(super) fn ledger(granted: u64) -> Ledger {
    let mut ledger = Ledger {
        inventory: Some(Inventory::assumed()),
        last_token: Token::from_value((1 << 53) - 1),
        ..Ledger::default()
    };
    ledger.counters.granted = granted;
    ledger.settings.claim_time = Duration::from_millis(12_345);
    ledger
}

pub(super) fn id(number: u128) -> LeaseId {
    // Ids differ in their first digits, too.
    LeaseId::from_bits(number.reverse_bits() | number)
}

pub(super) fn task(name: &str) -> TaskName {
    name.parse().expect("a task's name")
}

pub(super) fn owner() -> Owner {
    let sight = Sight { boot_id: "boot".to_owned(), pid_namespace: 4_026_531_836 };
    let process = Process { pid: u32::MAX, start_time: 1 << 60 };
    Owner {
        host: "gpu1".to_owned(),
        client: "conformance".to_owned(),
        user: "Zoë \"Z\" O'Neil".to_owned(),
        process: Some(OwnProcess { sight, process }),
        run: Some(u64::MAX),
        is_remote: false,
    }
}

/// Wants any GPU, with normal priority, and was never seen.
pub(super) fn waiter(number: u128) -> Waiter {
    Waiter {
        lease_id: id(number),
        task: task("speech → text"),
        owner: owner(),
        wants: Wants::Any(1),
        priority: Priority::Normal,
        term: Term::Heartbeats(Duration::from_micros(30_000_001)),
        supervised: true,
        patience: Duration::from_secs(30),
        comes_back: true,
        channel: Some(gpulock_core::Channel("somewhere".to_owned())),
        arrived_at: Time::from_micros(1_706_458_500_000_001),
        seen_at: Time::from_micros(0),
        arrival: 0,
    }
}

pub(super) fn lease(number: u128, phase: Phase) -> Lease {
    Lease {
        lease_id: id(number),
        token: Token::from_value(number as u64),
        task: task("speech → text"),
        owner: owner(),
        group: None,
        gpus: vec![GpuIndex(number as u32)],
        priority: Priority::Urgent,
        term: Term::Fixed(Duration::from_secs(3_600)),
        supervised: false,
        acquired_at: Time::from_micros(1_706_458_500_000_001),
        phase,
        progress: None,
        channel: None,
        overdue: Some(Level::Soft),
    }
}

pub(super) fn held() -> Phase {
    Phase::Held {
        renewed_at: Time::from_micros(1_706_458_500_000_002),
        deadline: Time::from_micros(1_706_458_530_000_002),
    }
}

/// An event that can be told from others by its token.
pub(super) fn event(number: u64, name: &str) -> Event {
    let party =
        Party { lease_id: id(1), task: task(name), host: "gpu1".to_owned(), pid: Some(4_242) };
    let what = What::Claimed { token: Token::from_value(number) };
    Event { at: Time::from_micros(number), what, party: Some(party) }
}

/// The numbers of such events.
pub(super) fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.at.as_micros()).collect()
}

/// What entries tell of.
pub(super) fn events(entries: &[Entry]) -> Vec<Event> {
    entries.iter().map(|entry| entry.event.clone()).collect()
}

/// A sign of life of a task that is at work.
pub(super) fn beat(task_id: &str) -> TaskBeat {
    TaskBeat {
        task_id: task(task_id),
        status: TaskStatus::Running,
        progress: Some(Progress { basis_points: 4_567, message: "Ä \"b\"\n\\ 日本".to_owned() }),
        lease: Some(id(1)),
        host: "gpu1".to_owned(),
        pid: Some(u32::MAX),
        begins: false,
    }
}
