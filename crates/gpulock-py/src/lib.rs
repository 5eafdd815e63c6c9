//! The native half of the Python package `gpulock`; `python/gpulock/_gpulock.pyi` says what each
//! thing is for.
//!
//! - **One native thread** per process (`runtime.rs`) does all waiting and sends all heartbeats. It
//!   never takes the interpreter lock, so nothing that Python does can stall it, and no signal
//!   is delivered to it, so signals reach the main thread of Python.
//! - **Everything that takes time is an operation** (`operation.rs`): Python waits for it in a loop, or by its
//!   descriptor from an event loop.
//! - **A fork** (`fork.rs`) leaves the child nothing: what was made before belongs to the parent.

mod bell;
mod client;
mod failure;
mod fork;
mod heartbeat;
mod lease;
mod operation;
mod request;
mod runtime;
mod settings;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _gpulock {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::client::Client;
    #[pymodule_export]
    use super::failure::Failure;
    #[pymodule_export]
    use super::fork::{after_fork_in_child, after_fork_in_parent, before_fork};
    #[pymodule_export]
    use super::heartbeat::Heartbeat;
    #[pymodule_export]
    use super::lease::{Lease, LeaseState, Watch};
    #[pymodule_export]
    use super::operation::{Operation, Progress};
    #[pymodule_export]
    use super::runtime::shutdown;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
