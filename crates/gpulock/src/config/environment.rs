//! The environment as a value, and what it says about our keys.

use std::collections::BTreeMap;
use std::fmt;

use super::error::ConfigError;
use super::origin::Origin;
use super::outline::Outline;
use super::raw::{Given, Raw};

/// The variables of an environment. `Debug` shows their names alone.
#[derive(Clone, Default, PartialEq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process. Text that is not UTF-8 is kept as far as it is, and
    /// refused where a value is made of it.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The text of a variable, also an empty one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Those of the variables that have one of these names.
    pub(super) fn only(&self, names: &[&str]) -> Self {
        names.iter().filter_map(|name| Some((*name, self.text(name)?))).collect()
    }

    /// The text of a variable; an empty one counts as not set, since many tools that pass
    /// variables on cannot leave them out.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.trim().is_empty())
    }

    /// The keys that variables set.
    ///
    /// # Errors
    ///
    /// A variable that stands for a key inside a section of ours that does not exist.
    /// Other unknown `GPULOCK_` names are none of our business: several of them speak to
    /// the child of `gpulock run`.
    pub(super) fn given(&self, outline: &Outline) -> Result<Vec<Given>, ConfigError> {
        let mut given = Vec::new();
        for (variable, path) in self.paths() {
            let origin = Origin::Environment { variable: variable.to_owned() };
            if outline.has_key(&path) {
                if let Some(text) = self.value(variable) {
                    given.push(Given { path, raw: Raw::from_text(text), origin });
                }
            } else if path.split_once('.').is_some_and(|(first, _)| outline.has_section(first)) {
                return Err(outline.unknown(path, origin));
            }
        }
        Ok(given)
    }

    /// Each variable whose name is built like that of a key, with the path of that key.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.keys().filter_map(|variable| {
            let name = variable.strip_prefix("GPULOCK_")?;
            let capitals = !name.contains(|c: char| c.is_ascii_lowercase());
            capitals.then(|| (variable.as_str(), name.to_ascii_lowercase().replace("__", ".")))
        })
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::scene::Scene;
    use crate::config::{Config, ConfigError, key};

    #[test]
    fn every_key_is_set_by_its_environment_variable() {
        for entry in Config::default().entries() {
            let scene = Scene::empty().env([(&*key::variable(&entry.path), "\u{1}")]);
            let ConfigError::WrongValue { key, .. } = scene.error() else {
                panic!("{} takes anything", entry.path)
            };
            assert_eq!(key, entry.path);
        }
    }

    #[test]
    fn unknown_variables_in_sections_of_ours_are_errors_and_all_others_are_not() {
        let scene = Scene::empty().env([("GPULOCK_GPU_LOCK__POL_INTERVAL", "1")]);
        assert_eq!(
            scene.said(),
            "understand environment variable GPULOCK_GPU_LOCK__POL_INTERVAL: there is no key \
         `gpu_lock.pol_interval`; the nearest is `GPULOCK_GPU_LOCK__POLL_INTERVAL`"
        );
        let loaded = Scene::empty()
            .env([
                ("GPULOCK_LEASE_ID", "x"),
                ("GPULOCK_TOKEN", "9"),
                ("GPULOCK_HTTP_TOKEN", "x"),
                ("GPULOCK_DISABLED", "1"),
                ("GPULOCK_OTHER__THING", "1"),
                ("GPULOCK_GPU_LOCK", "1"),
                ("gpulock_pool", "x"),
                ("GPULOCK_POOL", ""),
            ])
            .loaded();
        assert_eq!((loaded.config, loaded.warnings), (Config::default(), Vec::new()));
        let loaded = Scene::empty().env([("GPULOCK_GPULOCK__POLL_INTERVAL", "1")]).loaded();
        assert!(loaded.warnings[0].message.contains("`gpu_lock`"), "{:?}", loaded.warnings);
    }
}
