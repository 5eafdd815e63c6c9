//! What every command starts from: the configuration, the store, a client.

use std::path::Path;
use std::sync::Arc;

use gpulock::config::{Config, Loaded, Origin, Severity, Sources};
use gpulock::core::PoolName;
use gpulock::store::Store;
use gpulock::{Client, DefaultPlace, Options, connect};

use crate::args::{Cli, Command};
use crate::exit::{Code, Failure};
use crate::output;

/// The configuration in force, and where its store is.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) loaded: Loaded,
    pub(crate) pool: PoolName,
    pub(crate) place: Place,
    /// What was said by flag, as variables: it counts for the `gpulock` inside a command
    /// too, wherever that one is called.
    pub(crate) flags: Vec<(&'static str, String)>,
}

/// Where the store is.
#[derive(Debug)]
pub(crate) enum Place {
    /// Where somebody said.
    Chosen(String),
    /// Where it is by default.
    Default(DefaultPlace),
}

impl Session {
    /// Reads the configuration.
    pub(crate) fn load(cli: &Cli) -> Result<Self, Failure> {
        let mut sources = Sources { file: cli.everywhere.config.clone(), ..Sources::of_process() };
        let flags = [
            ("store", cli.everywhere.store.clone()),
            ("pool", cli.everywhere.pool.as_ref().map(ToString::to_string)),
            ("server.listen", listen_of(cli)),
        ];
        for (key, value) in flags {
            sources.flags.extend(value.map(|value| (key.to_owned(), value)));
        }
        let loaded = Config::load(&sources)?;
        let pool =
            loaded.config.pool.parse().map_err(|error| Failure::new(Code::Configuration, error))?;
        let place = match &loaded.config.store {
            Some(url) => Place::Chosen(url.reveal().to_owned()),
            None => Place::Default(DefaultPlace::find(|name| std::env::var(name).ok())),
        };
        let flags = said_by_flag(cli, &loaded);
        Ok(Self { loaded, pool, place, flags })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// Says what looks like a mistake in the configuration.
    pub(crate) fn tell_warnings(&self) {
        for finding in self.loaded.warnings.iter().filter(|f| f.severity == Severity::Warning) {
            output::warning(&format!(
                "{}: {}\nhint: {}",
                finding.place, finding.message, finding.hint
            ));
        }
    }

    /// Opens the store, and says who shares it if that could surprise.
    pub(crate) fn connect(&self) -> Result<Arc<dyn Store>, Failure> {
        match &self.place {
            Place::Chosen(url) => Ok(connect(url)?),
            Place::Default(place) => {
                place.prepare()?;
                let is_new = !place.path().exists();
                let store = connect(&place.url())?;
                if is_new || matches!(place, DefaultPlace::Excluded(_)) {
                    place.notice().iter().for_each(|notice| output::warning(notice));
                }
                Ok(store)
            }
        }
    }

    /// Where the store is, with its password if it has one.
    pub(crate) fn url(&self) -> String {
        match &self.place {
            Place::Chosen(url) => url.clone(),
            Place::Default(place) => place.url(),
        }
    }

    /// Where the store is, for people.
    pub(crate) fn url_shown(&self) -> String {
        match (&self.config().store, &self.place) {
            (Some(url), _) => url.to_string(),
            (None, _) => self.url(),
        }
    }

    /// Whether somebody named the pool.
    pub(crate) fn names_pool(&self) -> bool {
        self.config().origin("pool") != Origin::Default
    }

    /// A client of the session's pool that works on the current runtime.
    pub(crate) fn client(&self, store: Arc<dyn Store>) -> Result<Client, Failure> {
        self.client_of(store, self.pool.clone())
    }

    /// A client of another pool of the same store.
    pub(crate) fn client_of(
        &self,
        store: Arc<dyn Store>,
        pool: PoolName,
    ) -> Result<Client, Failure> {
        let runtime = tokio::runtime::Handle::current();
        let options = Options { pool, ..Options::from(self.config()) };
        Ok(Client::builder(store).options(options).on(runtime).build()?)
    }
}

fn listen_of(cli: &Cli) -> Option<String> {
    match &cli.command {
        Command::Serve(what) => what.listen.map(|address| address.to_string()),
        _ => None,
    }
}

fn said_by_flag(cli: &Cli, loaded: &Loaded) -> Vec<(&'static str, String)> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let store = cli.everywhere.store.as_ref().map(|url| match url.strip_prefix("sqlite:") {
        Some(path) => {
            let path = path.strip_prefix("//").unwrap_or(path);
            format!("sqlite://{}", absolute(Path::new(path)).display())
        }
        None => url.clone(),
    });
    let file = cli.everywhere.config.as_ref().and(loaded.file.as_deref()).map(absolute);
    let flags = [
        ("GPULOCK_STORE", store),
        ("GPULOCK_CONFIG", file.map(|path| path.display().to_string())),
        ("GPULOCK_POOL", cli.everywhere.pool.as_ref().map(ToString::to_string)),
    ];
    flags.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
