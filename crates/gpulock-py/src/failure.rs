//! What the native half could not do, as Python sees it.

use gpulock::config::ConfigError;
use gpulock::core::Refusal;
use gpulock::store::StoreError;
use gpulock::{Error, Holder};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

create_exception!(gpulock._gpulock, Failure, PyException, "What the native half could not do.");

/// A failure on its way to Python.
#[derive(Debug)]
pub(crate) struct Trouble {
    kind: &'static str,
    message: String,
    hint: Option<String>,
    details: Details,
}

/// What is known beside the message.
#[derive(Debug)]
enum Details {
    None,
    NotAcquired(Box<gpulock::NotAcquired>),
    Duplicate(Box<gpulock::Duplicate>),
    /// Whether the store answered, and with an error.
    Store {
        answered: bool,
    },
}

impl Trouble {
    pub(crate) fn start(reason: &str) -> Self {
        Self::plain("start", format!("the native thread cannot be started: {reason}"), None)
    }

    pub(crate) fn not_owner(what: &str, pid: u32) -> Self {
        let message = format!("this {what} belongs to process {pid}, of which this one is a child");
        let hint = "open or ask for one of your own after the fork";
        Self::plain("not_owner", message, Some(hint.to_owned()))
    }

    pub(crate) fn called_off() -> Self {
        Self::plain("called_off", "the wait was called off".to_owned(), None)
    }

    fn plain(kind: &'static str, message: String, hint: Option<String>) -> Self {
        Self { kind, message, hint, details: Details::None }
    }

    /// What `gpulock` ends with for the same error, see docs/reference/exit-codes.md.
    fn code(&self) -> i32 {
        match self.kind {
            "refused" => 64,
            "config" => 65,
            "store" => 69,
            "timeout" | "duplicate" => 75,
            "lost" | "not_owner" => 76,
            _ => 70,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        let kind = match &error {
            Error::Store(StoreError::BadUrl { .. }) => "config",
            Error::Store(_) => "store",
            Error::NotAcquired(_) | Error::Refused(Refusal::Closed { .. }) => "timeout",
            Error::Refused(_) | Error::Name(_) => "refused",
            Error::Duplicate(_) => "duplicate",
            Error::Lost(_) => "lost",
            Error::NoLockKeys => "config",
            Error::Driver(_) => "driver",
            Error::CalledOff => "called_off",
            Error::Start(_) => "start",
        };
        let details = match error {
            Error::NotAcquired(refused) => Details::NotAcquired(refused),
            Error::Duplicate(other) => Details::Duplicate(other),
            Error::Store(error) => Details::Store { answered: !error.is_transient() },
            _ => Details::None,
        };
        Self { kind, message, hint, details }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Error::Store(error).into()
    }
}

impl From<ConfigError> for Trouble {
    fn from(error: ConfigError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let message = format!("failed to {error}{}", cause.unwrap_or_default());
        Self::plain("config", message, error.hint())
    }
}

impl From<Trouble> for PyErr {
    fn from(trouble: Trouble) -> Self {
        Python::attach(|py| match raise(py, trouble) {
            Ok(error) | Err(error) => error,
        })
    }
}

/// Something that this package itself should not have done.
pub(crate) fn misuse(what: &'static str) -> PyErr {
    PyRuntimeError::new_err(what)
}

fn raise(py: Python<'_>, trouble: Trouble) -> PyResult<PyErr> {
    let code = trouble.code();
    let details = details(py, &trouble.details)?;
    let Trouble { kind, message, hint, .. } = trouble;
    let arguments = (kind, message.clone(), hint.clone(), code, details.clone().unbind());
    let error = Failure::new_err(arguments);
    let value = error.value(py);
    value.setattr("kind", kind)?;
    value.setattr("message", message)?;
    value.setattr("hint", hint)?;
    value.setattr("code", code)?;
    value.setattr("details", details)?;
    Ok(error)
}

fn details<'py>(py: Python<'py>, known: &Details) -> PyResult<Bound<'py, PyDict>> {
    let details = PyDict::new(py);
    match known {
        Details::None => {}
        Details::NotAcquired(refused) => {
            details.set_item("waited", refused.waited.map(|span| span.as_secs_f64()))?;
            details.set_item("position", refused.ahead + 1)?;
            let holders: PyResult<Vec<_>> =
                refused.holders.iter().map(|holder| describe(py, holder)).collect();
            details.set_item("holder", PyList::new(py, holders?)?)?;
            details.set_item("closed_for", refused.closed_for.map(|span| span.as_secs_f64()))?;
        }
        Details::Duplicate(duplicate) => {
            details.set_item("holder", PyList::new(py, [describe(py, &duplicate.other)?])?)?;
            details.set_item("waits", duplicate.waits)?;
        }
        Details::Store { answered } => details.set_item("answered", answered)?,
    }
    Ok(details)
}

fn describe<'py>(py: Python<'py>, holder: &Holder) -> PyResult<Bound<'py, PyDict>> {
    let about = PyDict::new(py);
    about.set_item("task", &holder.task)?;
    about.set_item("host", &holder.host)?;
    about.set_item("pid", holder.pid)?;
    let gpus: Vec<u32> = holder.gpus.iter().map(|gpu| gpu.0).collect();
    about.set_item("gpus", gpus)?;
    about.set_item("held_for", holder.held_for.as_secs_f64())?;
    about.set_item("draining", holder.draining)?;
    Ok(about)
}
