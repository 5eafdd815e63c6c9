//! Signs of life of a task, which go on in the background.

use std::mem::ManuallyDrop;
use std::sync::Mutex;
use std::time::Duration;

use gpulock::core::{Progress, TaskBeat, TaskStatus};
use gpulock::{KeptTask, LastWord};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::client::{id, task_name};
use crate::failure::{Trouble, misuse};
use crate::fork::{Home, lock};
use crate::operation::{Gain, Operation};
use crate::runtime;

/// A task that is told of again and again.
#[pyclass(frozen, module = "gpulock._gpulock")]
pub(crate) struct Heartbeat {
    /// `None` once it has ended.
    kept: ManuallyDrop<Mutex<Option<KeptTask>>>,
    home: Home,
}

impl Heartbeat {
    pub(crate) fn begin(
        client: &gpulock::Client,
        beat: TaskBeat,
        interval: Duration,
    ) -> Result<Self, Trouble> {
        // It may have ended, and nothing may be begun at the end of the interpreter.
        runtime::handle()?;
        let kept = Mutex::new(Some(client.keep_task(beat, interval)));
        Ok(Self { kept: ManuallyDrop::new(kept), home: Home::here() })
    }

    fn here(&self) -> Result<&Mutex<Option<KeptTask>>, Trouble> {
        self.home.require("heartbeat").map(|()| &*self.kept)
    }
}

#[pymethods]
impl Heartbeat {
    #[pyo3(signature = (progress = None, message = None))]
    fn tell(&self, progress: Option<f64>, message: Option<String>) -> PyResult<()> {
        if let Some(kept) = &*lock(self.here()?) {
            kept.tell(how_far(progress, message));
        }
        Ok(())
    }

    fn trouble(&self) -> PyResult<Option<String>> {
        Ok(lock(self.here()?).as_ref().and_then(KeptTask::trouble))
    }

    #[pyo3(signature = (status = None, progress = None, message = None))]
    fn end(
        &self,
        status: Option<&str>,
        progress: Option<f64>,
        message: Option<String>,
    ) -> PyResult<Operation> {
        let last = match status {
            Some(text) => LastWord::Ended(self::status(text)?, how_far(progress, message)),
            None => LastWord::Forget,
        };
        let handle = runtime::handle()?;
        let kept = lock(self.here()?).take();
        let kept = kept.ok_or_else(|| misuse("the heartbeat has ended already"))?;
        Ok(Operation::begin(&handle, async move { Ok(Gain::Flag(kept.end(last).await?)) }))
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if self.home != Home::here() {
            return;
        }
        // SAFETY: `self` is being dropped, so it is not used again.
        #[expect(unsafe_code, reason = "in a forked child it must not be dropped")]
        unsafe {
            ManuallyDrop::drop(&mut self.kept);
        }
    }
}

/// What Python says of a task of this process.
pub(crate) fn read_beat(
    task_id: &str,
    told_status: &str,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<TaskBeat> {
    let owner = gpulock::process::this_owner("");
    let mut beat = TaskBeat {
        task_id: task_name(task_id)?,
        status: status(told_status)?,
        progress: None,
        lease: None,
        host: owner.host,
        pid: Some(std::process::id()),
        begins: false,
    };
    let (mut progress, mut message) = (None, None);
    for (name, value) in options.into_iter().flatten() {
        match name.extract::<String>()?.as_str() {
            "progress" => progress = value.extract()?,
            "message" => message = value.extract()?,
            "lease_id" => beat.lease = value.extract::<Option<&str>>()?.map(id).transpose()?,
            "begins" => beat.begins = value.extract()?,
            other => {
                let text = format!("a heartbeat has no option '{other}'");
                return Err(PyTypeError::new_err(text));
            }
        }
    }
    beat.progress = how_far(progress, message);
    Ok(beat)
}

fn status(text: &str) -> PyResult<TaskStatus> {
    match text {
        "running" => Ok(TaskStatus::Running),
        "completed" => Ok(TaskStatus::Completed),
        "failed" => Ok(TaskStatus::Failed),
        other => Err(PyValueError::new_err(format!(
            "a status is one of running, completed, failed, not '{other}'"
        ))),
    }
}

/// `None` if nothing is said of it.
fn how_far(percent: Option<f64>, message: Option<String>) -> Option<Progress> {
    if percent.is_none() && message.is_none() {
        return None;
    }
    let basis_points = (percent.unwrap_or(0.0).clamp(0.0, 100.0) * 100.0).round() as u16;
    Some(Progress { basis_points, message: message.unwrap_or_default() })
}
