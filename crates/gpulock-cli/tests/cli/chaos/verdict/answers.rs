//! How the runs were answered: each was served or told why not, and what it was told is what
//! happened.

use std::collections::BTreeMap;
use std::time::Duration;

use gpulock::core::Ending;

use super::Evidence;
use super::journal::{Life, Replay};
use crate::cli::chaos::crew::{Answer, Blow, Run};
use crate::cli::chaos::work::{Moment, Note};

/// Why a run gives its own lease back and says that it is lost.
const OWN_DECISION: [&str; 2] =
    ["it could not be renewed in time", "the store could not be reached before its deadline"];

/// A run that is served, and whose lease has to run out by itself.
const NOT_CONFIRMED: &str = "its lease could not be given back";

/// One run, and all that is known of it.
struct Case<'a> {
    run: &'a Run,
    has_begun: bool,
    /// The code that its command noted last of all.
    command_ended: Option<u8>,
    /// Its latest lease.
    life: Option<&'a Life>,
    /// The store did not answer for a part of its time.
    met_an_outage: bool,
}

pub(super) fn findings(evidence: &Evidence<'_>, replay: &Replay) -> Vec<String> {
    let mut notes: BTreeMap<&str, Vec<&Note>> = BTreeMap::new();
    for note in evidence.notes {
        notes.entry(&note.task).or_default().push(note);
    }
    // In the order of tokens: the latest stays.
    let lives: BTreeMap<&str, &Life> =
        replay.leases.values().map(|life| (life.task.as_str(), life)).collect();
    let cases = evidence.runs.iter().map(|run| {
        let task = run.work.task.as_str();
        let notes = notes.get(task).map(Vec::as_slice).unwrap_or_default();
        let command_ended = notes.iter().find_map(|note| match note.what {
            Moment::Ends { code } => Some(code),
            Moment::Begins { .. } => None,
        });
        let mut outages = evidence.outages.iter();
        let met_an_outage = outages.any(|(from, to)| *from < run.ended && run.began < *to);
        let (has_begun, life) = (!notes.is_empty(), lives.get(task).copied());
        Case { run, has_begun, command_ended, life, met_an_outage }
    });
    let wrong = cases.filter_map(|case| Some((case.run, case.judge().err()?)));
    wrong.map(|(run, why)| format!("{why}: {run:?}")).collect()
}

