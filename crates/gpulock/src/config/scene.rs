//! A stage for tests: a working folder with a `config.yml`, an environment, flags.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::{Config, ConfigError, Loaded, Origin, Sources};

/// A working folder with a `config.yml`, and the sources that see nothing else.
pub(super) struct Scene {
    pub(super) folder: TempDir,
    pub(super) sources: Sources,
}

impl Scene {
    pub(super) fn empty() -> Self {
        let folder = TempDir::new().unwrap();
        let sources = Sources { folder: Some(folder.path().to_owned()), ..Sources::default() };
        Self { folder, sources }
    }

    pub(super) fn with(content: impl AsRef<[u8]>) -> Self {
        let scene = Self::empty();
        scene.write("config.yml", content);
        scene
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn env<const N: usize>(mut self, variables: [(&str, &str); N]) -> Self {
        self.sources.environment = variables.into_iter().collect();
        self
    }

    pub(super) fn flags<const N: usize>(mut self, flags: [(&str, &str); N]) -> Self {
        self.sources.flags = flags.map(|(path, text)| (path.to_owned(), text.to_owned())).to_vec();
        self
    }

    pub(super) fn loaded(&self) -> Loaded {
        Config::load(&self.sources).unwrap()
    }

    pub(super) fn config(&self) -> Config {
        self.loaded().config
    }

    pub(super) fn error(&self) -> ConfigError {
        Config::load(&self.sources).unwrap_err()
    }

    /// The error's text with the folder cut out of it.
    pub(super) fn said(&self) -> String {
        let folder = format!("{}/", self.folder.path().display());
        self.error().to_string().replace(&folder, "")
    }

    pub(super) fn line(&self, line: usize) -> Origin {
        Origin::File { path: self.path("config.yml"), line }
    }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn value(config: &Config, path: &str) -> String {
    config.entries().into_iter().find(|entry| entry.path == path).unwrap().value
}
