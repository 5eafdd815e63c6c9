//! The world of the search: a record, the owners with their processes, and the network.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use gpulock_core::invariants::broken_by_step;
use gpulock_core::{
    CancelReason, Changes, Command, Ending, Evidence, GpuIndex, GpuRef, Lease, LeaseId, LeaseRef,
    Ledger, OwnProcess, Owner, Phase, Pool, Priority, Process, ProcessGroup, Record, Renewal,
    Reply, Request, SeizeMode, Settings, Sight, Subject, Term, Time, Token, Wish,
};

use super::Setting;
use super::actor::{Actor, Stage};
use crate::rules::support::{asking, cards};

/// All spans are a few microseconds.
const TERM: Duration = Duration::from_micros(2);
const CLAIM_TIME: Duration = Duration::from_micros(1);
const PATIENCE: Duration = Duration::from_micros(2);
const PASS_BOUND: Duration = Duration::from_micros(1);

/// What one owner is going to do.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    wish: Wish,
    priority: Priority,
    supervised: bool,
    rounds: u8,
}

/// A fault that is put between the rules and the record, to see that the search finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// A lease that is over keeps no GPU, whoever still uses it.
    FreeAtExpiry,
    /// A release is for whatever lease has the id.
    TokenIgnored,
    /// An observer tells of groups before the lease was claimed.
    HastyObserver,
    /// An observer read the lease before it was claimed, and looked for no group.
    EarlyReader,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// An owner says something, and this becomes of it.
    Say(usize, Word, Fate),
    /// A late copy arrives.
    Late(usize),
    /// The clock moves. Whoever is not frozen stops its work before its deadline.
    Clock,
    /// Somebody who waits looks at the pool.
    Look,
    Crash(usize),
    Freeze(usize),
    Thaw(usize),
    /// The group of an owner ends, by itself or by force.
    GroupEnds(usize),
    /// Somebody tells what it sees of the processes of a lease, now or later.
    Observe(LeaseRef, Fate),
    Seize(LeaseRef),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Ask,
    Claim,
    Renew,
    Release,
    Cancel,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// It is carried out, and the reply is lost.
    Unanswered,
    /// It is carried out, and a copy arrives later.
    Repeated,
    /// It arrives later.
    Delayed,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct World {
    record: Record,
    /// What the record shows when nobody asks.
    shown: Pool,
    now: Time,
    pub(super) actors: Vec<Actor>,
    /// Commands on their way.
    late: Vec<Command>,
    /// No rule tells apart who has waited for longer than this.
    longest_wait: Duration,
    pub(super) broken: Option<&'static str>,
    ticks: u64,
    mishaps: u8,
    crashes: u8,
    freezes: u8,
    seizures: u8,
}

/// Two states are one if no rule and no owner can ever tell them apart: numbers of arrival
/// count only as an order, and spans only up to the longest that a rule asks about.
impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { actors, late, ticks, mishaps, crashes, freezes, seizures, .. } = self;
        self.broken.hash(state);
        (actors, late, ticks, mishaps, crashes, freezes, seizures).hash(state);
        self.shown.ledger.last_token.hash(state);
        for lease in &self.shown.leases {
            (lease.lease_id, lease.token, lease.group, &lease.gpus, &lease.phase).hash(state);
        }
        let tick = Duration::from_micros(1);
        for waiter in &self.shown.window {
            let unseen = self.now.since(waiter.seen_at).min(waiter.patience + tick);
            let waited = waiter.waited(self.now).min(self.longest_wait);
            (waiter.lease_id, unseen, waited).hash(state);
        }
    }
}

impl Plan {
    pub(super) fn normal() -> Self {
        Self { wish: Wish::Any(1), priority: Priority::Normal, supervised: false, rounds: 1 }
    }

    pub(super) fn any(self, count: u32) -> Self {
        Self { wish: Wish::Any(count), ..self }
    }

    pub(super) fn named(self, gpu: u32) -> Self {
        Self { wish: Wish::Named(vec![GpuRef::Index(GpuIndex(gpu))]), ..self }
    }

    pub(super) fn urgent(self) -> Self {
        Self { priority: Priority::Urgent, ..self }
    }

    pub(super) fn supervised(self) -> Self {
        Self { supervised: true, ..self }
    }

