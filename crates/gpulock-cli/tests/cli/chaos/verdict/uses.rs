//! What the commands noted about their GPUs.

use std::collections::BTreeMap;

use gpulock::core::{GpuIndex, Token};

use crate::cli::chaos::work::{Moment, Note};

/// No two commands use a GPU at one time, and the tokens of every GPU only grow.
pub(super) fn findings(notes: &[Note]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut uses: BTreeMap<GpuIndex, Vec<&Note>> = BTreeMap::new();
    let mut ends: BTreeMap<Token, &Note> = BTreeMap::new();
    for note in notes {
        match &note.what {
            Moment::Begins { shared } => {
                for gpu in shared {
                    findings.push(format!("{} begins on GPU {gpu} beside a process", named(note)));
                }
                note.gpus.iter().for_each(|gpu| uses.entry(*gpu).or_default().push(note));
            }
            Moment::Ends { .. } => {
                if ends.insert(note.token, note).is_some() {
                    findings.push(format!("{} ends twice", named(note)));
                }
            }
        }
    }
    for (gpu, mut uses) in uses {
        uses.sort_by_key(|begins| begins.at);
        for (earlier, later) in uses.iter().zip(&uses[1..]) {
            // One that was killed has no end here; that it is gone, the next one looks.
            if ends.get(&earlier.token).is_some_and(|end| end.at > later.at) {
                let (earlier, later) = (named(earlier), named(later));
                findings.push(format!("{later} begins on GPU {gpu} before {earlier} ends"));
            }
            if earlier.token >= later.token {
                let (earlier, later) = (named(earlier), named(later));
                findings.push(format!("the token goes back on GPU {gpu}: {earlier}, {later}"));
            }
        }
    }
    findings
}

fn named(note: &Note) -> String {
    format!("{} (pid {}, token {})", note.task, note.pid, note.token)
}

#[cfg(test)]
mod tests {
    use super::super::planted::{begins, ends};
    use super::*;

    #[test]
    fn one_after_the_other_is_fine() {
        let notes = [begins(1, 0, &[0, 1]), ends(1, 10), begins(2, 11, &[0]), begins(3, 12, &[1])];
        assert_eq!(findings(&notes), [""; 0]);
    }

    #[test]
    fn an_overlap_is_found() {
        let notes = [begins(1, 0, &[0, 1]), begins(2, 9, &[1]), ends(1, 10), ends(2, 19)];
        let found = "run2 (pid 2, token 2) begins on GPU 1 before run1 (pid 1, token 1) ends";
        assert_eq!(findings(&notes), [found]);
    }

    #[test]
    fn a_process_without_an_end_is_found_by_the_next_one() {
        let mut next = begins(2, 9, &[0]);
        next.what = Moment::Begins { shared: vec![GpuIndex(0)] };
        let found = "run2 (pid 2, token 2) begins on GPU 0 beside a process";
        assert_eq!(findings(&[begins(1, 0, &[0]), next]), [found]);
    }

    #[test]
    fn a_token_that_goes_back_is_found() {
        let notes = [begins(2, 0, &[0]), ends(2, 10), begins(1, 11, &[0]), ends(1, 12)];
        let found = "the token goes back on GPU 0: run2 (pid 2, token 2), run1 (pid 1, token 1)";
        assert_eq!(findings(&notes), [found]);
    }

    #[test]
    fn a_command_that_runs_twice_under_one_lease_is_found() {
        let notes = [begins(1, 0, &[0]), ends(1, 1), begins(1, 2, &[0]), ends(1, 3)];
        let found = findings(&notes);
        assert!(found.contains(&"run1 (pid 1, token 1) ends twice".to_owned()), "{found:?}");
        assert!(found.iter().any(|one| one.starts_with("the token goes back")), "{found:?}");
    }
}
