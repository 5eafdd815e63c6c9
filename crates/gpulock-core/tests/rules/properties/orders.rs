//! Abstract orders, and the script that turns them into commands.

use std::collections::{BTreeMap, BTreeSet};

use gpulock_core::{
    CancelReason, Cause, Command, Ending, Evidence, LeaseId, LeaseRef, Level, Levels, Priority,
    Progress, Renewal, Reply, Request, SeizeMode, Settings, Sight, Step, Subject, Watch, What,
};
use proptest::prelude::*;

use crate::rules::support::*;

/// One of the clients of a script.
type Who = u32;

/// Something that a client, an observer or time does.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Ask {
        who: Who,
        wish: Wish,
        priority: Priority,
        manner: Manner,
    },
    Queue {
        who: Who,
    },
    Claim {
        who: Who,
        token: Naming,
    },
    Renew {
        who: Who,
        also: Who,
        token: Naming,
    },
    Release {
        who: Who,
        token: Naming,
    },
    Retire {
        who: Who,
        token: Naming,
    },
    Cancel {
        who: Who,
        reason: CancelReason,
    },
    AskToStop {
        who: Who,
        token: Naming,
    },
    Seize {
        who: Who,
        mode: SeizeMode,
        token: Naming,
    },
    SeeLease {
        who: Who,
        holder_alive: bool,
        group_alive: bool,
    },
    SeeWaiter {
        who: Who,
        alive: bool,
    },
    Tick {
        from: Who,
    },
    Patrol {
        from: Who,
        recovers: bool,
    },
    Configure {
        gpus: u32,
    },
    /// The store comes back as one of a few servers.
    Resume {
        server: u32,
        closed_for: u64,
    },
    /// A command of the past comes once more.
    Late {
        back: usize,
    },
    Pass {
        millis: u64,
    },
}

/// What a client asks for, some of it impossible in a small pool.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Any(u32),
    Named(Vec<u32>),
}

/// How a client asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    supervised: bool,
    fixed: bool,
    waits: bool,
    comes_back: bool,
    /// Asks as another run of the same task than before.
    redelivered: bool,
    inside_another: bool,
}

/// Which token a client names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Naming {
    Right,
    Stale,
}

const CLIENTS: Who = 9;

/// A random sequence of orders.
pub(super) fn orders() -> impl Strategy<Value = Vec<Order>> {
    prop::collection::vec(order(), 1..80)
}

fn order() -> impl Strategy<Value = Order> {
    let who = || 0..CLIENTS;
    let token = || prop_oneof![9 => Just(Naming::Right), 1 => Just(Naming::Stale)];
    let mode = prop_oneof![Just(SeizeMode::Drain), Just(SeizeMode::IgnoreProcesses)];
    let reason = prop_oneof![Just(CancelReason::TimedOut), Just(CancelReason::GaveUp)];
    prop_oneof![
        10 => (who(), wish(), priority(), manner()).prop_map(|(who, wish, priority, manner)| {
            Order::Ask { who, wish, priority, manner }
        }),
        2 => who().prop_map(|who| Order::Queue { who }),
        4 => (who(), token()).prop_map(|(who, token)| Order::Claim { who, token }),
        4 => (who(), who(), token()).prop_map(|(who, also, token)| Order::Renew { who, also, token }),
        5 => (who(), token()).prop_map(|(who, token)| Order::Release { who, token }),
        1 => (who(), token()).prop_map(|(who, token)| Order::Retire { who, token }),
        1 => (who(), reason).prop_map(|(who, reason)| Order::Cancel { who, reason }),
        1 => (who(), token()).prop_map(|(who, token)| Order::AskToStop { who, token }),
        1 => (who(), mode, token()).prop_map(|(who, mode, token)| Order::Seize { who, mode, token }),
        3 => (who(), any::<bool>(), any::<bool>()).prop_map(|(who, holder_alive, group_alive)| {
            Order::SeeLease { who, holder_alive, group_alive }
        }),
        1 => (who(), any::<bool>()).prop_map(|(who, alive)| Order::SeeWaiter { who, alive }),
        2 => who().prop_map(|from| Order::Tick { from }),
        2 => (who(), any::<bool>()).prop_map(|(from, recovers)| Order::Patrol { from, recovers }),
        1 => (1u32..=4).prop_map(|gpus| Order::Configure { gpus }),
        1 => (0u32..3, 0u64..40_000).prop_map(|(server, closed_for)| {
            Order::Resume { server, closed_for }
        }),
        3 => (0usize..30).prop_map(|back| Order::Late { back }),
        6 => passing().prop_map(|millis| Order::Pass { millis }),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        3 => (1u32..=3).prop_map(Wish::Any),
        2 => prop::collection::vec(0u32..4, 1..3).prop_map(Wish::Named),
    ]
}

