//! One key of the configuration, and the groups of keys that make up the whole.

use super::kind::Kind;
use super::raw::{Raw, Wrong};

/// One row of the table of keys, tied to the field that holds its value.
pub(super) struct Key<'c> {
    /// Names from the top, with dots between: `gpu_lock.poll_interval`.
    pub(super) path: String,
    /// What the value means, in a sentence or two.
    pub(super) meaning: &'static str,
    /// What the group of keys around it is about.
    pub(super) group: &'static str,
    /// The value.
    pub(super) slot: Box<dyn Slot + 'c>,
}

/// A group of keys: a mapping of the file.
pub(super) trait Section {
    /// Appends the keys of this group and of the groups inside it. `prefix` is the path of
    /// the group with a dot at its end, or nothing for the top.
    fn add_keys<'c>(&'c mut self, prefix: &str, keys: &mut Vec<Key<'c>>);
}

/// The place of a value, whatever its type.
pub(super) trait Slot {
    /// Replaces the value by what was written.
    fn read(&mut self, raw: &Raw) -> Result<(), Wrong>;
    /// The value for people, secrets masked.
    fn show(&self) -> String;
    /// The unit of bare numbers, or nothing.
    fn unit(&self) -> &'static str;
    /// Whether the value can only stand in the file.
    fn only_in_file(&self) -> bool;
}

/// A field of the configuration together with the kind of its values.
pub(super) struct Field<'c, T> {
    pub(super) value: &'c mut T,
    pub(super) kind: Kind<T>,
}

impl<T> Slot for Field<'_, T> {
    fn read(&mut self, raw: &Raw) -> Result<(), Wrong> {
        *self.value = (self.kind.read)(raw)?;
        Ok(())
    }

    fn show(&self) -> String {
        (self.kind.show)(self.value)
    }

    fn unit(&self) -> &'static str {
        self.kind.unit
    }

    fn only_in_file(&self) -> bool {
        self.kind.only_in_file
    }
}

/// The environment variable of the key `path`: `GPULOCK_`, then the path in capitals with
/// `__` between the levels.
pub(super) fn variable(path: &str) -> String {
    format!("GPULOCK_{}", path.replace('.', "__").to_ascii_uppercase())
}
