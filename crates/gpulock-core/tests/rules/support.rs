//! A desk at which commands are handed in: a record, a clock that the test sets, and the loop
//! that every real driver runs. Whatever a test does at a desk, the invariants are checked.

use std::time::Duration;

use gpulock_core::invariants::broken_by_step;
use gpulock_core::{
    CancelReason, Changes, Channel, Command, Evidence, Gpu, GpuIndex, GpuRef, Inventory,
    InventorySource, Lease, LeaseId, LeaseRef, Levels, OwnProcess, Owner, Phase, Pool, Priority,
    Process, ProcessGroup, Record, Refusal, Renewal, Renewed, Reply, Request, SeizeMode, Settings,
    Sight, Step, Subject, Term, Time, Token, Waiter, Watch, Why, Wish,
};

/// The moment at which every story begins.
pub(super) const START: Time = Time::from_micros(1_700_000_000_000_000);

/// A record, a clock, and somebody who looks at processes from the host `alpha`.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) record: Record,
    pub(super) now: Time,
}

impl Desk {
    /// A pool with the cards `0..gpus` and the default spans.
    pub(super) fn with_gpus(gpus: u32) -> Self {
        let mut desk = Self { record: Record::default(), now: START };
        desk.configure(gpus);
        desk
    }

    /// Lets time pass. Nothing happens by itself: somebody has to come by.
    pub(super) fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Hands in a command as a real driver does: view, step, apply, and tick again for as
    /// long as there is more to hand out. What the ticks led to is added to the step.
    pub(super) fn run(&mut self, command: Command) -> Result<Step, Refusal> {
        let mut first = self.run_once(command)?;
        let mut ticks = 0..=self.record.waiters(usize::MAX).len();
        let mut again = first.again;
        while again {
            assert!(ticks.next().is_some(), "the pool asks for ever more ticks");
            let more = self.run_once(Command::Tick { sight: alpha() })?;
            first.events.extend(more.events);
            first.wake.extend(more.wake);
            again = more.again;
        }
        Ok(first)
    }

    fn run_once(&mut self, command: Command) -> Result<Step, Refusal> {
        let before = self.record.view(asking(&command), self.now);
        let mut after = before.clone();
        let told = format!("{command:?}");
        let result = after.step(self.now, command);
        let Ok(step) = &result else {
            assert_eq!(after, before, "refused, and yet something changed: {told}");
            return result;
        };
        let broken = broken_by_step(&before, &after, self.now, step);
        assert_eq!(broken, None, "at {} by {told}: {step:#?}", self.now);
        self.record.apply(&step.changes);
        self.assert_written(&after, &told);
        result
    }

    /// What a step made of its view is what it told the store to write.
    fn assert_written(&mut self, stepped: &Pool, told: &str) {
        let written = self.record.view(None, self.now);
        let mut leases = stepped.leases.clone();
        leases.sort_by_key(|lease| lease.lease_id);
        assert_eq!(written.leases, leases, "the leases that were written, by {told}");
        assert_eq!(written.ledger, stepped.ledger, "the ledger that was written, by {told}");
        assert_eq!(written.queue_len, stepped.queue_len, "the queue that was written, by {told}");
    }

    /// Hands in a command that makes sense.
    pub(super) fn step(&mut self, command: Command) -> Step {
        self.run(command).expect("a command that makes sense")
    }

    pub(super) fn ask(&mut self, request: &Request) -> Reply {
        self.step(Command::Acquire(request.clone())).reply
    }

    /// Asks, and expects a lease at once.
    pub(super) fn take(&mut self, request: &Request) -> Lease {
        match self.ask(request) {
            Reply::Granted(lease) => lease,
            reply => panic!("{} was not lent to: {reply:?}", request.task),
        }
    }

    /// Asks, and expects a place in the queue.
    pub(super) fn queue(&mut self, request: &Request) {
        assert_eq!(self.ask(request), Reply::Waiting, "{}", request.task);
    }

    /// Asks for what cannot be.
    pub(super) fn refused(&mut self, request: &Request) -> Refusal {
        self.run(Command::Acquire(request.clone())).expect_err("a request that makes no sense")
    }

    pub(super) fn claim(&mut self, lease: &Lease) -> Reply {
        let group = group_of(lease.lease_id);
        self.step(Command::Claim { lease: lease.reference(), group }).reply
    }

    pub(super) fn release(&mut self, lease: &Lease) -> Step {
        self.step(Command::Release(lease.reference()))
    }

    pub(super) fn renew(&mut self, lease: &Lease) -> Renewed {
        let renewal = Renewal { lease: lease.reference(), progress: None };
        match self.step(Command::Renew(vec![renewal])).reply {
            Reply::Renewed(mut answers) if answers.len() == 1 => answers.remove(0),
            reply => panic!("one heartbeat, and this answer: {reply:?}"),
        }
    }

