//! The configuration file: finding it, reading it, and the keys that it gives.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment::Environment;
use super::error::ConfigError;
use super::finding::Finding;
use super::interpolation::{self, Unresolved};
use super::origin::Origin;
use super::outline::Outline;
use super::raw::{Given, Item, Raw};
use super::sources::Sources;
use super::unexamined::Unexamined;
use super::walk::{self, Walk};
use super::yaml::{self, Content, Entries, Malformed, Node};

/// Largest file that is read, in bytes.
pub(super) const LARGEST_FILE: u64 = 1024 * 1024;

/// A file that was read and is a mapping.
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    /// Keys and values of the top; also those of other programs.
    entries: Entries,
}

impl ConfigFile {
    /// Finds and reads the file that counts: the one that the caller or `GPULOCK_CONFIG`
    /// names, which must exist, else `config.yml` of the working folder, else that of the
    /// host.
    pub(super) fn find(sources: &Sources) -> Result<Option<Self>, ConfigError> {
        let variable = sources.environment.value("GPULOCK_CONFIG").map(PathBuf::from);
        if let Some(named) = sources.file.clone().or(variable) {
            let path = sources.folder.as_deref().unwrap_or(Path::new("")).join(named);
            return Self::read(path).map(Some);
        }
        let here = sources.folder.as_ref().map(|folder| folder.join("config.yml"));
        for path in here.into_iter().chain(sources.host_file.clone()) {
            match Self::read(path) {
                Err(ConfigError::Unreadable { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                read => return read.map(Some),
            }
        }
        Ok(None)
    }

    fn read(path: PathBuf) -> Result<Self, ConfigError> {
        let mut bytes = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
        if let Err(source) = read {
            return Err(ConfigError::Unreadable { path, source });
        }
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(ConfigError::TooLarge { path });
        }
        let malformed = |Malformed { line, reason, hint }| {
            let place = Origin::File { path: path.clone(), line };
            ConfigError::Malformed { place, reason, hint }
        };
        let entries = entries(&bytes).map_err(malformed)?;
        Ok(Self { path, entries })
    }

    /// The keys that the sections of ours give.
    pub(super) fn given(
        &self,
        outline: &Outline,
        environment: &Environment,
    ) -> Result<Vec<Given>, ConfigError> {
        Walk::new(self, outline, environment).through(&self.entries)
    }

    /// Warnings for keys of the top that are nearly ours.
    pub(super) fn misspelt_sections(&self, outline: &Outline) -> Vec<Finding> {
        let misspelt = |key: &Node| outline.misspelt(&walk::visible(key.text()?), self.place(key));
        self.entries.iter().filter_map(|(key, _)| misspelt(key)).collect()
    }

    /// A section of the top, with its key.
    pub(super) fn section(&self, name: &str) -> Option<(&Node, &Arc<Node>)> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|(key, _)| key.text() == Some(name));
        entry.map(|(key, value)| (key.as_ref(), value))
    }

    pub(super) fn place(&self, node: &Node) -> Origin {
        Origin::File { path: self.path.clone(), line: node.line }
    }

    /// What is written as the value of the key `path`.
    pub(super) fn raw(
        &self,
        path: &str,
        value: &Arc<Node>,
        environment: &Environment,
    ) -> Result<Raw, ConfigError> {
        if value.tagged {
            let hint = "write the value itself, or ${NAME} to take it from the environment";
            return Err(self.wrong(path, value, "has a tag, which has no meaning here", hint));
        }
        match &value.content {
            Content::Scalar { .. } if value.is_null() => Ok(Raw::Empty),
            Content::Scalar { text, .. } => {
                Ok(Raw::from_text(&self.complete(path, value, text, environment)?))
            }
            Content::Mapping(_) => {
                let file = self.path.clone();
                Ok(Raw::Mapping(Unexamined::new(path, file, value, environment)))
            }
            Content::List(items) => {
                let item = |item: &Arc<Node>| match item.text() {
                    Some(text) => {
                        let text = self.complete(path, item, text, environment)?;
                        Ok(Item { text: text.trim().to_owned(), line: item.line })
                    }
                    None => Err(self.wrong(
                        path,
                        item,
                        "has an item that is not a single text",
                        "write each item as one text, without a blank after a colon",
                    )),
                };
                Ok(Raw::List(items.iter().map(item).collect::<Result<_, _>>()?))
            }
        }
    }

    pub(super) fn wrong(&self, path: &str, at: &Node, reason: &str, hint: &str) -> ConfigError {
        ConfigError::WrongValue {
            key: path.to_owned(),
            place: self.place(at),
            reason: reason.to_owned(),
            hint: hint.to_owned(),
        }
    }

    fn complete(
        &self,
        path: &str,
        at: &Node,
        text: &str,
        environment: &Environment,
    ) -> Result<String, ConfigError> {
        completed(text, environment, path, self.place(at))
    }
}