    pub(super) fn twice(self) -> Self {
        Self { rounds: 2, ..self }
    }
}

// --- what is the case --------------------------------------------------------------------

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let actor = |plan: &Plan| Actor {
            stage: Stage::Idle,
            alive: true,
            frozen: false,
            group_alive: false,
            rounds: plan.rounds,
        };
        let mut world = Self {
            record: Record::default(),
            shown: Pool::default(),
            now: Time::from_micros(1),
            actors: setting.plans.iter().map(actor).collect(),
            late: Vec::new(),
            // Where there is one card, nobody can be passed by a smaller request.
            longest_wait: match setting.gpus {
                1 => Duration::ZERO,
                _ => PASS_BOUND + Duration::from_micros(1),
            },
            broken: None,
            ticks: setting.ticks,
            mishaps: setting.mishaps,
            crashes: setting.crashes,
            freezes: setting.freezes,
            seizures: setting.seizures,
        };
        let settings = Settings {
            claim_time: CLAIM_TIME,
            pass_bound: PASS_BOUND,
            witness_patience: Duration::from_secs(1),
        };
        let inventory = cards(setting.gpus);
        world.carry_out(setting, Command::Configure { inventory, settings });
        // Far ahead of the clock, a token is a mere count.
        let last_token = Token::from_value(1_000);
        let ledger = Some(Ledger { last_token, ..world.shown.ledger.clone() });
        world.record.apply(&Changes { ledger, ..Changes::default() });
        world.shown = world.record.view(None, world.now);
        world
    }

    pub(super) fn leases(&self) -> &[Lease] {
        &self.shown.leases
    }

    fn is_over(&self, named: LeaseRef) -> bool {
        self.leases().iter().any(|lease| lease.reference() == named && lease.is_over())
    }

    /// No card has two users.
    pub(super) fn is_sane(&self, setting: &Setting) -> bool {
        (0..setting.gpus).all(|gpu| self.users(setting, GpuIndex(gpu)).count() <= 1)
    }

    pub(super) fn user_of(&self, setting: &Setting, gpu: GpuIndex) -> Option<usize> {
        self.users(setting, gpu).next()
    }

    fn users(&self, setting: &Setting, gpu: GpuIndex) -> impl Iterator<Item = usize> {
        let uses = move |actor: &Actor, plan: &Plan| {
            let Stage::Using { gpus, .. } = &actor.stage else {
                return false;
            };
            let works = if plan.supervised { actor.group_alive } else { actor.alive };
            works && gpus.contains(&gpu)
        };
        let all = self.actors.iter().zip(&setting.plans).enumerate();
        all.filter(move |(_, (actor, plan))| uses(actor, plan)).map(|(who, _)| who)
    }

    // --- what can happen ---------------------------------------------------------------

    pub(super) fn possible(&self, setting: &Setting, acts: &mut Vec<Act>) {
        for (who, actor) in self.actors.iter().enumerate() {
            if actor.group_alive && matches!(actor.stage, Stage::Using { .. }) {
                acts.push(Act::GroupEnds(who));
            }
            match (actor.alive, actor.frozen) {
                (false, _) => continue,
                (true, true) => acts.push(Act::Thaw(who)),
                (true, false) => self.words(who, setting, acts),
            }
            if self.crashes > 0 && actor.stage != Stage::Done {
                acts.push(Act::Crash(who));
            }
            let works = matches!(actor.stage, Stage::Using { .. } | Stage::Claiming(_));
            if self.freezes > 0 && works && !actor.frozen {
                acts.push(Act::Freeze(who));
            }
        }
        acts.extend((0..self.late.len()).map(Act::Late));
        if self.ticks > 0 {
            acts.push(Act::Clock);
        }
        acts.push(Act::Look);
        for lease in self.leases() {
            let holder_died = !self.actors[owner_of(lease)].alive;
            if lease.is_over() || holder_died || setting.fault == Fault::HastyObserver {
                acts.push(Act::Observe(lease.reference(), Fate::Answered));
                if self.mishaps > 0 {
                    acts.push(Act::Observe(lease.reference(), Fate::Delayed));
                }
            }
            if self.seizures > 0 && !lease.is_over() {
                acts.push(Act::Seize(lease.reference()));
            }
        }
    }

    fn words(&self, who: usize, setting: &Setting, acts: &mut Vec<Act>) {
        let group_is_gone = !setting.plans[who].supervised || !self.actors[who].group_alive;
        let words: &[Word] = match self.actors[who].stage {
            Stage::Idle => &[Word::Ask],
            Stage::Asking => &[Word::Ask, Word::Cancel],
            Stage::Claiming(_) => &[Word::Claim],
            Stage::Using { .. } if group_is_gone => &[Word::Renew, Word::Release],
            Stage::Using { .. } => &[Word::Renew],
            Stage::Stopping(_) => &[Word::Release],
            Stage::Robbed | Stage::Done => &[],
        };
        for word in words {
            acts.push(Act::Say(who, *word, Fate::Answered));
            if self.mishaps > 0 {
                let fates = [Fate::Unanswered, Fate::Repeated, Fate::Delayed];
                acts.extend(fates.map(|fate| Act::Say(who, *word, fate)));
            }
        }
    }

    // --- what happens ------------------------------------------------------------------

    pub(super) fn take_place(&mut self, setting: &Setting, act: Act) {
        match act {
            Act::Say(who, word, fate) => self.say(setting, who, word, fate),
            Act::Late(index) => {
                let command = self.late.remove(index);
                self.carry_out(setting, command);
            }
            Act::Clock => {
                self.ticks -= 1;
                self.now = self.now + Duration::from_micros(1);
                let now = self.now;
                self.actors.iter_mut().for_each(|actor| actor.stop_in_time(now));
            }
            Act::Look => {
                self.carry_out(setting, Command::Tick { sight: Some(host()) });
            }
            Act::Crash(who) => {
                self.crashes -= 1;
                self.actors[who].crash();
            }
            Act::Freeze(who) => {
                self.freezes -= 1;
                self.actors[who].frozen = true;
            }
            Act::Thaw(who) => self.actors[who].frozen = false,
            Act::GroupEnds(who) => self.actors[who].lose_group(),
            Act::Observe(lease, fate) => {
                let actor = &self.actors[owner_of_id(lease.lease_id)];
                let holder_alive = actor.alive;
                let knows_group = setting.fault != Fault::EarlyReader || self.is_over(lease);
                let group_alive = actor.group_alive && knows_group;
                let subject = Subject::Lease(lease);
                let known =
                    self.leases().iter().find(|l| l.reference() == lease).and_then(|l| l.group);
                let group = known.filter(|_| knows_group);
                let seen = Command::Observe(Evidence { subject, holder_alive, group, group_alive });
                self.send(setting, seen, fate);
            }
            Act::Seize(lease) => {
                self.seizures -= 1;
                let (by, reason, mode) = (String::new(), String::new(), SeizeMode::Drain);
                self.carry_out(setting, Command::Seize { lease, by, reason, mode });
            }
        }
    }

    fn say(&mut self, setting: &Setting, who: usize, word: Word, fate: Fate) {
        let plan = &setting.plans[who];
        let actor = &mut self.actors[who];
        actor.prepare(word);
        let lease_id = LeaseId::from_bits(who as u128);
        let command = match (word, &actor.stage) {
            (Word::Ask, _) => Command::Acquire(request(who, plan)),
            (Word::Cancel, _) => {
                Command::Cancel { lease_id, run: None, reason: CancelReason::GaveUp, polls: 0 }
            }
            (_, stage) => {
                let lease = LeaseRef { lease_id, token: stage.token() };
                match word {
                    Word::Claim => Command::Claim { lease, group: group(who) },
                    Word::Renew => Command::Renew(vec![Renewal { lease, progress: None }]),
                    _ => Command::Release(lease),
                }
            }
        };
        let reply = self.send(setting, command, fate);
        let actor = &mut self.actors[who];
        match reply {
            Some(reply) => actor.hear(word, reply, plan.supervised),
            None if word == Word::Cancel => actor.end_round(),
            None => {}
        }
    }

    /// Sends a command. The reply comes back if the fate is kind.
    fn send(&mut self, setting: &Setting, command: Command, fate: Fate) -> Option<Reply> {
        if fate != Fate::Answered {
            self.mishaps -= 1;
        }
        if matches!(fate, Fate::Repeated | Fate::Delayed) {
            self.late.push(command.clone());
        }
        match fate {
            Fate::Delayed => None,
            Fate::Unanswered => {
                self.carry_out(setting, command);
                None
            }
            Fate::Answered | Fate::Repeated => Some(self.carry_out(setting, command)),
        }
    }

    /// What a driver does with a command, and a fault makes of it.
    fn carry_out(&mut self, setting: &Setting, command: Command) -> Reply {
        let command = self.spoiled(setting.fault, command);
        let mut reply = None;
        let mut next = Some(command);
        while let Some(command) = next.take() {
            let before = self.record.view(asking(&command), self.now);
            let mut after = before.clone();
            let mut step = after.step(self.now, command).expect("a command that makes sense");
            // Debug builds have asked inside the step already.
            if !cfg!(debug_assertions) && broken_by_step(&before, &after, self.now, &step).is_some()
            {
                self.broken = Some("invariant");
            }
            let spoiled =
                setting.fault == Fault::FreeAtExpiry && free_what_drains(&mut step.changes);
            without_history(&mut step.changes);
            self.record.apply(&step.changes);
            reply = reply.or(Some(step.reply));
            next = (step.again || spoiled).then(|| Command::Tick { sight: Some(host()) });
        }
        self.shown = self.record.view(None, self.now);
        reply.expect("at least one step")
    }

    fn spoiled(&self, fault: Fault, command: Command) -> Command {
        match command {
            Command::Release(named) if fault == Fault::TokenIgnored => {
                let meant = self.leases().iter().find(|l| l.lease_id == named.lease_id);
                Command::Release(meant.map_or(named, |lease| lease.reference()))
            }
            command => command,
        }
    }
}