    pub(super) fn cancel(&mut self, request: &Request) -> Step {
        let reason = CancelReason::GaveUp;
        let (lease_id, run) = (request.lease_id, request.owner.run);
        self.step(Command::Cancel { lease_id, run, reason, polls: 0 })
    }

    pub(super) fn ask_to_stop(&mut self, lease: &Lease) -> Step {
        let reason = "soft timeout".to_owned();
        self.step(Command::AskToStop { lease: lease.reference(), reason })
    }

    pub(super) fn seize(&mut self, lease: &Lease, mode: SeizeMode) -> Step {
        let (by, reason) = ("operator".to_owned(), "hard timeout".to_owned());
        self.step(Command::Seize { lease: lease.reference(), by, reason, mode })
    }

    /// Tells what the kernel says about the processes of a lease.
    pub(super) fn see(&mut self, lease: &Lease, seen: Seen) -> Step {
        let (holder_alive, group_alive) = match seen {
            Seen::AllAlive => (true, true),
            Seen::HolderAlone => (true, false),
            Seen::GroupAlone => (false, true),
            Seen::Nothing => (false, false),
        };
        let subject = Subject::Lease(lease.reference());
        let group = self.view().lease(lease.lease_id).and_then(|lease| lease.group);
        self.step(Command::Observe(Evidence { subject, holder_alive, group, group_alive }))
    }

    /// Somebody on `alpha` comes by.
    pub(super) fn tick(&mut self) -> Step {
        self.step(Command::Tick { sight: alpha() })
    }

    /// Somebody comes by who looks from `sight`.
    pub(super) fn tick_from(&mut self, sight: Option<Sight>) -> Step {
        self.step(Command::Tick { sight })
    }

    /// The pool now has the cards `0..gpus`.
    pub(super) fn configure(&mut self, gpus: u32) -> Step {
        let (inventory, settings) = (cards(gpus), Settings::default());
        self.step(Command::Configure { inventory, settings })
    }

    /// Everything that the rules look at, when nobody asks.
    pub(super) fn view(&self) -> Pool {
        self.record.clone().view(None, self.now)
    }

    /// The whole queue, first one first.
    pub(super) fn waiting(&self) -> Vec<Waiter> {
        self.record.waiters(usize::MAX)
    }

    /// The lease with the id of this request, if it keeps a GPU.
    pub(super) fn lease(&self, request: &Request) -> Option<Lease> {
        self.view().lease(request.lease_id).cloned()
    }

    /// The GPUs lent under this request, drained ones included.
    pub(super) fn gpus(&self, request: &Request) -> Vec<u32> {
        let lease = self.lease(request);
        lease.into_iter().flat_map(|lease| lease.gpus).map(|gpu| gpu.0).collect()
    }

    pub(super) fn holds(&self, request: &Request) -> bool {
        self.lease(request).is_some_and(|lease| !lease.is_over())
    }

    pub(super) fn drains(&self, request: &Request) -> bool {
        self.lease(request).is_some_and(|lease| matches!(lease.phase, Phase::Draining { .. }))
    }

    pub(super) fn free(&self) -> Vec<u32> {
        self.view().free_gpus().into_iter().map(|gpu| gpu.0).collect()
    }

    pub(super) fn violations(&self) -> u64 {
        self.view().ledger.counters.ownership_violations
    }
}

/// What the kernel says about the processes of a lease.
#[derive(Clone, Copy)]
pub(super) enum Seen {
    AllAlive,
    /// The owner's process lives, its group is gone or was never there.
    HolderAlone,
    /// The owner's process is gone, its group lives.
    GroupAlone,
    Nothing,
}

