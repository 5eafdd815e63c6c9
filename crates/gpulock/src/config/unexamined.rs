//! A section whose meaning is not known here.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::environment::Environment;
use super::error::ConfigError;
use super::interpolation;
use super::origin::Origin;
use super::raw::{Raw, Wrong};
use super::typed::Typed;
use super::yaml::{Content, Node};

/// A section that is kept as it was written, for those who know what it means. It may hold
/// secrets and is never printed.
///
/// Until it is examined, its variables need not be set: a worker has no use for the password
/// of a mail server.
#[derive(Clone, PartialEq)]
pub struct Unexamined(pub(super) Arc<Written>);

/// What was written, and what it takes to understand it later.
#[derive(PartialEq)]
pub(super) struct Written {
    /// The name of the section.
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) node: Arc<Node>,
    /// The variables that it names, as far as they are set.
    pub(super) environment: Environment,
}

/// What is wrong with a value, and what would be right. As the text of an error of serde
/// ([`serde::de::Error::custom`]) it reaches the user of [`Unexamined::examine`] whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}\nhint: {hint}")]
pub struct Objection {
    /// Completes a sentence that begins with the key; never a secret.
    pub reason: String,
    /// What would be right.
    pub hint: String,
}

impl Unexamined {
    pub(super) fn new(
        name: &str,
        file: PathBuf,
        node: &Arc<Node>,
        environment: &Environment,
    ) -> Self {
        let mut variables = Vec::new();
        add_variables(node, &mut variables);
        let environment = environment.only(&variables);
        Self(Arc::new(Written { name: name.to_owned(), file, node: Arc::clone(node), environment }))
    }

    pub(super) fn read(raw: &Raw) -> Result<Option<Self>, Wrong> {
        match raw {
            Raw::Empty => Ok(None),
            Raw::Mapping(section) => Ok(Some(section.clone())),
            Raw::Text(_) | Raw::List(_) => Err(Wrong::new(
                "is not a mapping",
                "write it as a section of the configuration file",
            )),
        }
    }

    /// The section as a value. Variables are those of the environment from which the
    /// configuration was loaded. Texts and numbers may be written with or without quotes; a
    /// section without keys is one that says nothing.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its key and line. No value is repeated.
    pub fn examine<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let typed = Typed::of(&self.0);
        T::deserialize(&typed).map_err(|fault| typed.error(fault))
    }

    /// The error for the value under these keys, from the top of the section inwards; items of
    /// lists go by their number, the first is `0`.
    pub fn wrong<K: AsRef<str>>(&self, keys: &[K], objection: Objection) -> ConfigError {
        let Written { name, file, node, .. } = &*self.0;
        let (mut path, mut line) = (name.clone(), node.line);
        let mut node = Some(node);
        for key in keys.iter().map(AsRef::as_ref) {
            let step = node.and_then(|node| step(node, key));
            path = match node.map(|node| &node.content) {
                Some(Content::List(_)) => format!("{path}[{key}]"),
                _ => format!("{path}.{key}"),
            };
            line = step.map_or(line, |(_, line)| line);
            node = step.map(|(node, _)| node);
        }
        let place = Origin::File { path: file.clone(), line };
        ConfigError::WrongValue { key: path, place, reason: objection.reason, hint: objection.hint }
    }
}

impl Objection {
    /// A sentence that begins with the key, and what would be right.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

/// The value of a key or an item, and the line that tells its place.
fn step<'n>(node: &'n Node, key: &str) -> Option<(&'n Arc<Node>, usize)> {
    match &node.content {
        Content::Scalar { .. } => None,
        Content::List(items) => {
            let item = items.get(key.parse::<usize>().ok()?)?;
            Some((item, item.line))
        }
        Content::Mapping(entries) => {
            let (name, value) = entries.iter().find(|(name, _)| name.text() == Some(key))?;
            Some((value, line_of(name, value)))
        }
    }
}

/// The line of an entry: that of the value, or of the key if the value is a list or a mapping.
pub(super) fn line_of(key: &Node, value: &Node) -> usize {
    if value.text().is_some_and(|text| !text.is_empty()) { value.line } else { key.line }
}

/// Collects the names of variables in the texts of a tree.
fn add_variables<'n>(node: &'n Node, names: &mut Vec<&'n str>) {
    match &node.content {
        Content::Scalar { text, .. } => names.extend(interpolation::variables(text)),
        Content::List(items) => items.iter().for_each(|item| add_variables(item, names)),
        Content::Mapping(entries) => {
            entries.iter().for_each(|(_, value)| add_variables(value, names));
        }
    }
}

impl fmt::Debug for Unexamined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unexamined(..)")
    }
}
