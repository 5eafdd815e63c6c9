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

use gpulock_core::{
    Evidence, Lease, LeaseId, Owner, Phase, Pool, Process, ProcessGroup, Sight, Subject, Time,
    Waiter,
};

use crate::clock::BootTime;
use crate::process::{self, DeathWatch, Pressed, Processes};
use crate::store::Scope;

/// How often to look at processes whose end cannot be waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The shortest pause between two looks.
const LOOK_AT_LEAST: Duration = Duration::from_millis(10);

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
    /// The processes of dead holders that were told to end.
    pressed: HashMap<LeaseId, Pressure>,
}

/// What was done to the processes that a dead holder left behind.
#[derive(Debug)]
struct Pressure {
    /// They were killed, and not only asked.
    by_force: bool,
    left: Vec<Process>,
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
                self.pressed.retain(|lease_id, _| pool.lease(*lease_id).is_some());
                in_the_way.extend(self.pressed.values().flat_map(|pressure| &pressure.left));
            }
        }
        let mut somebody_died = false;
        self.watches.retain(|process, watch| {
            somebody_died |= watch.is_dead();
            in_the_way.contains(process) && !watch.is_dead()
        });
        if somebody_died {
            // Perhaps only after it was looked at: a dead process is not watched again.
            findings.look_within(LOOK_AT_LEAST);
        }
        findings
    }

    /// Looks at another run of the same task, which holds or waits under this id.
    pub(crate) fn examine_other_run(&mut self, pool: &Pool, now: Time, id: LeaseId) -> Findings {
        let mut findings = Findings::default();
        if let Some(lease) = pool.lease(id) {
            self.examine_lease(lease, now, &mut findings);
        } else if let Some(waiter) = pool.waiter(id) {
            self.examine_waiter(waiter, &mut findings);
        }
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

    /// What can be seen of holders and waiters that are gone.
    pub(crate) fn find_gone(
        &mut self,
        pool: &Pool,
        waiters: &[Waiter],
        now: Time,
    ) -> Vec<Evidence> {
        let mut findings = Findings::default();
        pool.leases.iter().for_each(|lease| self.examine_lease(lease, now, &mut findings));
        waiters.iter().for_each(|waiter| self.examine_waiter(waiter, &mut findings));
        findings.evidence.retain(|seen| !seen.holder_alive);
        findings.evidence
    }

    fn examine_waiter(&mut self, waiter: &Waiter, findings: &mut Findings) {
        let seen = process::look(&waiter.owner, None);
        if seen.is_some_and(|seen| !seen.holder_alive) {
            let subject = Subject::Waiter(waiter.lease_id);
            findings.evidence.push(gone(subject, None));
        } else {
            self.watch_owner(&waiter.owner, findings);
        }
    }

    fn examine_lease(&mut self, lease: &Lease, now: Time, findings: &mut Findings) {
        let subject = Subject::Lease(lease.reference());
        if self.scope == Scope::Host && process::rebooted_since(&lease.owner) {
            findings.evidence.push(gone(subject, lease.group));
            return;
        }
        let Some(seen) = process::look(&lease.owner, lease.group.as_ref()) else { return };
        let Processes { holder_alive, group_alive } = seen;
        let evidence = Evidence { subject, holder_alive, group: lease.group, group_alive };
        let in_use = if lease.group.is_some() { seen.group_alive } else { seen.holder_alive };
        match lease.phase {
            Phase::Draining { .. } if !in_use => findings.evidence.push(evidence),
            Phase::Draining { ended_at, .. } => {
                self.press(lease, now.since(ended_at), findings);
                if self.is_time_to_tell(lease.lease_id) {
                    findings.evidence.push(evidence);
                }
                // Its death is heard; that it lives has to be told again and again.
                findings.look_within(LOOK_AGAIN);
            }
            _ if !seen.holder_alive => findings.evidence.push(evidence),
            _ => self.watch_owner(&lease.owner, findings),
        }
    }

    /// Stops the group of a lease that is over, if `gpulock run` started it; any other
    /// process is only waited for.
    fn press(&mut self, lease: &Lease, over_for: Duration, findings: &mut Findings) {
        let Some(group) = &lease.group else {
            return self.watch_owner(&lease.owner, findings);
        };
        let by_force = over_for >= self.grace;
        if !by_force {
            findings.look_within((self.grace - over_for).max(LOOK_AT_LEAST));
        }
        let done = self.pressed.get(&lease.lease_id).is_some_and(|done| done.by_force == by_force);
        if !done {
            let lease_id = lease.lease_id.to_string();
            // What is not ours to stop is waited for, and shown as draining meanwhile.
            let left = match process::press(group, &lease_id, over_for, self.grace) {
                Ok(
                    Pressed::Signalled(left) | Pressed::NotAllowed(left) | Pressed::NotSure(left),
                ) => left,
                Ok(Pressed::Gone) | Err(_) => Vec::new(),
            };
            left.iter().for_each(|process| self.watch(*process, findings));
            self.pressed.insert(lease.lease_id, Pressure { by_force, left });
        }
    }

    fn watch_owner(&mut self, owner: &Owner, findings: &mut Findings) {
        if let Some(own) = &owner.process
            && Some(&own.sight) == self.sight.as_ref()
        {
            self.watch(own.process, findings);
        }
    }

    fn watch(&mut self, process: Process, findings: &mut Findings) {
        if self.watches.contains_key(&process) {
            return;
        }
        match DeathWatch::open(process) {
            Ok(watch) => {
                self.watches.insert(process, watch);
            }
            // Without a pidfd (old kernel, no descriptor left) it looks now and then.
            Err(_) => findings.look_within(LOOK_AGAIN),
        }
    }

    /// Others who cannot see the processes hear that they live, well within their patience.
    fn is_time_to_tell(&mut self, lease_id: LeaseId) -> bool {
        let due = self.told_alive.get(&lease_id).is_none_or(|told| told.elapsed() > LOOK_AGAIN);
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
                let in_use = if lease.group.is_some() {
                    evidence.group_alive
                } else {
                    evidence.holder_alive
                };
                !lease.is_over() || !in_use
            }),
        })
    }
}

/// Nothing of it is left.
pub(crate) fn gone(subject: Subject, group: Option<ProcessGroup>) -> Evidence {
    Evidence { subject, holder_alive: false, group, group_alive: false }
}
