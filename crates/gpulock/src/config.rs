//! What `config.yml`, the environment and the flags say, and where each value came from.
//!
//! [`Config::load`] puts the layers on each other: defaults, then the file, then the
//! environment, then the flags. All of them go through one table of keys
//! (`config/settings.rs`), from which the names of the environment variables, the listing
//! of [`Config::entries`] and the reference of [`reference()`] are derived too.

mod contradictions;
mod environment;
mod error;
mod fault;
mod file;
mod finding;
mod gpus;
mod interpolation;
mod key;
mod kind;
mod older_redis;
mod on_store_error;
mod origin;
mod outline;
mod raw;
mod reference;
#[cfg(test)]
mod scene;
mod server_token;
mod settings;
mod sources;
mod span;
mod store_url;
#[cfg(test)]
mod tests;
mod typed;
mod unexamined;
mod walk;
mod yaml;

use std::path::PathBuf;

pub use environment::Environment;
pub use error::ConfigError;
pub use finding::{Finding, Severity};
pub use gpus::Gpus;
pub use on_store_error::OnStoreError;
pub use origin::{Entry, Origin};
#[cfg(any(feature = "http", feature = "redis"))]
pub(crate) use outline::edit_distance;
pub use outline::nearest;
pub use reference::reference;
pub use server_token::{Role, Secret, ServerToken, TokenSecret};
pub use settings::{
    Cleanup, Compat, Config, GpuLock, HealthThresholds, Heartbeat, Monitor, Server, TimeoutLevels,
};
pub use sources::Sources;
pub use span::span;
pub use store_url::StoreUrl;
pub(crate) use store_url::masked;
pub use unexamined::{Objection, Unexamined};

use file::ConfigFile;
use key::{Key, Section};
use outline::Outline;
use raw::{Given, Raw, Wrong};

/// A configuration, and what its author should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective values.
    pub config: Config,
    /// The file that was read; `None` when there was none.
    pub file: Option<PathBuf>,
    /// What is allowed but looks like a mistake.
    pub warnings: Vec<Finding>,
}

impl Config {
    /// Reads the sources in their order: flags win over the environment, the environment
    /// over the file, the file over the defaults.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be read or understood, with its place.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let outline = Outline::new();
        let environment = &sources.environment;
        let file = ConfigFile::find(sources)?;
        let mut warnings = outline.misspelt_variables(environment);
        let mut given = Vec::new();
        if let Some(file) = &file {
            warnings.extend(file.misspelt_sections(&outline));
            given.extend(file.given(&outline, environment)?);
        }
        given.extend(environment.given(&outline)?);
        given.extend(sources.flags.iter().map(Given::by_flag));

        let mut config = Self::default();
        for one in given {
            config.set(&outline, one)?;
        }
        if let (None, Some(file)) = (&config.store, &file) {
            match older_redis::store(file, environment)? {
                older_redis::Found::Store(given) => config.set(&outline, given)?,
                older_redis::Found::NotOurs(warning) => warnings.push(warning),
                older_redis::Found::Nothing => {}
            }
        }
        let file = file.map(|file| file.path);
        Ok(Loaded { config, file, warnings })
    }

    /// Every key with its effective value and the origin of it, in the order of the
    /// reference. Secrets are masked.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |key: Key<'_>| Entry {
            value: key.slot.show(),
            origin: self.origin(&key.path),
            path: key.path,
        };
        self.clone().keys().into_iter().map(entry).collect()
    }

    /// Where the value of the key `path` came from.
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }

    fn keys(&mut self) -> Vec<Key<'_>> {
        let mut keys = Vec::new();
        self.add_keys("", &mut keys);
        keys
    }

    fn set(&mut self, outline: &Outline, given: Given) -> Result<(), ConfigError> {
        let Given { path, raw, origin } = given;
        let key = self.keys().into_iter().find(|key| key.path == path);
        match key.map(|mut key| key.slot.read(&raw)) {
            None => Err(outline.unknown(path, origin)),
            Some(Err(Wrong { reason, hint, line })) => {
                let place = origin.at_line(line);
                Err(ConfigError::WrongValue { key: path, place, reason, hint })
            }
            Some(Ok(())) => {
                if !matches!(raw, Raw::Empty) {
                    self.origins.insert(path, origin);
                }
                Ok(())
            }
        }
    }
}
