//! The way through the file: which of its keys are ours, and what stands there.

use std::collections::HashMap;
use std::sync::Arc;

use super::environment::Environment;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::outline::Outline;
use super::raw::{Given, Raw};
use super::yaml::{Content, Entries, Node};

/// A way through the sections of ours that collects what they give.
pub(super) struct Walk<'f> {
    file: &'f ConfigFile,
    outline: &'f Outline,
    environment: &'f Environment,
    /// The line of every key so far.
    seen: HashMap<String, usize>,
    given: Vec<Given>,
}

impl<'f> Walk<'f> {
    pub(super) fn new(
        file: &'f ConfigFile,
        outline: &'f Outline,
        environment: &'f Environment,
    ) -> Self {
        Self { file, outline, environment, seen: HashMap::new(), given: Vec::new() }
    }

    /// Walks through the sections of ours among the entries of the top.
    pub(super) fn through(mut self, entries: &Entries) -> Result<Vec<Given>, ConfigError> {
        let outline = self.outline;
        let ours = |name: &str| outline.has_key(name) || outline.has_section(name);
        for (key, value) in entries {
            if key.text().is_some_and(ours) {
                self.entry("", key, value)?;
            }
        }
        Ok(self.given)
    }

    fn entry(&mut self, prefix: &str, key: &Node, value: &Arc<Node>) -> Result<(), ConfigError> {
        let Some(name) = key.text() else {
            let reason = "a key in a section of gpulock is not a text".to_owned();
            let (place, hint) = (self.file.place(key), "write the name of a key");
            return Err(ConfigError::Malformed { place, reason, hint });
        };
        let path = format!("{prefix}{}", visible(name));
        if let Some(first) = self.seen.insert(path.clone(), key.line) {
            let place = self.file.place(key);
            return Err(ConfigError::DuplicateKey { key: path, place, first });
        }
        if self.outline.has_key(&path) {
            let raw = self.file.raw(&path, value, self.environment)?;
            let at = if matches!(raw, Raw::Text(_)) { value } else { key };
            self.given.push(Given { path, raw, origin: self.file.place(at) });
            return Ok(());
        }
        if self.outline.has_section(&path) {
            return self.section(&path, key, value);
        }
        if name == "<<" {
            let hint = "write the keys out in this section";
            return Err(self.file.wrong(&path, key, "is a merge key, which is not followed", hint));
        }
        Err(self.outline.unknown(path, self.file.place(key)))
    }

    fn section(&mut self, path: &str, key: &Node, value: &Node) -> Result<(), ConfigError> {
        match &value.content {
            Content::Mapping(entries) => {
                let prefix = format!("{path}.");
                entries.iter().try_for_each(|(key, value)| self.entry(&prefix, key, value))
            }
            _ if value.is_null() => Ok(()),
            _ => {
                let hint = "write its keys on lines of their own below it, indented";
                Err(self.file.wrong(path, key, "is a section and needs keys, not a value", hint))
            }
        }
    }
}