// --- who is who --------------------------------------------------------------------------

fn request(who: usize, plan: &Plan) -> Request {
    Request {
        lease_id: LeaseId::from_bits(who as u128),
        task: "t".parse().expect("a task name"),
        owner: Owner {
            host: String::new(),
            client: String::new(),
            user: String::new(),
            process: Some(OwnProcess { sight: host(), process: process(who) }),
            run: None,
            is_remote: false,
        },
        wish: plan.wish.clone(),
        priority: plan.priority,
        term: Term::Heartbeats(TERM),
        supervised: plan.supervised,
        patience: Some(PATIENCE),
        comes_back: false,
        channel: None,
        polls: 0,
        inside: Vec::new(),
    }
}

fn host() -> Sight {
    Sight { boot_id: String::new(), pid_namespace: 0 }
}

fn process(who: usize) -> Process {
    Process { pid: who as u32, start_time: 0 }
}

fn group(who: usize) -> ProcessGroup {
    ProcessGroup { leader: process(100 + who), session: 0 }
}

fn owner_of_id(lease_id: LeaseId) -> usize {
    usize::from_str_radix(&lease_id.to_string(), 16).expect("an id made of an index")
}

fn owner_of(lease: &Lease) -> usize {
    owner_of_id(lease.lease_id)
}

// --- what a store does with changes ------------------------------------------------------

/// Takes out what is only of interest to people, so that states which differ in nothing else
/// are one.
fn without_history(changes: &mut Changes) {
    if let Some(ledger) = &mut changes.ledger {
        ledger.counters = Default::default();
    }
    let long_ago = Time::default();
    for lease in changes.leases.values_mut().flatten() {
        lease.acquired_at = long_ago;
        match &mut lease.phase {
            Phase::Granted { .. } => {}
            Phase::Held { renewed_at, .. } | Phase::Stopping { renewed_at, .. } => {
                *renewed_at = long_ago;
            }
            // With one sight it does not matter when somebody last looked.
            Phase::Draining { ended_at, how, seen_alive_at, .. } => {
                (*ended_at, *seen_alive_at, *how) = (long_ago, long_ago, Ending::Released);
            }
        }
    }
}

/// The fault: a lease that is over is gone. Tells whether it struck.
fn free_what_drains(changes: &mut Changes) -> bool {
    let drains = |lease: &&mut Option<Lease>| lease.as_ref().is_some_and(Lease::is_over);
    changes.leases.values_mut().filter(drains).map(|lease| *lease = None).count() > 0
}
