//! The commands' notes beside the journal: every command works under a lease of its own, with
//! its GPUs, and the store knows of it.
//!
//! Their times are not compared: an event bears the time of the picture that it was decided
//! on, which may be older than the event.

use super::journal::{Life, Replay};
use crate::cli::chaos::work::Note;

pub(super) fn findings(notes: &[Note], replay: &Replay) -> Vec<String> {
    let wrong = notes.iter().filter_map(|note| Some((note, look(note, replay).err()?)));
    wrong.map(|(note, why)| format!("{why}: {note:?}")).collect()
}

fn look(note: &Note, replay: &Replay) -> Result<(), &'static str> {
    let life = replay.leases.get(&note.token).ok_or("a command works under no lease")?;
    let Life { lease_id, task, gpus, was_claimed, .. } = life;
    if (lease_id, task, gpus) != (&note.lease_id, &note.task, &note.gpus) {
        return Err("a command works under the lease of another");
    }
    if !was_claimed {
        return Err("a command works under a lease that was never claimed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gpulock::core::{Cause, Ending};

    use super::super::planted::{begins, claimed, ended, ends, granted};
    use super::*;

    fn found(notes: &[Note]) -> Vec<String> {
        let events = [
            granted(1, 10, &[0]),
            claimed(1, 11),
            ended(1, 20, &[0], Ending::Released),
            granted(2, 21, &[0]),
            ended(2, 30, &[0], Ending::Expired(Cause::NotClaimed)),
        ];
        let found = findings(notes, &Replay::of(&events)).into_iter();
        found.map(|one| one.split(": Note").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn work_under_its_own_lease_is_fine() {
        assert_eq!(found(&[begins(1, 12, &[0]), ends(1, 19)]), [""; 0]);
    }

    #[test]
    fn work_without_a_claim_or_a_lease_is_found() {
        assert_eq!(
            found(&[begins(2, 22, &[0]), begins(3, 40, &[0])]),
            [
                "a command works under a lease that was never claimed",
                "a command works under no lease"
            ]
        );
    }

    #[test]
    fn work_on_a_gpu_that_was_not_lent_is_found() {
        let found = found(&[begins(1, 12, &[0, 1])]);
        assert_eq!(found, ["a command works under the lease of another"]);
    }
}