impl Case<'_> {
    fn judge(&self) -> Result<(), &'static str> {
        let run = self.run;
        match &run.answer {
            Answer::None { .. } => Err("a run never ends"),
            Answer::Signal { signal: 9, .. } if self.suffered(Blow::Kill) => Ok(()),
            // Before it has begun to listen.
            Answer::Signal { signal: 15, .. } if self.suffered(Blow::Terminate) => Ok(()),
            Answer::Signal { .. } => Err("a run dies of a signal"),
            Answer::Code { code: 69 | 75 | 76, said } if !said.contains("error: ") => {
                Err("a run does not say why it fails")
            }
            Answer::Code { code: 69 | 75, .. } if self.has_begun => {
                Err("a run says that it got nothing, but its command began")
            }
            Answer::Code { code: 69, .. } if run.patience > Duration::ZERO => {
                Err("a run has no patience with the store")
            }
            // For one that slept, an answer that waits for it is late.
            Answer::Code { code: 69, .. } if self.met_an_outage || self.suffered(Blow::Freeze) => {
                Ok(())
            }
            Answer::Code { code: 69, .. } => Err("a run misses a store that was there"),
            Answer::Code { code: 75, .. } if run.ended - run.began < run.patience => {
                Err("a run gives up before its time")
            }
            Answer::Code { code: 75, .. } => Ok(()),
            Answer::Code { code: 76, said } => self.judge_loss(said),
            Answer::Code { code: 137, said } if self.suffered(Blow::KillCommand) => {
                self.judge_end(said)
            }
            Answer::Code { code: 143, said } if self.suffered(Blow::Terminate) => {
                if self.has_begun { self.judge_end(said) } else { Ok(()) }
            }
            Answer::Code { code, said } if self.command_ended == Some(*code) => {
                self.judge_end(said)
            }
            Answer::Code { .. } => Err("a run ends with a code that nobody gave it"),
        }
    }

    fn suffered(&self, blow: Blow) -> bool {
        self.run.suffered.contains(&blow)
    }

    /// A run says that it lost its lease.
    fn judge_loss(&self, said: &str) -> Result<(), &'static str> {
        let how = self.life.and_then(|life| life.ended.as_ref());
        let by_itself = OWN_DECISION.iter().any(|reason| said.contains(reason));
        match how {
            None => Err("a run says that it lost a lease, but none has ended"),
            Some(Ending::Released) if !by_itself => Err("a run's lease was released by another"),
            Some(_) => Ok(()),
        }
    }

    /// A run ends with the code of its command, as if its lease had lasted as long.
    fn judge_end(&self, said: &str) -> Result<(), &'static str> {
        match self.life.and_then(|life| life.ended.as_ref()) {
            Some(Ending::Released) => Ok(()),
            Some(_) if said.contains(NOT_CONFIRMED) => Ok(()),
            _ => Err("a run does not say that its lease was lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use gpulock::core::{Cause, Counters, Event};

    use super::super::planted::{begins, claimed, code, ended, ends, granted, run};
    use super::*;

    const LOST: &str = "error: the lease was lost: it expired or was taken away";
    const NOT_RENEWED: &str = "error: the lease was lost: it could not be renewed in time";

    fn lease(how: Ending) -> [Event; 3] {
        [granted(1, 0, &[0]), claimed(1, 1), ended(1, 4, &[0], how)]
    }

    fn expired() -> Ending {
        Ending::Expired(Cause::Deadline)
    }

    fn found(run: Run, notes: &[Note], events: &[Event]) -> Option<String> {
        let outage = (Duration::from_secs(110), Duration::from_secs(111));
        let evidence = Evidence {
            notes,
            events,
            counters: &Counters::default(),
            runs: &[run],
            outages: &[outage],
        };
        let mut found = findings(&evidence, &Replay::of(events));
        found.pop().map(|one| one.split(": Run").next().unwrap().to_owned())
    }

    #[test]
    fn a_run_that_was_served_is_fine() {
        let notes = [begins(1, 2, &[0]), ends(1, 3)];
        assert_eq!(found(run(1, 1, code(0, "")), &notes, &lease(Ending::Released)), None);
    }

    #[test]
    fn a_waiter_without_an_answer_is_found() {
        let silent = run(1, 200, Answer::None { said: String::new() });
        assert_eq!(found(silent, &[], &[]).unwrap(), "a run never ends");
    }

    #[test]
    fn a_run_that_gives_up_too_early_or_says_nothing_is_found() {
        let told = "error: any GPU did not become free";
        assert_eq!(found(run(1, 30, code(75, told)), &[], &[]), None);
        let hasty = found(run(1, 29, code(75, told)), &[], &[]);
        assert_eq!(hasty.unwrap(), "a run gives up before its time");
        let silent = found(run(1, 30, code(75, "")), &[], &[]);
        assert_eq!(silent.unwrap(), "a run does not say why it fails");
    }

    #[test]
    fn a_run_that_was_served_and_says_no_is_found() {
        let told = code(75, "error: any GPU did not become free");
        let found = found(run(1, 30, told), &[begins(1, 2, &[0])], &lease(Ending::Released));
        assert_eq!(found.unwrap(), "a run says that it got nothing, but its command began");
    }

    #[test]
    fn only_an_outage_makes_a_store_unusable_and_only_for_who_does_not_wait() {
        let told = |seconds, patience| {
            let said = "error: the store cannot be reached";
            found(Run { patience, ..run(1, seconds, code(69, said)) }, &[], &[])
        };
        assert_eq!(told(11, Duration::ZERO), None);
        let invented = told(9, Duration::ZERO);
        assert_eq!(invented.unwrap(), "a run misses a store that was there");
        let hasty = told(11, Duration::from_secs(30));
        assert_eq!(hasty.unwrap(), "a run has no patience with the store");
    }

    #[test]
    fn a_release_by_another_is_found() {
        let notes = [begins(1, 2, &[0]), ends(1, 3)];
        let told = |said, how| found(run(1, 1, code(76, said)), &notes, &lease(how));
        assert_eq!(told(LOST, expired()), None);
        assert_eq!(told(NOT_RENEWED, Ending::Released), None);
        let foreign = told(LOST, Ending::Released);
        assert_eq!(foreign.unwrap(), "a run's lease was released by another");
        let invented = found(run(1, 1, code(76, LOST)), &[], &[]);
        assert_eq!(invented.unwrap(), "a run says that it lost a lease, but none has ended");
    }

    #[test]
    fn a_loss_that_is_not_told_is_found() {
        let notes = [begins(1, 2, &[0]), ends(1, 3)];
        let found = found(run(1, 1, code(0, "")), &notes, &lease(expired()));
        assert_eq!(found.unwrap(), "a run does not say that its lease was lost");
    }

    #[test]
    fn a_code_from_nowhere_is_found() {
        let by_nobody = "a run ends with a code that nobody gave it";
        for number in [0, 1, 64, 70, 101, 137, 143] {
            let found = found(run(1, 1, code(number, "error: ")), &[begins(1, 2, &[0])], &[]);
            assert_eq!(found.unwrap(), by_nobody, "{number}");
        }
        for blow in [Blow::KillCommand, Blow::Terminate] {
            let mut struck = run(1, 1, code(if blow == Blow::Terminate { 143 } else { 137 }, ""));
            struck.suffered.push(blow);
            assert_eq!(found(struck, &[begins(1, 2, &[0])], &lease(Ending::Released)), None);
        }
    }

    #[test]
    fn a_death_by_a_signal_that_nobody_sent_is_found() {
        let killed = || run(1, 1, Answer::Signal { signal: 9, said: String::new() });
        assert_eq!(found(killed(), &[], &[]).unwrap(), "a run dies of a signal");
        let mut struck = killed();
        struck.suffered.push(Blow::Kill);
        assert_eq!(found(struck, &[], &[]), None);
    }
}
