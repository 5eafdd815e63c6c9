//! The state of the GPUs that are decided together, and every transition of it.
//!
//! ```text
//!            acquire            release · expire · seize · holder died
//!   ┌──────┐ granted at once  ┌──────┐   no process left    ┌──────┐
//!   │ free │ ───────────────▶ │ held │ ───────────────────▶ │ free │ ─▶ next waiter
//!   └──────┘                  └──────┘                      └──────┘
//!       ▲  all taken: queue       │ its processes may live      ▲
//!       │                         ▼                             │ evidence: gone
//!   next release             ┌──────────┐ ──────────────────────┘
//!   grants from the queue    │ draining │
//!                            └──────────┘
//! ```
//!
//! *Expired, dead and free are three facts.* A lease that ran out leaves its GPUs
//! `draining` until a caller that can look says that its processes are gone
//! ([`Command::Observe`]), the owner itself says that it is done ([`Command::Release`]),
//! or, where nobody who could look has spoken for [`Settings::witness_patience`], a caller
//! from elsewhere comes by.
//!
//! A store that came back may have forgotten leases. The pool is *closed* then
//! ([`Command::Resume`]): nothing is lent until every lease that may be forgotten is over.
//!
//! **Who waits for how long.** Inside a priority the order is that of arrival. A request
//! that cannot be met yet may be passed by later ones from inside the look-ahead window
//! ([`LOOK_AHEAD`](crate::LOOK_AHEAD) per lane) only until it has waited
//! [`Settings::pass_bound`]; from then on every GPU that it could use is kept for it as it
//! becomes free. So, once it is the first of its priority, it waits at most `pass_bound`
//! and then the longest lease that runs at that moment.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::event::Counters;
use crate::gpu::{GpuIndex, Inventory};
use crate::ids::{LeaseId, Token};
use crate::invariants;
use crate::lease::Lease;
use crate::queue::Waiter;
use crate::refusal::Refusal;
use crate::step::Step;
use crate::time::Time;
use crate::turn::Turn;

/// GPUs that are decided together, normally those of one host: what a store keeps of them
/// and what the rules look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pool {
    /// The GPUs, the spans and the running sums.
    pub ledger: Ledger,
    /// Every lease that keeps a GPU from being lent.
    pub leases: Vec<Lease>,
    /// The first waiters of every lane, in order.
    pub window: Vec<Waiter>,
    /// The waiter that asks, if it stands further back than the window shows.
    pub asker: Option<Waiter>,
    /// How many wait in all.
    pub queue_len: u64,
}

/// What a pool keeps besides leases and queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ledger {
    /// The cards; `None` until somebody has configured the pool.
    pub inventory: Option<Inventory>,
    /// The spans.
    #[serde(default)]
    pub settings: Settings,
    /// The token of the latest grant.
    pub last_token: Token,
    /// The running sums.
    #[serde(default)]
    pub counters: Counters,
    /// Which life of the store this was last seen in; `None` where a store has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<String>,
    /// Nothing is lent before this moment: the store may have forgotten leases that run
    /// until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_until: Option<Time>,
}

/// How long things may take in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How long a granted waiter has to pick its grant up.
    pub claim_time: Duration,
    /// How long a request that cannot be met yet may be passed by later ones.
    pub pass_bound: Duration,
    /// How long a draining GPU is left alone for callers that could see its processes,
    /// before a caller that cannot takes it for free.
    pub witness_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            claim_time: Duration::from_secs(10),
            pass_bound: Duration::from_secs(60),
            witness_patience: Duration::from_secs(1),
        }
    }
}

impl Pool {
    /// Applies one command at one moment. This is the whole rulebook.
    ///
    /// Whatever is due at `now` happens first, then the command, then every GPU that came
    /// free is handed on: all in this one step.
    ///
    /// # Errors
    /// A [`Refusal`] if the command can never succeed as it stands; nothing has changed.
    pub fn step(&mut self, now: Time, command: Command) -> Result<Step, Refusal> {
        let before = cfg!(debug_assertions).then(|| self.clone());
        let mut turn = Turn::new(self, now);
        let reply = match command {
            Command::Acquire(request) => {
                let wants = turn.admit(&request)?;
                turn.expire_due();
                turn.acquire(request, wants)
            }
            Command::Queue(request) => {
                let wants = turn.admit(&request)?;
                turn.stand_in_line(request, wants)
            }
            Command::Configure { inventory, settings } => {
                if inventory.gpus.is_empty() {
                    return Err(Refusal::EmptyInventory);
                }
                turn.expire_due();
                turn.configure(inventory, settings)
            }
            command => {
                turn.expire_due();
                match command {
                    Command::Claim { lease, group } => turn.claim(lease, group),
                    Command::Renew(renewals) => turn.renew(renewals),
                    Command::Release(lease) => turn.release(lease),
                    Command::Retire(lease) => turn.retire(lease),
                    Command::Cancel { lease_id, run, reason, polls } => {
                        turn.cancel(lease_id, run, reason, polls)
                    }
                    Command::AskToStop { lease, reason } => turn.ask_to_stop(lease, reason),
                    Command::Seize { lease, by, reason, mode } => {
                        turn.seize(lease, crate::lease::Ending::Seized { by, reason }, mode)
                    }
                    Command::Observe(evidence) => turn.observe(&evidence),
                    Command::Report { incident, error, party } => {
                        turn.report(incident, error, party)
                    }
                    Command::Raise { alert, party } => turn.raise(alert, party),
                    Command::Tick { sight } => turn.tick(sight.as_ref()),
                    Command::Patrol { watch, sight } => turn.patrol(&watch, sight.as_ref()),
                    Command::Resume { incarnation, closed_until } => {
                        turn.resume(incarnation, closed_until)
                    }
                    Command::Acquire(_) | Command::Queue(_) | Command::Configure { .. } => {
                        unreachable!("matched above")
                    }
                }
            }
        };
        let step = turn.finish(reply);
        if let Some(before) = before {
            let broken = invariants::broken_by_step(&before, self, now, &step);
            debug_assert!(broken.is_none(), "invariant broken: {broken:?}");
        }
        Ok(step)
    }

    /// The GPUs that nothing keeps from being lent.
    ///
    /// This is the one place that decides what "free" means: leases that share a GPU and
    /// quarantined GPUs will be told apart here.
    pub fn free_gpus(&self) -> BTreeSet<GpuIndex> {
        let taken: BTreeSet<_> = self.leases.iter().flat_map(|lease| &lease.gpus).collect();
        let cards = self.ledger.inventory.iter().flat_map(|inventory| &inventory.gpus);
        cards.map(|gpu| gpu.index).filter(|index| !taken.contains(index)).collect()
    }

    /// The lease with this id, if it still keeps a GPU.
    pub fn lease(&self, lease_id: LeaseId) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.lease_id == lease_id)
    }

    /// The waiter with this id, if it is in sight.
    pub fn waiter(&self, lease_id: LeaseId) -> Option<&Waiter> {
        self.window.iter().chain(&self.asker).find(|waiter| waiter.lease_id == lease_id)
    }

    /// How long it is still closed at `now`, if it is.
    pub fn closed_for(&self, now: Time) -> Option<Duration> {
        self.ledger.closed_until.filter(|until| now < *until).map(|until| until.since(now))
    }

    /// The next moment after `now` at which something changes by itself: a lease ends, or
    /// the pool opens.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let opens = self.ledger.closed_until.filter(|until| now < *until);
        self.leases.iter().filter_map(Lease::deadline).chain(opens).min()
    }
}
