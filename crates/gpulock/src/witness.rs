//! A waiter as a witness: it watches the processes that are in its way, tells the rules
//! what it saw, and stops what a dead `gpulock run` has left behind.
//!
//! Of all the waiters that can see the holders, only the first in line watches them; each
//! other one watches the waiter just before it. So a death wakes one process.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use gpulock_core::{Evidence, Lease, LeaseId, Phase, Pool, Process, Sight, Subject, Time, Waiter};

use crate::clock::BootTime;
use crate::process::{self, DeathWatch, Pressed};
use crate::store::Scope;

/// How often to look at processes that are about to end.
const LOOK_SOON: Duration = Duration::from_millis(10);

/// How often to look at processes that are not.
const LOOK_LATER: Duration = Duration::from_millis(250);

/// How long to look often before looking less often.
const EAGER_FOR: Duration = Duration::from_secs(2);

/// What one waiter watches.
#[derive(Debug)]
pub(crate) struct Witness {
    sight: Option<Sight>,
    scope: Scope,
    /// SIGTERM to SIGKILL.
    grace: Duration,
    watches: HashMap<Process, DeathWatch>,
    /// When the rules were last told that a draining lease's processes live.
    told_alive: HashMap<LeaseId, BootTime>,
    pressed: HashMap<LeaseId, bool>,
}

/// What a look at the pool gave.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// To be told to the rules at once.
    pub(crate) evidence: Vec<Evidence>,
    /// Look again after this long, whatever happens.
    pub(crate) look_again: Option<Duration>,
}

impl Witness {
    pub(crate) fn new(sight: Option<Sight>, scope: Scope, grace: Duration) -> Self {
        let (watches, told_alive, pressed) = Default::default();
        Self { sight, scope, grace, watches, told_alive, pressed }
    }

    /// Looks at what stands in the way of `me`, as far as that is this waiter's task.
    pub(crate) fn examine(&mut self, pool: &Pool, now: Time, me: LeaseId) -> Findings {
        let mut findings = Findings::default();
        let Some(sight) = self.sight.clone() else { return findings };
        let mut neighbours = pool.window.iter().filter(|w| w.owner.sight() == Some(&sight));
        let before_me: Option<&Waiter> =
            neighbours.by_ref().take_while(|waiter| waiter.lease_id != me).last();
        let mut in_the_way = Vec::new();
        match before_me {
            Some(waiter) => {
                in_the_way.extend(waiter.owner.process.as_ref().map(|own| own.process));
                self.examine_waiter(waiter, &mut findings);
            }
            None => {
                for lease in &pool.leases {
                    in_the_way.extend(lease.owner.process.as_ref().map(|own| own.process));
                    self.examine_lease(lease, now, &mut findings);
                }
            }
        }
        self.watches.retain(|process, _| in_the_way.contains(process));
        findings
    }

    /// Returns when one of the watched processes dies.
    pub(crate) async fn somebody_died(&self) {
        let mut deaths: Vec<_> =
            self.watches.values().map(|watch| Box::pin(watch.died())).collect();
        poll_fn(|context| {
            let died = deaths.iter_mut().any(|death| pin!(death).poll(context).is_ready());
            if died { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn examine_waiter(&mut self, waiter: &Waiter, findings: &mut Findings) {
        let seen = process::look(&waiter.owner, None);
        if seen.is_some_and(|seen| !seen.holder_alive) {
            let subject = Subject::Waiter(waiter.lease_id);
            findings.evidence.push(Evidence { subject, holder_alive: false, group_alive: false });
        } else {
            self.watch(&waiter.owner, findings);
        }
    }

    fn examine_lease(&mut self, lease: &Lease, now: Time, findings: &mut Findings) {
        let subject = Subject::Lease(lease.reference());
        if self.scope == Scope::Host && process::rebooted_since(&lease.owner) {
            findings.evidence.push(Evidence { subject, holder_alive: false, group_alive: false });
            return;
        }
        let Some(seen) = process::look(&lease.owner, lease.group.as_ref()) else { return };
        let evidence =
            Evidence { subject, holder_alive: seen.holder_alive, group_alive: seen.group_alive };
        let in_use = if lease.group.is_some() { seen.group_alive } else { seen.holder_alive };
        match lease.phase {
            Phase::Draining { .. } if !in_use => findings.evidence.push(evidence),
            Phase::Draining { ended_at, .. } => {
                self.press(lease, now.since(ended_at), findings);
                if self.is_time_to_tell(lease.lease_id) {
                    findings.evidence.push(evidence);
                }
            }
            _ if !seen.holder_alive => findings.evidence.push(evidence),
            _ => self.watch(&lease.owner, findings),
        }
    }

    /// Stops the group of a lease that is over, if `gpulock run` started it; any other
    /// process is only waited for.
    fn press(&mut self, lease: &Lease, over_for: Duration, findings: &mut Findings) {
        let Some(group) = &lease.group else {
            return self.watch(&lease.owner, findings);
        };
        let killing = over_for >= self.grace;
        if self.pressed.insert(lease.lease_id, killing) != Some(killing) {
            let lease_id = lease.lease_id.to_string();
            if !matches!(
                process::press(group, &lease_id, over_for, self.grace),
                Ok(Pressed::Gone | Pressed::Signalled(_))
            ) {
                // Not ours to stop: they are waited for, and shown as draining meanwhile.
                self.pressed.insert(lease.lease_id, true);
            }
        }
        findings.look_within(if over_for < self.grace + EAGER_FOR { LOOK_SOON } else { LOOK_LATER });
    }

    fn watch(&mut self, owner: &gpulock_core::Owner, findings: &mut Findings) {
        let Some(own) = owner.process.as_ref().filter(|own| Some(&own.sight) == self.sight.as_ref())
        else {
            return;
        };
        if self.watches.contains_key(&own.process) {
            return;
        }
        match DeathWatch::open(own.process) {
            Ok(watch) => {
                self.watches.insert(own.process, watch);
            }
            // Without a pidfd (old kernel, no descriptor left) it looks now and then.
            Err(_) => findings.look_within(LOOK_LATER),
        }
    }

    /// Others who cannot see the processes hear that they live, well within their patience.
    fn is_time_to_tell(&mut self, lease_id: LeaseId) -> bool {
        let due = self.told_alive.get(&lease_id).is_none_or(|told| told.elapsed() > LOOK_LATER);
        if due {
            self.told_alive.insert(lease_id, BootTime::now());
        }
        due
    }
}

impl Findings {
    fn look_within(&mut self, span: Duration) {
        self.look_again = Some(self.look_again.map_or(span, |already| already.min(span)));
    }

    /// Whether the rules will change something because of this, rather than just note it.
    pub(crate) fn is_decisive(&self, pool: &Pool) -> bool {
        self.evidence.iter().any(|evidence| match evidence.subject {
            Subject::Waiter(_) => true,
            Subject::Lease(lease) => pool.lease(lease.lease_id).is_some_and(|lease| {
                let in_use =
                    if lease.group.is_some() { evidence.group_alive } else { evidence.holder_alive };
                !lease.is_over() || !in_use
            }),
        })
    }
}