/// The text of the key's value with its variables replaced.
pub(super) fn completed(
    text: &str,
    environment: &Environment,
    key: &str,
    place: Origin,
) -> Result<String, ConfigError> {
    let key = key.to_owned();
    interpolation::complete(text, environment).map_err(|unresolved| match unresolved {
        Unresolved::Unset(variable) => {
            ConfigError::UnsetVariable { key, place, variable: variable.to_owned() }
        }
        Unresolved::Malformed => ConfigError::WrongValue {
            key,
            place,
            reason: "holds a `${` that does not begin a reference".to_owned(),
            hint: "write ${NAME} or ${NAME:default}; $${ stands for the signs themselves"
                .to_owned(),
        },
    })
}

fn entries(bytes: &[u8]) -> Result<Entries, Malformed> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let valid = &bytes[..error.valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        Malformed::new(line, "it is not UTF-8 text", "save it as UTF-8")
    })?;
    let Some(root) = yaml::parse(text.trim_start_matches('\u{feff}'))? else {
        return Ok(Vec::new());
    };
    match &root.content {
        Content::Mapping(entries) => Ok(entries.clone()),
        _ => Err(Malformed::new(
            root.line,
            "it is not a mapping of keys to values",
            "write lines such as `pool: default`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::scene::Scene;
    use crate::config::{Config, Environment};

    #[test]
    fn files_are_looked_for_in_their_order() {
        let mut scene = Scene::empty();
        for name in ["given.yml", "variable.yml", "config.yml", "host.yml"] {
            scene.write(name, format!("pool: {}", name.trim_end_matches(".yml")));
        }
        scene.sources.host_file = Some(scene.path("host.yml"));
        scene.sources.file = Some("given.yml".into());
        let mut scene = scene.env([("GPULOCK_CONFIG", "variable.yml")]);
        assert_eq!(scene.config().pool, "given");
        scene.sources.file = None;
        assert_eq!(scene.config().pool, "variable");
        let scene = scene.env([("GPULOCK_CONFIG", "")]);
        assert_eq!(scene.config().pool, "config");
        assert_eq!(scene.loaded().file, Some(scene.path("config.yml")));
        fs::remove_file(scene.path("config.yml")).unwrap();
        assert_eq!(scene.config().pool, "host");
        fs::remove_file(scene.path("host.yml")).unwrap();
        assert_eq!(scene.loaded().file, None);
    }

    #[test]
    fn a_named_file_must_exist() {
        let mut scene = Scene::empty().env([("GPULOCK_CONFIG", "none.yml")]);
        assert_eq!(scene.said(), "read the configuration file none.yml");
        assert!(scene.error().hint().unwrap().contains("GPULOCK_CONFIG"));
        scene.sources.environment = Environment::default();
        scene.sources.file = Some("none.yml".into());
        assert_eq!(scene.said(), "read the configuration file none.yml");
    }

    #[test]
    fn a_folder_in_place_of_the_file_is_an_error_with_a_way_out() {
        let scene = Scene::empty();
        fs::create_dir(scene.path("config.yml")).unwrap();
        assert!(scene.error().hint().unwrap().starts_with("name the file inside it"));
    }

    #[test]
    fn an_unreadable_file_is_an_error_and_not_passed_over() {
        let scene = Scene::empty();
        // A link to itself cannot be opened by anybody, root included.
        std::os::unix::fs::symlink("config.yml", scene.path("config.yml")).unwrap();
        assert!(matches!(scene.error(), ConfigError::Unreadable { .. }));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_with_their_line() {
        let message = Scene::with(b"pool: a\n# \xff\n").said();
        assert_eq!(message, "understand config.yml:2: it is not UTF-8 text");
    }

    #[test]
    fn empty_files_and_sections_are_fine() {
        for file in [
            "",
            "\n",
            "# nothing\n",
            "---\n",
            "\u{feff}pool: default\r\n",
            "gpu_lock:\nserver: {}\nstore:\n",
            "~",
        ] {
            let mut config = Scene::with(file).config();
            config.origins.clear();
            assert_eq!(config, Config::default(), "{file:?}");
        }
    }

    #[test]
    fn a_giant_file_is_refused_before_it_is_understood() {
        let scene = Scene::with("x".repeat(10 * 1024 * 1024));
        assert!(matches!(scene.error(), ConfigError::TooLarge { .. }));
        let mut endless = Scene::empty();
        endless.sources.file = Some(Path::new("/dev/zero").to_owned());
        assert!(matches!(endless.error(), ConfigError::TooLarge { .. }));
    }
}
