//! What is remembered of tasks: a hash, and who has been silent longest.

use std::sync::LazyLock;

use gpulock_core::{PoolName, TaskBeat, TaskName, TaskRecord};

use super::link::Script;
use super::{RedisStore, json, reply, script};
use crate::store::{StoreError, latest_first};

static BEAT: LazyLock<Script> = LazyLock::new(|| script(include_str!("beat.lua")));

static FORGET: LazyLock<Script> = LazyLock::new(|| script(include_str!("forget.lua")));

impl RedisStore {
    pub(super) async fn write_beat(
        &self,
        pool: &PoolName,
        beat: &TaskBeat,
    ) -> Result<TaskRecord, StoreError> {
        let mut call = BEAT.call(&self.keys.record_and_tasks(pool));
        call.arg(beat.task_id.as_str())
            .arg(if beat.begins { "begins" } else { "" })
            .arg(json(beat));
        let answered = self.link.run(&BEAT, call).await?;
        reply::written_beat(answered.value, beat.clone()).map_err(|wrong| self.misread(wrong))
    }

    /// The latest sign of life first.
    pub(super) async fn task_records(
        &self,
        pool: &PoolName,
    ) -> Result<Vec<TaskRecord>, StoreError> {
        let mut all = redis::cmd("HGETALL");
        all.arg(self.keys.tasks(pool));
        let answer = self.link.ask(all).await?;
        let mut records = reply::tasks(answer.value).map_err(|wrong| self.misread(wrong))?;
        latest_first(&mut records);
        Ok(records)
    }

    /// `false` if nothing was remembered of it.
    pub(super) async fn forget_task(
        &self,
        pool: &PoolName,
        task_id: &TaskName,
    ) -> Result<bool, StoreError> {
        let mut call = FORGET.call(&self.keys.record_and_tasks(pool));
        call.arg(task_id.as_str());
        let answered = self.link.run(&FORGET, call).await?;
        let removed = reply::count(&answered.value).map_err(|wrong| self.misread(wrong))?;
        Ok(removed > 0)
    }
}
