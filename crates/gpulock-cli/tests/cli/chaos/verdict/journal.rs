//! The journal, played again.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::replace;

use gpulock::core::{
    CancelReason, Cause, Counters, Ending, Event, GpuIndex, LeaseId, Party, Token, What,
};

/// What the journal tells, and what in it cannot be.
#[derive(Default)]
pub(crate) struct Replay {
    /// Every lease that was ever granted.
    pub(crate) leases: BTreeMap<Token, Life>,
    /// Who waits in the end.
    waiting: BTreeSet<LeaseId>,
    /// Which lease keeps a GPU.
    kept: BTreeMap<GpuIndex, Token>,
    counted: Counters,
    wrong: Vec<String>,
}

/// One lease, as the journal tells of it.
pub(crate) struct Life {
    pub(crate) lease_id: LeaseId,
    pub(crate) task: String,
    pub(crate) gpus: Vec<GpuIndex>,
    pub(crate) was_claimed: bool,
    pub(crate) ended: Option<Ending>,
    /// Its GPUs can be lent again.
    pub(crate) is_gone: bool,
}

impl Replay {
    pub(crate) fn of(events: &[Event]) -> Self {
        let mut replay = Self::default();
        for event in events {
            let wrong = match &event.party {
                Some(party) => replay.follow(event, party).err(),
                None => None,
            };
            replay.wrong.extend(wrong.map(|why| format!("{why}: {event:?}")));
        }
        replay
    }

    /// What cannot be: in the journal itself, in how it ends, and in the sums.
    pub(super) fn findings(&self, counters: &Counters) -> Vec<String> {
        let mut findings = self.wrong.clone();
        for (token, life) in &self.leases {
            if !life.is_gone {
                findings.push(format!("the lease {token} of {} never ends", life.task));
            }
        }
        findings.extend(self.waiting.iter().map(|id| format!("{id} waits and never hears more")));
        // These have no events of their own.
        let Counters { ownership_violations, polls, recovered, .. } = *counters;
        let counted = Counters { ownership_violations, polls, recovered, ..self.counted.clone() };
        if counted != *counters {
            findings.push(format!("the journal gives {counted:?}, the store says {counters:?}"));
        }
        findings
    }

    fn follow(&mut self, event: &Event, party: &Party) -> Result<(), String> {
        let lease_id = party.lease_id;
        match &event.what {
            What::Queued { .. } => {
                expect(self.waiting.insert(lease_id), "it waits already")?;
                expect(self.living(lease_id).is_none(), "a holder waits")
            }
            What::Cancelled { reason, .. } => {
                match reason {
                    CancelReason::TimedOut => self.counted.timed_out += 1,
                    CancelReason::GaveUp => self.counted.cancelled += 1,
                }
                expect(self.waiting.remove(&lease_id), "it does not wait")
            }
            What::Dropped { .. } => {
                self.counted.dropped += 1;
                expect(self.waiting.remove(&lease_id), "it does not wait")
            }
            What::Granted { gpus, token, waited_micros } => {
                self.counted.granted += 1;
                self.counted.waited_micros += waited_micros;
                self.counted.waits.count(*waited_micros);
                self.grant(party, *token, gpus)
            }
            What::Claimed { token } => {
                let life = self.current(lease_id, *token)?;
                expect(!replace(&mut life.was_claimed, true), "it was claimed before")
            }
            What::StopRequested { token, .. } | What::Overdue { token, .. } => {
                self.current(lease_id, *token).map(|_| ())
            }
            What::Ended { token, gpus, how, draining, held_micros } => {
                self.counted.held_micros += held_micros;
                self.counted.holds.count(*held_micros);
                self.count_end(how);
                let life = self.current(lease_id, *token)?;
                life.ended = Some(how.clone());
                expect(life.gpus == *gpus, "it has other GPUs")?;
                if *draining { Ok(()) } else { self.free(*token) }
            }
            What::Drained { token, .. } => self.free(*token),
            What::StillDraining { .. }
            | What::Incident { .. }
            | What::Raised { .. }
            | What::Resumed { .. }
            | What::Configured { .. } => Ok(()),
        }
    }

    fn grant(&mut self, party: &Party, token: Token, gpus: &[GpuIndex]) -> Result<(), String> {
        self.waiting.remove(&party.lease_id);
        let last = self.leases.last_key_value().map(|(last, _)| *last);
        let has_one = self.living(party.lease_id).is_some();
        let life = Life {
            lease_id: party.lease_id,
            task: party.task.to_string(),
            gpus: gpus.to_vec(),
            was_claimed: false,
            ended: None,
            is_gone: false,
        };
        self.leases.insert(token, life);
        let keepers: Vec<_> = gpus.iter().filter_map(|gpu| self.kept.insert(*gpu, token)).collect();
        expect(last.is_none_or(|last| last < token), "the token does not grow")?;
        expect(!has_one, "it has a lease already")?;
        match keepers.first() {
            Some(keeper) => Err(format!("a GPU is lent that lease {keeper} keeps")),
            None => Ok(()),
        }
    }

