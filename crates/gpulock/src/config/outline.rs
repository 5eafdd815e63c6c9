//! The names of all keys and sections, and which of them a wrong name resembles.

use super::Config;
use super::environment::Environment;
use super::error::ConfigError;
use super::finding::{Finding, Severity};
use super::key;
use super::origin::Origin;

/// The paths of all keys, in the order of the table.
pub(super) struct Outline {
    keys: Vec<String>,
}

impl Outline {
    pub(super) fn new() -> Self {
        Self { keys: Config::default().keys().into_iter().map(|key| key.path).collect() }
    }

    pub(super) fn has_key(&self, path: &str) -> bool {
        self.keys.iter().any(|key| key == path)
    }

    pub(super) fn has_section(&self, path: &str) -> bool {
        self.keys.iter().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The error for a key that does not exist. The same name in another section is nearer
    /// than a similar one in the same.
    pub(super) fn unknown(&self, path: String, place: Origin) -> ConfigError {
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let wish = last(&path);
        let distance =
            |name: &&str| (edit_distance(&last(name), &wish), edit_distance(name, &path));
        let nearest = self.names().min_by_key(distance).unwrap_or_default();
        let nearest = match &place {
            Origin::Environment { .. } => key::variable(nearest),
            _ => nearest.to_owned(),
        };
        ConfigError::UnknownKey { key: path, place, nearest }
    }

    /// A warning for a name at the top that is not ours but nearly so. Another program's
    /// section is no mistake, hence the narrow limits.
    pub(super) fn misspelt(&self, name: &str, place: Origin) -> Option<Finding> {
        let near = |top: &&str| {
            let limit = if top.len() > 5 { 2 } else { 1 };
            (1..=limit).contains(&edit_distance(top, name))
        };
        if self.has_key(name) || self.has_section(name) {
            return None;
        }
        let top = self.names().filter(|path| !path.contains('.')).find(near)?;
        Some(Finding {
            severity: Severity::Warning,
            message: format!("`{name}` is ignored, but looks like `{top}`"),
            place,
            hint: format!("write `{top}` if that is meant"),
        })
    }

    /// Warnings for variables whose first level is nearly a section of ours.
    pub(super) fn misspelt_variables(&self, environment: &Environment) -> Vec<Finding> {
        let misspelt = |(variable, path): (&str, String)| {
            let (first, _) = path.split_once('.')?;
            self.misspelt(first, Origin::Environment { variable: variable.to_owned() })
        };
        environment.paths().filter_map(misspelt).collect()
    }

    /// All keys and sections.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().flat_map(|key| {
            let sections = key.match_indices('.').map(|(dot, _)| &key[..dot]);
            sections.chain(std::iter::once(key.as_str()))
        })
    }
}

/// Which of the known names a wrong one resembles most; `None` if there are none.
pub fn nearest<'k>(wish: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known.min_by_key(|name| edit_distance(name, wish))
}

/// Levenshtein's distance: how many letters must be added, removed or replaced. Only the
/// first 100 letters of `wish` count, so that a giant key costs nothing.
pub(crate) fn edit_distance(name: &str, wish: &str) -> usize {
    let wish: Vec<char> = wish.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=wish.len()).collect();
    for (above, letter) in name.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (left, wished) in wish.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *wished);
            diagonal = row[left + 1];
            row[left + 1] = replaced.min(diagonal + 1).min(row[left] + 1);
        }
    }
    row[wish.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        for (a, b, distance) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
            assert_eq!(edit_distance(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_key_may_be_a_section_or_stand_elsewhere() {
        let nearest = |path: &str| match Outline::new().unknown(path.to_owned(), Origin::Flag) {
            ConfigError::UnknownKey { nearest, .. } => nearest,
            other => panic!("{other}"),
        };
        assert_eq!(nearest("gpu_lock.pol_interval"), "gpu_lock.poll_interval");
        assert_eq!(nearest("gpu_lock_monitor.hartbeat"), "gpu_lock_monitor.heartbeat");
        assert_eq!(
            nearest("gpu_lock.hard_timeout"),
            "gpu_lock_monitor.timeout_levels.hard_timeout"
        );
    }
}