/// A key as it can be printed: the start of it, control characters spelled out.
pub(super) fn visible(name: &str) -> String {
    name.chars().take(100).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::scene::{Scene, seconds};

    /// Files, and what is said about them after `config.yml:`.
    const WRONG: &[(&str, &str)] = &[
        (
            "a: 1\ngpu_lock:\n  pol_interval: 2\n",
            "3: there is no key `gpu_lock.pol_interval`; the nearest is `gpu_lock.poll_interval`",
        ),
        (
            "gpu_lock:\n  poll_interval: fast",
            "2: `gpu_lock.poll_interval` is `fast`, which is not a length of time",
        ),
        (
            "gpu_lock:\n  poll_interval:\n    fast",
            "3: `gpu_lock.poll_interval` is `fast`, which is not a length of time",
        ),
        ("gpu_lock: {poll_interval: -1}", "1: `gpu_lock.poll_interval` is `-1`, which is negative"),
        ("gpu_lock: {poll_interval: 0}", "1: `gpu_lock.poll_interval` is `0`, which is too short"),
        (
            "gpu_lock: {poll_interval: .nan}",
            "1: `gpu_lock.poll_interval` is `.nan`, which is not a length of time",
        ),
        ("gpu_lock: {poll_interval: }", "1: `gpu_lock.poll_interval` has no value"),
        ("gpu_lock: {poll_interval: [1]}", "1: `gpu_lock.poll_interval` is a list"),
        ("gpu_lock: {poll_interval: {a: 1}}", "1: `gpu_lock.poll_interval` is a mapping"),
        (
            "gpu_lock: {poll_interval: !vault x}",
            "1: `gpu_lock.poll_interval` has a tag, which has no meaning here",
        ),
        (
            "gpu_lock: {poll_interval: '${x'}",
            "1: `gpu_lock.poll_interval` holds a `${` that does not begin a reference",
        ),
        (
            "gpu_lock: {exponential_backoff: 2}",
            "1: `gpu_lock.exponential_backoff` is `2`, which is neither true nor false",
        ),
        (
            "gpu_lock: {on_store_error: run}",
            "1: `gpu_lock.on_store_error` is `run`, which is not a choice",
        ),
        ("gpu_lock: 5", "1: `gpu_lock` is a section and needs keys, not a value"),
        ("gpu_lock: {<<: {a: 1}}", "1: `gpu_lock.<<` is a merge key, which is not followed"),
        ("gpu_lock: {[a]: 1}", "1: a key in a section of gpulock is not a text"),
        (
            "gpu_lock_monitor:\n  health_thresholds:\n    min_success_rate: 1.5",
            "3: `gpu_lock_monitor.health_thresholds.min_success_rate` is `1.5`, which is not a rate",
        ),
        (
            "gpu_lock_monitor: {health_thresholds: {max_timeout_rate: nan}}",
            "1: `gpu_lock_monitor.health_thresholds.max_timeout_rate` is `nan`, which is not a rate",
        ),
        (
            "gpu_lock_monitor: {health_thresholds: {recent_window_size: 0}}",
            "1: `gpu_lock_monitor.health_thresholds.recent_window_size` is `0`, which is not such a number",
        ),
        ("pool: a/b", "1: `pool` is `a/b`, which is not the name of a pool"),
        ("pool: \"a\\ab\"", "1: `pool` holds a control character or text that is not UTF-8"),
        ("gpus:\n  - 0\n  - one", "3: `gpus` is `one`, which is not a GPU"),
        ("alerts: [1]", "1: `alerts` is not a mapping"),
        (
            "server: {listen: localhost}",
            "1: `server.listen` is `localhost`, which is not an address to listen on",
        ),
        (
            "server:\n  tokens:\n    - read:a\n    - operate: b",
            "4: `server.tokens` has an item that is not a single text",
        ),
        ("pool: a\ngpus: auto\npool: b", "3: `pool` stands in line 1 already"),
        (
            "server:\n  listen: 127.0.0.1:1\n  listen: 127.0.0.1:2",
            "3: `server.listen` stands in line 2 already",
        ),
        ("pool: a\n---\npool: b", "2: it holds more than one document"),
        ("- a", "1: it is not a mapping of keys to values"),
        ("text", "1: it is not a mapping of keys to values"),
        ("a: 1\nb: \u{1}", "2: it holds a control character"),
    ];

    #[test]
    fn wrong_files_are_refused_with_one_sentence_and_a_hint() {
        for (file, message) in WRONG {
            let scene = Scene::with(file);
            assert_eq!(scene.said(), format!("understand config.yml:{message}"));
            assert!(scene.error().hint().is_some(), "{file}");
        }
    }

    #[test]
    fn other_sections_are_ignored_and_near_misses_pointed_out() {
        let scene = Scene::with(
            "database: {a: !odd [1, {b: c}]}\ntool: 1\ngpu_locks: {a: 1}\n1: 2\n? [x]\n: y\n",
        );
        let warnings = scene.loaded().warnings;
        let messages: Vec<_> = warnings.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(messages[1..], ["`gpu_locks` is ignored, but looks like `gpu_lock`"]);
        assert_eq!(messages[0], "`tool` is ignored, but looks like `pool`");
        assert_eq!(warnings[1].place, scene.line(3));
    }

    #[test]
    fn an_alias_is_followed_and_its_value_stands_where_it_was_written() {
        let scene = Scene::with("other:\n  mine: &wait 20m\ngpu_lock:\n  max_wait_time: *wait\n");
        let config = scene.config();
        assert_eq!(config.gpu_lock.max_wait_time, seconds(1200));
        assert_eq!(config.origin("gpu_lock.max_wait_time"), scene.line(2));
    }
}
