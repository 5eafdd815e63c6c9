//! What Python asks for, checked at the border.

use std::time::Duration;

use gpulock::RequestBuilder;
use gpulock::core::{GpuRef, LeaseId, Priority, TaskName};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::client::{id, task_name};

/// Which GPUs.
enum Gpus {
    Any(u32),
    These(Vec<GpuRef>),
}

/// A request as Python made it.
pub(crate) struct Asked {
    task: TaskName,
    gpus: Gpus,
    priority: Priority,
    max_wait: Option<Duration>,
    forever: bool,
    poll_interval: Option<Duration>,
    heartbeat_interval: Option<Duration>,
    heartbeat_timeout: Option<Duration>,
    fixed_term: Option<Duration>,
    store_patience: Option<Duration>,
    inside: Vec<LeaseId>,
    lease_id: Option<LeaseId>,
    run: Option<u64>,
    comes_back_within: Option<Duration>,
    /// Begin with the first wait.
    pub(crate) lazily: bool,
}

impl Asked {
    /// Reads the arguments of `Client.request`.
    pub(crate) fn read(
        task: &str,
        gpus: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut asked = Self {
            task: task_name(task)?,
            gpus: read_gpus(gpus)?,
            priority: Priority::Normal,
            max_wait: None,
            forever: false,
            poll_interval: None,
            heartbeat_interval: None,
            heartbeat_timeout: None,
            fixed_term: None,
            store_patience: None,
            inside: Vec::new(),
            lease_id: None,
            run: None,
            comes_back_within: None,
            lazily: false,
        };
        for (name, value) in options.into_iter().flatten() {
            if !value.is_none() {
                asked.set(name.extract::<String>()?.as_str(), &value)?;
            }
        }
        asked.check()?;
        Ok(asked)
    }

    /// What means nothing without something else.
    fn check(&self) -> PyResult<()> {
        let wrong = match (self.lease_id, self.run, self.comes_back_within) {
            (Some(_), None, _) | (None, Some(_), _) => "lease_id and run go together",
            (None, None, Some(_)) => "comes_back_within needs a lease_id to come back with",
            _ => return Ok(()),
        };
        Err(PyValueError::new_err(wrong))
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match name {
            "priority" => self.priority = priority(value)?,
            "max_wait" => self.max_wait = Some(seconds(name, value)?),
            "lazily" => self.lazily = value.extract()?,
            "forever" => self.forever = value.extract()?,
            "poll_interval" => self.poll_interval = Some(seconds(name, value)?),
            "heartbeat_interval" => self.heartbeat_interval = Some(seconds(name, value)?),
            "heartbeat_timeout" => self.heartbeat_timeout = Some(seconds(name, value)?),
            "fixed_term" => self.fixed_term = Some(seconds(name, value)?),
            "store_patience" => self.store_patience = Some(seconds(name, value)?),
            "inside" => {
                let names: Vec<String> = value.extract()?;
                self.inside = names.iter().map(|name| id(name)).collect::<PyResult<_>>()?;
            }
            "lease_id" => self.lease_id = Some(id(&value.extract::<String>()?)?),
            "run" => self.run = Some(value.extract()?),
            "comes_back_within" => self.comes_back_within = Some(seconds(name, value)?),
            other => {
                let message = format!("request() has no argument {other:?}");
                return Err(PyTypeError::new_err(message));
            }
        }
        Ok(())
    }

    /// The request as one of this client.
    pub(crate) fn of(self, client: &gpulock::Client) -> RequestBuilder {
        let mut request =
            client.request(self.task).priority(self.priority).inside(self.inside).watched();
        request = match self.gpus {
            Gpus::Any(count) => request.any(count),
            Gpus::These(gpus) => request.named(gpus),
        };
        if let Some(span) = self.poll_interval {
            request = request.polls_after(span);
        }
        if let Some(term) = self.fixed_term {
            request = request.fixed_term(term);
        } else if let Some(timeout) = self.heartbeat_timeout {
            // Two may be lost on the way.
            let interval = self.heartbeat_interval.unwrap_or(timeout / 3);
            request = request.heartbeats(interval, timeout);
        } else if let Some(interval) = self.heartbeat_interval {
            request = request.heartbeat_interval(interval);
        }
        if let (Some(lease_id), Some(run)) = (self.lease_id, self.run) {
            request = request.lease_id(lease_id, run);
        }
        request = match (self.max_wait, self.forever) {
            (_, true) => request.max_wait(Duration::MAX),
            (Some(Duration::ZERO), _) => request.no_wait(),
            (Some(span), _) => request.max_wait(span),
            (None, _) => request,
        };
        if let Some(span) = self.comes_back_within {
            request = request.comes_back_within(span);
        }
        match self.store_patience {
            Some(patience) => request.store_patience(patience),
            None => request,
        }
    }
}

fn read_gpus(gpus: &Bound<'_, PyAny>) -> PyResult<Gpus> {
    if let Ok(names) = gpus.extract::<Vec<String>>() {
        let parse = |name: &String| {
            name.parse().map_err(|error| PyValueError::new_err(format!("{error}: {name:?}")))
        };
        return Ok(Gpus::These(names.iter().map(parse).collect::<PyResult<_>>()?));
    }
    let count = gpus.extract::<u32>().map_err(|_| {
        PyValueError::new_err("gpus is a count from 1 on, or a list of indices and UUIDs")
    })?;
    Ok(Gpus::Any(count))
}

fn priority(value: &Bound<'_, PyAny>) -> PyResult<Priority> {
    let name: String = value.extract()?;
    match name.as_str() {
        "low" => Ok(Priority::Low),
        "normal" => Ok(Priority::Normal),
        "high" => Ok(Priority::High),
        "urgent" => Ok(Priority::Urgent),
        other => Err(PyValueError::new_err(format!(
            "priority is one of low, normal, high, urgent, not {other:?}"
        ))),
    }
}

fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = value.extract()?;
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!("{name} is a number of seconds from 0 on, not {seconds}"))
    })
}