fn priority() -> impl Strategy<Value = Priority> {
    use Priority::{High, Low, Normal, Urgent};
    prop_oneof![1 => Just(Low), 4 => Just(Normal), 1 => Just(High), 1 => Just(Urgent)]
}

fn manner() -> impl Strategy<Value = Manner> {
    let rarely = || prop::bool::weighted(0.15);
    (any::<bool>(), rarely(), rarely(), rarely(), rarely(), rarely()).prop_map(
        |(supervised, fixed, no_wait, inside_another, comes_back, redelivered)| Manner {
            supervised: supervised && !comes_back,
            fixed,
            waits: !no_wait || comes_back,
            comes_back,
            redelivered,
            inside_another,
        },
    )
}

/// Often less than any span of the rules, sometimes exactly one of them, sometimes more.
fn passing() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1u64..3_000, 2 => Just(10_000), 2 => Just(30_000), 1 => 30_000u64..90_000]
}

/// A script that is being played at a desk.
pub(super) struct Script {
    pub(super) desk: Desk,
    /// What happened at least once.
    pub(super) reached: BTreeSet<&'static str>,
    played: Vec<Command>,
    requests: BTreeMap<LeaseId, Request>,
    tokens: BTreeMap<LeaseId, LeaseRef>,
}

impl Script {
    pub(super) fn new(gpus: u32) -> Self {
        Self {
            desk: Desk::with_gpus(gpus),
            reached: BTreeSet::new(),
            played: Vec::new(),
            requests: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    /// How many cards the pool has.
    pub(super) fn inventory_size(&self) -> usize {
        self.desk.view().ledger.inventory.map_or(0, |inventory| inventory.gpus.len())
    }

    /// What was last asked for under this id.
    pub(super) fn asked(&self, lease_id: LeaseId) -> Request {
        self.requests[&lease_id].clone()
    }

    /// Carries an order out, and tells which command it was.
    pub(super) fn play(&mut self, order: &Order) -> Option<Command> {
        if let Order::Pass { millis } = order {
            self.desk.pass(std::time::Duration::from_millis(*millis));
            return None;
        }
        let command = self.command(order)?;
        match self.desk.run(command.clone()) {
            Ok(step) => self.note(&step),
            Err(_) => {
                self.reached.insert("refused");
            }
        }
        self.played.push(command.clone());
        Some(command)
    }

    /// The command that an order means now; `None` if it names what never was.
    pub(super) fn command(&mut self, order: &Order) -> Option<Command> {
        for lease in self.desk.view().leases {
            self.tokens.insert(lease.lease_id, lease.reference());
        }
        match order {
            Order::Ask { who, wish, priority, manner } => {
                let request = request_of(*who, wish, *priority, *manner);
                let lease_id = request.lease_id;
                // Whoever asks again asks for the same.
                if self.desk.record.ahead_of(lease_id).is_none() {
                    self.requests.insert(lease_id, request);
                }
                let mut request = self.asked(lease_id);
                if manner.redelivered {
                    request.owner.run = Some(2);
                }
                Some(Command::Acquire(request))
            }
            // Who asks for the first time may find others in the way, and then queues.
            Order::Queue { who } => {
                let request = self.requests.get(&id_of(*who))?.clone();
                let is_new = !self.desk.record.is_leased(request.lease_id)
                    && self.desk.record.ahead_of(request.lease_id).is_none();
                (request.patience.is_some() && is_new).then_some(Command::Queue(request))
            }
            Order::Cancel { who, reason } => {
                let lease_id = id_of(*who);
                Some(Command::Cancel { lease_id, run: Some(1), reason: *reason, polls: 2 })
            }
            Order::SeeWaiter { who, alive } => {
                Some(evidence(Subject::Waiter(id_of(*who)), *alive, false))
            }
            Order::Patrol { from, recovers } => {
                // Clients do not often renew.
                let levels = Levels { warning: secs(2), soft: secs(5), hard: secs(10) };
                let watch = Watch { recovers: *recovers, levels, ..watch() };
                Some(Command::Patrol { watch, sight: sight_of(*from) })
            }
            Order::Tick { from } => Some(Command::Tick { sight: sight_of(*from) }),
            Order::Configure { gpus } => {
                let (inventory, settings) = (cards(*gpus), Settings::default());
                Some(Command::Configure { inventory, settings })
            }
            Order::Resume { server, closed_for } => {
                let closed_for = std::time::Duration::from_millis(*closed_for);
                let closed_until = self.desk.now + closed_for;
                Some(Command::Resume { incarnation: server.to_string(), closed_until })
            }
            Order::Late { back } => {
                let index = self.played.len().checked_sub(back + 1)?;
                Some(self.played[index].clone())
            }
            Order::Pass { .. } => None,
            about_a_lease => self.command_about_a_lease(about_a_lease),
        }
    }

    fn command_about_a_lease(&self, order: &Order) -> Option<Command> {
        let because = || "because".to_owned();
        match order {
            Order::Claim { who, token } => {
                let lease = self.named(*who, *token)?;
                let group = group_of(lease.lease_id);
                Some(Command::Claim { lease, group })
            }
            Order::Renew { who, also, token } => {
                let progress = Some(Progress { basis_points: 4_500, message: because() });
                let first = Renewal { lease: self.named(*who, *token)?, progress };
                let second = self.named(*also, Naming::Right);
                let second = second.map(|lease| Renewal { lease, progress: None });
                Some(Command::Renew(std::iter::once(first).chain(second).collect()))
            }
            Order::Release { who, token } => Some(Command::Release(self.named(*who, *token)?)),
            Order::Retire { who, token } => Some(Command::Retire(self.named(*who, *token)?)),
            Order::AskToStop { who, token } => {
                let lease = self.named(*who, *token)?;
                Some(Command::AskToStop { lease, reason: because() })
            }
            Order::Seize { who, mode, token } => {
                let lease = self.named(*who, *token)?;
                let (by, reason, mode) = (because(), because(), *mode);
                Some(Command::Seize { lease, by, reason, mode })
            }
            Order::SeeLease { who, holder_alive, group_alive } => {
                let subject = Subject::Lease(self.named(*who, Naming::Right)?);
                Some(match evidence(subject, *holder_alive, *group_alive) {
                    Command::Observe(seen) => {
                        let group = self.desk.view().lease(id_of(*who)).and_then(|l| l.group);
                        Command::Observe(Evidence { group, ..seen })
                    }
                    other => other,
                })
            }
            _ => None,
        }
    }

    /// The lease that a client has or had.
    fn named(&self, who: Who, token: Naming) -> Option<LeaseRef> {
        let lease = *self.tokens.get(&id_of(who))?;
        Some(match token {
            Naming::Right => lease,
            Naming::Stale => stale(lease),
        })
    }

    fn note(&mut self, step: &Step) {
        self.reached.extend(match &step.reply {
            Reply::Busy => Some("busy"),
            Reply::Duplicate => Some("duplicate"),
            Reply::Lost => Some("lost"),
            Reply::Renewed(answers) if answers.iter().any(|a| a.held.is_some()) => Some("renewed"),
            _ => None,
        });
        self.reached.extend(step.events.iter().map(|event| match &event.what {
            What::Queued { .. } => "queued",
            What::Granted { waited_micros: 0, .. } => "granted at once",
            What::Granted { waited_micros, .. } if *waited_micros > 60_000_000 => {
                "waited for bound"
            }
            What::Granted { .. } => "granted later",
            What::Claimed { .. } => "claimed",
            What::StopRequested { .. } => "asked to stop",
            What::Overdue { level: Level::Hard, .. } => "hard timeout",
            What::Overdue { .. } => "overdue",
            What::StillDraining { .. } => "still draining",
            What::Ended { draining: true, .. } => "draining",
            What::Ended { how: Ending::Released, .. } => "released",
            What::Ended { how: Ending::Seized { .. }, .. } => "seized",
            What::Ended { how: Ending::Expired(Cause::Deadline), .. } => "expired",
            What::Ended { how: Ending::Expired(Cause::HolderDied), .. } => "holder died",
            What::Ended { how: Ending::Expired(Cause::NotClaimed), .. } => "not claimed",
            What::Drained { .. } => "drained",
            What::Cancelled { .. } => "cancelled",
            What::Dropped { .. } => "dropped",
            What::Configured { .. } => "configured",
            What::Resumed { .. } => "resumed",
            What::Incident { .. } => "incident",
            What::Raised { .. } => "raised",
        }));
    }
}

fn evidence(subject: Subject, holder_alive: bool, group_alive: bool) -> Command {
    let group = None;
    Command::Observe(Evidence { subject, holder_alive, group, group_alive })
}

/// A third of the clients live on `alpha`, a third on `beta`, and a third nobody can look at.
fn sight_of(who: Who) -> Option<Sight> {
    match who % 3 {
        0 => alpha(),
        1 => beta(),
        _ => None,
    }
}

fn id_of(who: Who) -> LeaseId {
    work(who).lease_id
}

/// What client `who` asks for in this manner.
fn request_of(who: Who, wish: &Wish, priority: Priority, manner: Manner) -> Request {
    let request = work(who).seen_from(sight_of(who)).urgency(priority).patient(70);
    let mut request = match wish {
        Wish::Any(count) => request.any(*count),
        Wish::Named(gpus) => request.on(gpus),
    };
    request.supervised = manner.supervised;
    request.comes_back = manner.comes_back;
    request.owner.run = Some(1);
    if manner.fixed {
        request = request.fixed(40);
    }
    if !manner.waits {
        request = request.without_waiting();
    }
    if manner.inside_another {
        request = request.inside(&[&work((who + 1) % CLIENTS)]);
    }
    request
}
