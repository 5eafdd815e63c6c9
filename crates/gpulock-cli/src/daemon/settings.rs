//! The configuration of a running daemon: read again when its file changes or somebody asks,
//! and kept as it was if the new one makes no sense.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gpulock::config::Config;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::Cli;
use crate::exit::Failure;
use crate::session::Session;

/// Between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// Keys that count only at the start.
const AT_START: [&str; 6] = [
    "store",
    "pool",
    "server.listen",
    "server.job_mapping_dir",
    "gpu_lock_monitor.heartbeat.interval",
    "gpu_lock_monitor.heartbeat.timeout",
];

/// The configuration in force.
#[derive(Debug)]
pub(crate) struct Settings {
    cli: Cli,
    file: Option<PathBuf>,
    current: watch::Sender<Arc<Config>>,
}

impl Settings {
    /// Begins with what the session has read.
    pub(crate) fn new(cli: Cli, session: &Session) -> Self {
        let (current, _) = watch::channel(Arc::new(session.config().clone()));
        Self { cli, file: session.loaded.file.clone(), current }
    }

    /// What is in force now.
    pub(crate) fn current(&self) -> Arc<Config> {
        Arc::clone(&self.current.borrow())
    }

    /// What is in force, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Config>> {
        self.current.subscribe()
    }

    /// Reads the configuration again, and says whether it has changed. `accept` looks at what
    /// it refers to.
    fn reload(&self, accept: impl FnOnce(&Config) -> Result<(), Failure>) -> Result<bool, Failure> {
        let config = Session::load(&self.cli)?.loaded.config;
        accept(&config)?;
        let old = self.current();
        for key in AT_START.into_iter().filter(|key| shown(&old, key) != shown(&config, key)) {
            tracing::warn!("the new value of `{key}` counts when gpulock serve is started again");
        }
        let has_changed = *old != config;
        if has_changed {
            self.current.send_replace(Arc::new(config));
        }
        Ok(has_changed)
    }

    /// Reads the configuration again at each of `hang_ups` and each change of its file, until
    /// `shutdown`. One that makes no sense, or that `accept` refuses, is reported; the old one
    /// stays in force.
    pub(crate) async fn follow(
        &self,
        shutdown: &CancellationToken,
        mut hang_ups: Option<Signal>,
        mut accept: impl FnMut(&Config) -> Result<(), Failure>,
    ) {
        // The first look reads it in any case: it may have changed since the start.
        let mut known = None;
        loop {
            let asked = async {
                match &mut hang_ups {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            let is_asked = tokio::select! {
                _ = asked => true,
                () = tokio::time::sleep(LOOK) => false,
                () = shutdown.cancelled() => return,
            };
            let present = self.file.as_deref().and_then(Stamp::of);
            if is_asked || (present.is_some() && present != known) {
                known = present;
                match self.reload(&mut accept) {
                    Ok(has_changed) if has_changed || is_asked => {
                        tracing::info!("the configuration was read again");
                    }
                    Ok(_) => {}
                    Err(failure) => tracing::error!(
                        "the new configuration is refused, the old one stays: {failure}"
                    ),
                }
            }
        }
    }
}

fn shown(config: &Config, key: &str) -> Option<String> {
    config.entries().into_iter().find(|entry| entry.path == key).map(|entry| entry.value)
}

/// What tells one version of a file from another.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// `None` while there is no such file: an editor may be about to put it there.
    fn of(file: &Path) -> Option<Self> {
        let meta = fs::metadata(file).ok()?;
        Some(Self { inode: meta.ino(), length: meta.len(), modified: meta.modified().ok() })
    }
}
