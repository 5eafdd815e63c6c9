//! Where a configuration is looked for.

use std::fmt;
use std::path::PathBuf;

use super::environment::Environment;

/// Everything that a configuration is made of, as values: nothing else is looked at.
///
/// The default is empty: no flags, no environment, no file.
#[derive(Clone, Default)]
pub struct Sources {
    /// Keys set by flags, as path and text: `("gpu_lock.max_wait_time", "30m")`.
    pub flags: Vec<(String, String)>,
    /// The variables of the environment.
    pub environment: Environment,
    /// The file that `--config` names: it must exist.
    pub file: Option<PathBuf>,
    /// The working folder: relative names start here, and its `config.yml` is read.
    /// `None` means that there is none to look into.
    pub folder: Option<PathBuf>,
    /// The file of the host, read where no other is found.
    pub host_file: Option<PathBuf>,
}

impl Sources {
    /// The sources of this process: its environment, its working folder, and
    /// `/etc/gpulock/config.yml`. Flags and `--config` are the caller's to add.
    pub fn of_process() -> Self {
        Self {
            environment: Environment::of_process(),
            folder: std::env::current_dir().ok(),
            host_file: Some(PathBuf::from("/etc/gpulock/config.yml")),
            ..Self::default()
        }
    }
}

/// Flags and environment may hold secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: Vec<_> = self.flags.iter().map(|(path, _)| path).collect();
        f.debug_struct("Sources")
            .field("flags", &flags)
            .field("environment", &self.environment)
            .field("file", &self.file)
            .field("folder", &self.folder)
            .field("host_file", &self.host_file)
            .finish()
    }
}
