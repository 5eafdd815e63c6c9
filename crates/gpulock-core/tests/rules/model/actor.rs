//! An owner of the model: what it believes, and what it does when it hears an answer.

use gpulock_core::{GpuIndex, Reply, Time, Token};

use super::world::Word;

/// An owner, as it is and as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Actor {
    pub(super) stage: Stage,
    pub(super) alive: bool,
    pub(super) frozen: bool,
    pub(super) group_alive: bool,
    pub(super) rounds: u8,
}

/// What an owner believes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    Idle,
    /// It has asked, and knows of no grant.
    Asking,
    /// It knows of a grant, has a group ready, and has not heard that the claim went well.
    Claiming(Token),
    /// It works until `stop_at`, or its group does.
    Using {
        token: Token,
        gpus: Vec<GpuIndex>,
        stop_at: Time,
    },
    /// It has stopped its work, and still has to say so.
    Stopping(Token),
    /// It was told that the lease is no longer its own, and has stopped.
    Robbed,
    Done,
}

impl Actor {
    /// What an owner does before it says something.
    pub(super) fn prepare(&mut self, word: Word) {
        match (word, &self.stage) {
            (Word::Ask, _) => self.stage = Stage::Asking,
            // The group is there, and waits for the word to begin.
            (Word::Claim, _) => self.group_alive = true,
            (Word::Release, Stage::Using { token, .. }) => self.stage = Stage::Stopping(*token),
            _ => {}
        }
    }

    pub(super) fn hear(&mut self, word: Word, reply: Reply, supervised: bool) {
        let lost = match (word, reply) {
            (Word::Ask, Reply::Granted(lease)) if supervised => {
                self.stage = Stage::Claiming(lease.token);
                false
            }
            (Word::Ask | Word::Claim, Reply::Granted(lease)) => {
                let stop_at = lease.deadline().expect("a lease that was just picked up");
                self.stage = Stage::Using { token: lease.token, gpus: lease.gpus, stop_at };
                false
            }
            (Word::Renew, Reply::Renewed(answers)) => {
                match (answers[0].held.as_ref(), &mut self.stage) {
                    (Some((deadline, _)), Stage::Using { stop_at, .. }) => {
                        *stop_at = *deadline;
                        false
                    }
                    _ => true,
                }
            }
            (Word::Release | Word::Cancel, _) => {
                self.end_round();
                false
            }
            (_, Reply::Lost) => true,
            _ => false,
        };
        if lost {
            self.group_alive = false;
            self.stage = match self.stage {
                // Its work has stopped; that it says so frees the GPU.
                Stage::Using { token, .. } if !supervised => Stage::Stopping(token),
                _ => Stage::Robbed,
            };
            self.rounds = 0;
        }
    }

    pub(super) fn end_round(&mut self) {
        self.rounds = self.rounds.saturating_sub(1);
        self.stage = if self.rounds > 0 { Stage::Idle } else { Stage::Done };
    }

    /// Whoever is not frozen stops its work before its own deadline.
    pub(super) fn stop_in_time(&mut self, now: Time) {
        if let Stage::Using { token, stop_at, .. } = self.stage
            && self.alive
            && !self.frozen
            && stop_at <= now
        {
            self.group_alive = false;
            self.stage = Stage::Stopping(token);
        }
    }

    /// The process is gone. A group that was at work may go on; one that waited for the word
    /// to begin ends with it.
    pub(super) fn crash(&mut self) {
        (self.alive, self.frozen, self.rounds) = (false, false, 0);
        match &mut self.stage {
            Stage::Using { stop_at, .. } if self.group_alive => *stop_at = Time::default(),
            _ => self.lose_group(),
        }
    }

    pub(super) fn lose_group(&mut self) {
        self.group_alive = false;
        if !self.alive {
            self.stage = Stage::Done;
        }
    }
}

impl Stage {
    pub(super) fn token(&self) -> Token {
        match self {
            Self::Claiming(token) | Self::Using { token, .. } | Self::Stopping(token) => *token,
            Self::Idle | Self::Asking | Self::Robbed | Self::Done => Token::default(),
        }
    }
}
