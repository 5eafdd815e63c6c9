//! Signs of life of tasks: also of those that use no GPU, and of those that wait for one.
//!
//! They are told for people and for the monitor. No lease depends on one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::LeaseId;
use crate::lease::Progress;
use crate::names::TaskName;
use crate::time::Time;

/// A sign of life of a task, with or without a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskBeat {
    /// Which task: here the name is an identity, and a second run of it takes its place.
    pub task_id: TaskName,
    /// What it is at.
    pub status: TaskStatus,
    /// How far it is, if it told.
    #[serde(default)]
    pub progress: Option<Progress>,
    /// The lease under which it runs, if it said so.
    #[serde(default)]
    pub lease: Option<LeaseId>,
    /// Where it runs.
    pub host: String,
    /// The process that runs it; `None` if that is not known.
    #[serde(default)]
    pub pid: Option<u32>,
    /// A new run of it: it starts now, whatever is remembered of an earlier one.
    #[serde(default)]
    pub begins: bool,
}

/// What a task is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// It works, or waits for its turn.
    Running,
    /// It has come to its end.
    Completed,
    /// It has failed.
    Failed,
}

/// What is remembered of a task: its last sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Which task.
    pub task_id: TaskName,
    /// What it was at.
    pub status: TaskStatus,
    /// How far it was, if it told.
    pub progress: Option<Progress>,
    /// The lease under which it ran, if it said so.
    pub lease: Option<LeaseId>,
    /// Where it ran.
    pub host: String,
    /// The process that ran it; `None` if that is not known.
    pub pid: Option<u32>,
    /// When this run gave its first sign of life.
    pub started_at: Time,
    /// When it gave the last one.
    pub updated_at: Time,
}

/// What the last sign of life of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskSign {
    /// It is at work.
    Active,
    /// It has been silent for too long.
    Dead,
    /// It says that it runs under a lease which is no longer the current one.
    Orphaned,
    /// It has completed or failed.
    Finished,
}

impl TaskRecord {
    /// What is remembered after this sign of life at `now`; `before`: what was until then.
    pub fn after(beat: TaskBeat, before: Option<Time>, now: Time) -> Self {
        let started_at = before.filter(|_| !beat.begins).unwrap_or(now);
        let TaskBeat { task_id, status, progress, lease, host, pid, begins: _ } = beat;
        Self { task_id, status, progress, lease, host, pid, started_at, updated_at: now }
    }

    /// What the record means at `now`. `is_current` tells whether a lease is the current one,
    /// and `timeout` how long a task may be silent.
    pub fn sign(
        &self,
        is_current: impl Fn(LeaseId) -> bool,
        now: Time,
        timeout: Duration,
    ) -> TaskSign {
        let is_orphaned = self.lease.is_some_and(|lease_id| !is_current(lease_id));
        match self.status {
            TaskStatus::Completed | TaskStatus::Failed => TaskSign::Finished,
            TaskStatus::Running if is_orphaned => TaskSign::Orphaned,
            TaskStatus::Running if now.since(self.updated_at) > timeout => TaskSign::Dead,
            TaskStatus::Running => TaskSign::Active,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn beat() -> TaskBeat {
        TaskBeat {
            task_id: "video-7".parse().unwrap(),
            status: TaskStatus::Running,
            progress: Some(Progress { basis_points: 4_500, message: "frame 100".to_owned() }),
            lease: None,
            host: "gpu1".to_owned(),
            pid: Some(4_242),
            begins: false,
        }
    }

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_run_keeps_its_start_until_another_begins() {
        let first = TaskRecord::after(beat(), None, at(10));
        assert_eq!((first.started_at, first.updated_at), (at(10), at(10)));
        let second = TaskRecord::after(beat(), Some(first.started_at), at(20));
        assert_eq!((second.started_at, second.updated_at), (at(10), at(20)));
        let again = TaskBeat { begins: true, ..beat() };
        let again = TaskRecord::after(again, Some(second.started_at), at(30));
        assert_eq!((again.started_at, again.updated_at), (at(30), at(30)));
    }

    #[test]
    fn a_sign_says_what_it_means() {
        let current = LeaseId::from_bits(1);
        let over = LeaseId::from_bits(2);
        for (status, lease, silent_for, sign) in [
            (TaskStatus::Running, None, 0, TaskSign::Active),
            (TaskStatus::Running, None, 30, TaskSign::Active),
            (TaskStatus::Running, None, 31, TaskSign::Dead),
            (TaskStatus::Running, Some(current), 30, TaskSign::Active),
            (TaskStatus::Running, Some(current), 31, TaskSign::Dead),
            (TaskStatus::Running, Some(over), 0, TaskSign::Orphaned),
            (TaskStatus::Running, Some(over), 31, TaskSign::Orphaned),
            (TaskStatus::Completed, Some(over), 31, TaskSign::Finished),
            (TaskStatus::Failed, None, 31, TaskSign::Finished),
        ] {
            let record = TaskRecord::after(TaskBeat { status, lease, ..beat() }, None, at(100));
            let told = record.sign(|lease_id| lease_id == current, at(100 + silent_for), TIMEOUT);
            assert_eq!(told, sign, "{status:?} {lease:?} {silent_for}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_dead() {
        let record = TaskRecord::after(beat(), None, at(1_000));
        assert_eq!(record.sign(|_| true, at(1), TIMEOUT), TaskSign::Active);
    }
}
