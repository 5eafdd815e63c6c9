//! Where a client's work runs: on a thread of its own, or on the caller's runtime.

use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Runs heartbeats, waits and releases.
#[derive(Debug)]
pub(crate) enum Engine {
    /// A thread of its own, so that heartbeats go on whatever the caller does.
    Own {
        handle: Handle,
        /// Dropped to end the thread.
        stop: Option<oneshot::Sender<()>>,
        thread: Option<JoinHandle<()>>,
    },
    /// The caller's runtime, which must not be blocked.
    Callers(Handle),
}

impl Engine {
    /// Starts a thread with a runtime.
    pub(crate) fn own() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("gpulock".to_owned()).spawn(move || {
            // Ends when the other end is dropped, which is no error here.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self::Own { handle, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn handle(&self) -> &Handle {
        match self {
            Self::Own { handle, .. } | Self::Callers(handle) => handle,
        }
    }

    /// Whether the calling thread may wait for work of this engine.
    pub(crate) fn can_block(&self) -> bool {
        matches!(self, Self::Own { thread: Some(thread), .. }
            if thread.thread().id() != std::thread::current().id())
    }

    /// Runs `work` here while the calling thread waits. `None` if the engine has ended, or
    /// if waiting for it here would be waiting for oneself.
    pub(crate) fn block_on<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if !self.can_block() {
            return None;
        }
        let (done, result) = mpsc::sync_channel(1);
        self.handle().spawn(async move {
            // Nobody waits any more: then nobody wants the result.
            let _ = done.send(work.await);
        });
        result.recv().ok()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Self::Own { stop, thread, .. } = self {
            drop(stop.take());
            if let Some(thread) = thread.take()
                && thread.thread().id() != std::thread::current().id()
            {
                // It panicked only if a task did, and that was reported there.
                let _ = thread.join();
            }
        }
    }
}
