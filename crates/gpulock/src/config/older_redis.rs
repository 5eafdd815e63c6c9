//! The store of the older application: its section `redis:` and its variables.
//!
//! The older system kept its locks in the database `db_locks` of a Redis server at `host`
//! and `port`; `REDIS_HOST`, `REDIS_PORT` and `REDIS_LOCK_DB` were stronger than the file.

use std::str::FromStr;

use super::environment::Environment;
use super::error::ConfigError;
use super::file::ConfigFile;
use super::finding::{Finding, Severity};
use super::origin::Origin;
use super::raw::{Given, Raw};
use super::store_url::StoreUrl;
use super::yaml::{Content, Entries, Node};

/// What the section turned out to be.
pub(super) enum Found {
    /// There is none.
    Nothing,
    /// It does not say where locks are.
    NotOurs(Finding),
    /// It is the store.
    Store(Given),
}

/// Looks for the store in the section `redis:`.
pub(super) fn store(file: &ConfigFile, environment: &Environment) -> Result<Found, ConfigError> {
    let Some((key, section)) = file.section("redis") else {
        return Ok(Found::Nothing);
    };
    let Content::Mapping(entries) = &section.content else {
        return Ok(Found::Nothing);
    };
    let mut older = Older { file, environment, key, entries, variables: Vec::new() };
    let Some(database) = older.number("db_locks", Some("REDIS_LOCK_DB"))? else {
        return Ok(Found::NotOurs(Finding {
            severity: Severity::Warning,
            message: "the section `redis` is not used, since it has no `db_locks`".to_owned(),
            place: file.place(key),
            hint: "add db_locks, or name the store as `store: redis://HOST:PORT/DB`".to_owned(),
        }));
    };
    let host = older.host()?;
    let port = older.number("port", Some("REDIS_PORT"))?.unwrap_or(6379);
    let password = older.value("password", None)?.map(|(password, _)| password);
    let url = StoreUrl::of_redis(&host, port, password.as_deref(), database);
    Ok(Found::Store(Given {
        path: "store".to_owned(),
        raw: Raw::from_text(url.reveal()),
        origin: older.origin(),
    }))
}

struct Older<'f> {
    file: &'f ConfigFile,
    environment: &'f Environment,
    key: &'f Node,
    entries: &'f Entries,
    /// Variables that took part.
    variables: Vec<&'static str>,
}

impl Older<'_> {
    fn host(&mut self) -> Result<String, ConfigError> {
        let Some((host, place)) = self.value("host", Some("REDIS_HOST"))? else {
            let hint = "add host, or name the store as `store: redis://HOST:PORT/DB`";
            return Err(self.file.wrong("redis", self.key, "has no `host`", hint));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.chars().all(allowed) {
            return Ok(host.to_owned());
        }
        Err(wrong("host", place, "is not a host name", "write a name or an address alone"))
    }

    fn number<T: FromStr>(
        &mut self,
        name: &str,
        variable: Option<&'static str>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((text, place)) = self.value(name, variable)? else {
            return Ok(None);
        };
        let hint = "write a whole number, such as 6379 for a port or 0 for a database";
        let number = text.parse().map_err(|_| wrong(name, place, "is not such a number", hint));
        number.map(Some)
    }

    /// The text of a key, or of the variable that is stronger than it, and its place.
    fn value(
        &mut self,
        name: &str,
        variable: Option<&'static str>,
    ) -> Result<Option<(String, Origin)>, ConfigError> {
        if let Some((variable, text)) =
            variable.and_then(|name| Some((name, self.environment.value(name)?)))
        {
            self.variables.push(variable);
            let origin = Origin::Environment { variable: variable.to_owned() };
            return Ok(Some((text.trim().to_owned(), origin)));
        }
        let Some((_, value)) = self.entries.iter().find(|(key, _)| key.text() == Some(name)) else {
            return Ok(None);
        };
        let path = format!("redis.{name}");
        let raw = self.file.raw(&path, value, self.environment)?;
        let text = raw.optional_text();
        let text = text.map_err(|bad| self.file.wrong(&path, value, &bad.reason, &bad.hint))?;
        Ok(text.map(|text| (text.to_owned(), self.file.place(value))))
    }

    fn origin(&self) -> Origin {
        match self.variables.as_slice() {
            [] => self.file.place(self.key),
            variables => Origin::Environment { variable: variables.join(", ") },
        }
    }
}

fn wrong(name: &str, place: Origin, reason: &str, hint: &str) -> ConfigError {
    ConfigError::WrongValue {
        key: format!("redis.{name}"),
        place,
        reason: reason.to_owned(),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::scene::{Scene, value};

    #[test]
    fn the_older_redis_section_is_the_store_where_none_is_named() {
        let file =
            "redis: {host: cache, port: 6380, db: 0, db_locks: 3, password: 'p/w', odd: [1]}\n";
        let scene = Scene::with(file);
        let config = scene.config();
        assert_eq!(config.store.as_ref().unwrap().reveal(), "redis://:p%2Fw@cache:6380/3");
        assert_eq!(value(&config, "store"), "redis://:***@cache:6380/3");
        assert_eq!(config.origin("store"), scene.line(1));

        let older = [("REDIS_HOST", "h"), ("REDIS_PORT", "1"), ("REDIS_LOCK_DB", "9")];
        let config = scene.env(older).config();
        assert_eq!(config.store.as_ref().unwrap().reveal(), "redis://:p%2Fw@h:1/9");
        assert!(config.origin("store").to_string().contains("REDIS_HOST"));

        let store = |scene: Scene| scene.config().store.map(|url| url.reveal().to_owned());
        assert_eq!(store(Scene::empty().env(older)), None, "without the section they mean nothing");
        let both = format!("{file}store: 'memory:'");
        assert_eq!(store(Scene::with(both).env(older)), Some("memory:".to_owned()));
        assert_eq!(
            store(Scene::with(file).flags([("store", "memory:")])),
            Some("memory:".to_owned())
        );
    }

    #[test]
    fn a_redis_section_without_locks_is_pointed_out_and_a_wrong_one_is_an_error() {
        let loaded = Scene::with("redis: {host: cache, port: 6379}").loaded();
        assert_eq!(loaded.config.store, None);
        assert!(loaded.warnings[0].message.contains("db_locks"));
        assert!(Scene::with("redis: text").loaded().warnings.is_empty());
        for (file, message) in [
            ("redis: {db_locks: 1}", "config.yml:1: `redis` has no `host`"),
            (
                "redis: {host: h, db_locks: x}",
                "config.yml:1: `redis.db_locks` is not such a number",
            ),
            (
                "redis:\n  host: h\n  db_locks: 1\n  port: 99999",
                "config.yml:4: `redis.port` is not such a number",
            ),
            ("redis: {host: 'h/x', db_locks: 1}", "config.yml:1: `redis.host` is not a host name"),
            ("redis: {host: [h], db_locks: 1}", "config.yml:1: `redis.host` is a list"),
        ] {
            assert_eq!(Scene::with(file).said(), format!("understand {message}"));
        }
    }
}