/// Whom a store stamps as seen, and fetches from behind the window, for a command.
pub(super) fn asking(command: &Command) -> Option<LeaseId> {
    match command {
        Command::Acquire(request) => Some(request.lease_id),
        Command::Cancel { lease_id, .. } => Some(*lease_id),
        Command::Observe(Evidence { subject: Subject::Waiter(lease_id), .. }) => Some(*lease_id),
        _ => None,
    }
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The host that most stories happen on.
pub(super) fn alpha() -> Option<Sight> {
    Some(sight("alpha"))
}

/// Another host: what happens on `alpha` cannot be seen from there.
pub(super) fn beta() -> Option<Sight> {
    Some(sight("beta"))
}

fn sight(host: &str) -> Sight {
    Sight { boot_id: format!("boot-of-{host}"), pid_namespace: 4_026_531_836 }
}

/// A process with this number on `alpha` or `beta`, or a caller that nobody can look at.
pub(super) fn owner(pid: u32, sight: Option<Sight>) -> Owner {
    let process = Process { pid, start_time: 7_000 + u64::from(pid) };
    Owner {
        host: "gpu1".to_owned(),
        client: "test 1".to_owned(),
        user: "anna".to_owned(),
        process: sight.map(|sight| OwnProcess { sight, process }),
        run: None,
        is_remote: false,
    }
}

/// The process group that does the work of this lease, if it is supervised.
pub(super) fn group_of(lease_id: LeaseId) -> ProcessGroup {
    let pid = lease_id.to_string().chars().filter(|c| *c != '0').count() as u32 + 40_000;
    ProcessGroup { leader: Process { pid, start_time: 9_000 }, session: 300 }
}

/// The cards `0..count`; card 1 also has a UUID.
pub(super) fn cards(count: u32) -> Inventory {
    let card = |index| Gpu {
        index: GpuIndex(index),
        uuid: (index == 1).then(|| "GPU-1111".to_owned()),
        model: None,
    };
    Inventory { source: InventorySource::Driver, gpus: (0..count).map(card).collect() }
}

/// Work number `id` asks: any one GPU, for 30 s after each heartbeat, from a process of its
/// own on `alpha`, and ready to go unseen for 30 s.
pub(super) fn work(id: u32) -> Request {
    Request {
        lease_id: LeaseId::from_bits(u128::from(id)),
        task: format!("work {id}").parse().expect("a task name"),
        owner: owner(1_000 + id, alpha()),
        wish: Wish::Any(1),
        priority: Priority::Normal,
        term: Term::Heartbeats(secs(30)),
        supervised: false,
        patience: Some(secs(30)),
        comes_back: false,
        channel: Some(Channel(format!("work {id}"))),
        polls: 0,
        inside: Vec::new(),
    }
}

/// Short levels, so that ordinary leases reach them.
pub(super) fn watch() -> Watch {
    Watch {
        levels: Levels { warning: secs(20), soft: secs(40), hard: secs(60) },
        recovers: true,
        retries: 2,
        retry_delay: secs(10),
        by: "monitor".to_owned(),
    }
}

/// Ways in which a request differs from [`work`].
pub(super) trait Asks: Sized {
    fn any(self, count: u32) -> Self;
    fn on(self, gpus: &[u32]) -> Self;
    fn urgency(self, priority: Priority) -> Self;
    fn supervised(self) -> Self;
    fn fixed(self, seconds: u64) -> Self;
    fn patient(self, seconds: u64) -> Self;
    fn without_waiting(self) -> Self;
    fn seen_from(self, sight: Option<Sight>) -> Self;
    fn inside(self, leases: &[&Request]) -> Self;
    fn run(self, run: u64) -> Self;
    fn coming_back(self) -> Self;
}

impl Asks for Request {
    fn any(self, count: u32) -> Self {
        Self { wish: Wish::Any(count), ..self }
    }

    fn on(self, gpus: &[u32]) -> Self {
        let named = gpus.iter().map(|gpu| GpuRef::Index(GpuIndex(*gpu))).collect();
        Self { wish: Wish::Named(named), ..self }
    }

    fn urgency(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    fn supervised(self) -> Self {
        Self { supervised: true, ..self }
    }

    fn fixed(self, seconds: u64) -> Self {
        Self { term: Term::Fixed(secs(seconds)), ..self }
    }

    fn patient(self, seconds: u64) -> Self {
        Self { patience: Some(secs(seconds)), ..self }
    }

    fn without_waiting(self) -> Self {
        Self { patience: None, ..self }
    }

    fn run(self, run: u64) -> Self {
        let owner = Owner { run: Some(run), ..owner(2_000 + run as u32, alpha()) };
        Self { owner, ..self }
    }

    fn coming_back(self) -> Self {
        Self { comes_back: true, ..self }
    }

    fn seen_from(self, sight: Option<Sight>) -> Self {
        let pid = self.owner.process.as_ref().map_or(1, |own| own.process.pid);
        Self { owner: owner(pid, sight), ..self }
    }

    fn inside(self, leases: &[&Request]) -> Self {
        Self { inside: leases.iter().map(|request| request.lease_id).collect(), ..self }
    }
}

/// The lease that `lease` names, with the token of an earlier grant.
pub(super) fn stale(lease: LeaseRef) -> LeaseRef {
    LeaseRef { token: Token::from_value(lease.token.value() - 1), ..lease }
}

/// Which requests a step woke, and why.
pub(super) fn woken(step: &Step, why: Why) -> Vec<LeaseId> {
    step.wake.iter().filter(|wake| wake.why == why).map(|wake| wake.lease_id).collect()
}

/// A step that did nothing, for asking the invariants about a state instead of a step.
pub(super) fn nothing_done() -> Step {
    Step {
        reply: Reply::Done,
        events: Vec::new(),
        changes: Changes::default(),
        wake: Vec::new(),
        again: false,
        next_deadline: None,
    }
}