    fn count_end(&mut self, how: &Ending) {
        match how {
            Ending::Released => self.counted.released += 1,
            Ending::Seized { .. } => self.counted.seized += 1,
            Ending::Expired(cause) => {
                self.counted.expired += 1;
                self.counted.died += u64::from(*cause == Cause::HolderDied);
            }
        }
    }

    /// The GPUs of a lease that is over can be lent again.
    fn free(&mut self, token: Token) -> Result<(), String> {
        let life = self.leases.get_mut(&token).ok_or("nobody was granted it")?;
        expect(life.ended.is_some(), "it is not over")?;
        expect(!replace(&mut life.is_gone, true), "it was freed before")?;
        for gpu in &life.gpus {
            if self.kept.remove(gpu) != Some(token) {
                return Err(format!("GPU {gpu} is not kept by it"));
            }
        }
        Ok(())
    }

    /// The lease with this id and token, if it is not over.
    fn current(&mut self, lease_id: LeaseId, token: Token) -> Result<&mut Life, String> {
        let life = self.leases.get_mut(&token).ok_or("nobody was granted it")?;
        expect(life.lease_id == lease_id, "it belongs to another")?;
        expect(life.ended.is_none(), "it is over already")?;
        Ok(life)
    }

    fn living(&self, lease_id: LeaseId) -> Option<Token> {
        let is_it = |life: &Life| life.lease_id == lease_id && !life.is_gone;
        self.kept.values().copied().find(|token| self.leases.get(token).is_some_and(is_it))
    }
}

fn expect(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::planted::{claimed, drained, ended, ended_draining, granted, queued};
    use super::*;

    fn found(events: &[Event]) -> Vec<String> {
        let replay = Replay::of(events);
        let counters = replay.counted.clone();
        let found = replay.findings(&counters).into_iter();
        found.map(|one| one.split(": Event").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_life_from_the_queue_to_the_end_is_fine() {
        let expired = Ending::Expired(Cause::Deadline);
        let events = [
            granted(1, 0, &[0]),
            claimed(1, 1),
            queued(2, 2),
            ended(1, 3, &[0], Ending::Released),
            granted(2, 3, &[0]),
            claimed(2, 4),
            ended_draining(2, 6, &[0], expired),
            drained(2, 9, &[0]),
            granted(3, 9, &[0]),
            ended(3, 10, &[0], Ending::Expired(Cause::NotClaimed)),
        ];
        assert_eq!(found(&events), [""; 0]);
    }

    #[test]
    fn a_gpu_that_is_lent_twice_is_found() {
        let events = [granted(1, 0, &[0, 1]), granted(2, 1, &[1])];
        assert!(found(&events).contains(&"a GPU is lent that lease 1 keeps".to_owned()));
    }

    #[test]
    fn a_token_that_goes_back_is_found() {
        let released = |token, at| ended(token, at, &[0], Ending::Released);
        let events = [granted(2, 0, &[0]), released(2, 1), granted(1, 2, &[0]), released(1, 3)];
        assert_eq!(found(&events), ["the token does not grow"]);
    }

    #[test]
    fn a_release_in_the_name_of_another_is_found() {
        let mut foreign = ended(1, 3, &[0], Ending::Released);
        foreign.party.as_mut().unwrap().lease_id = LeaseId::from_bits(7);
        let own = ended(1, 4, &[0], Ending::Released);
        assert_eq!(found(&[granted(1, 0, &[0]), foreign, own]), ["it belongs to another"]);
    }

    #[test]
    fn a_release_of_what_is_over_is_found() {
        let released = |token, at| ended(token, at, &[0], Ending::Released);
        let events = [
            granted(1, 0, &[0]),
            released(1, 1),
            granted(2, 2, &[0]),
            released(1, 3),
            released(2, 4),
        ];
        assert_eq!(found(&events), ["it is over already"]);
    }

    #[test]
    fn a_grant_without_an_end_and_a_waiter_without_an_answer_are_found() {
        let found = found(&[granted(1, 0, &[0]), queued(2, 1)]);
        assert_eq!(found[0], "the lease 1 of run1 never ends");
        assert!(found[1].ends_with("2 waits and never hears more"), "{found:?}");
    }

    #[test]
    fn sums_that_differ_from_the_journal_are_found() {
        let events = [granted(1, 0, &[0]), ended(1, 1, &[0], Ending::Released)];
        let found = Replay::of(&events).findings(&Counters {
            granted: 2,
            released: 1,
            ..Counters::default()
        });
        assert!(found[0].starts_with("the journal gives"), "{found:?}");
    }
}
