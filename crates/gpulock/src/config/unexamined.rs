//! A section whose meaning belongs to a later version.

use std::fmt;
use std::sync::Arc;

use super::raw::{Raw, Wrong};
use super::yaml::Node;

/// A section that is kept as it was written, for a version that knows it. It may hold
/// secrets and is never printed.
#[derive(Clone, PartialEq)]
pub struct Unexamined(Arc<Node>);

impl Unexamined {
    pub(super) fn read(raw: &Raw) -> Result<Option<Self>, Wrong> {
        match raw {
            Raw::Empty => Ok(None),
            Raw::Mapping(node) => Ok(Some(Self(Arc::clone(node)))),
            Raw::Text(_) | Raw::List(_) => Err(Wrong::new(
                "is not a mapping",
                "write it as a section of the configuration file",
            )),
        }
    }
}

impl fmt::Debug for Unexamined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unexamined(..)")
    }
}
