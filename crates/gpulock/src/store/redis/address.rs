//! The URL of a Redis store, taken apart.
//!
//! ```text
//! redis://[USER[:PASSWORD]@]HOST[:6379][/DB]             rediss:// with TLS
//! redis+unix://[USER[:PASSWORD]@]/PATH                   the database as option db=
//! redis+sentinel://[…@]HOST[:26379],HOST…/SERVICE[/DB]   the server that the Sentinels name
//! redis+cluster://[…@]HOST[:6379],HOST…                  a cluster, of which some nodes are named
//! ```
//!
//! Options follow after `?`, joined by `&`. Signs that mean something in a URL are written
//! with a percent sign (`%40` for `@`).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::config::{masked, span};
use crate::store::StoreError;

const OPTIONS: &str = "after_restart, ca, cert, db, key, min_replicas, password, prefix, \
                       replica_timeout, sentinel_password, sentinel_user, tls, user";

/// Where a Redis store is and how it is used, as its URL says.
#[derive(Clone)]
pub(crate) struct Address {
    /// For people: the URL without any secret.
    pub(crate) shown: String,
    pub(crate) servers: Servers,
    /// Who we are there.
    pub(crate) login: Login,
    /// The number of the database.
    pub(crate) database: u32,
    /// `None`: no TLS.
    pub(crate) tls: Option<Tls>,
    /// In front of every key and channel.
    pub(crate) prefix: String,
    /// How many replicas must confirm a write before it counts.
    pub(crate) min_replicas: u32,
    /// How long to wait for them.
    pub(crate) replica_timeout: Duration,
    pub(crate) after_restart: AfterRestart,
}

/// Which servers keep the store.
#[derive(Clone, Debug)]
pub(crate) enum Servers {
    /// One, at a host and port.
    One(Host),
    /// One, at a socket of this machine.
    Socket(PathBuf),
    /// The one that Sentinels name.
    Sentinels { sentinels: Vec<Host>, service: String, login: Login },
    /// A cluster, of which these are some.
    Cluster(Vec<Host>),
}

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// A user of the server and its password.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// What a TLS connection needs besides the system's certificates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// The authority that signed the server's certificate, instead of the system's.
    pub(crate) authority: Option<PathBuf>,
    /// Our own certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// What happens when a server comes back that may have forgotten leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterRestart {
    /// Requests wait until every forgotten lease is over.
    #[default]
    Wait,
    /// Requests are refused until then.
    Refuse,
    /// It is trusted to have forgotten nothing.
    Trust,
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] with the part that is wrong and how it is written. It repeats
    /// no password.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        read(url).map_err(|reason| StoreError::BadUrl { url: masked(url), reason })
    }
}

fn read(url: &str) -> Result<Address, String> {
    let (scheme, rest) = url.split_once("://").ok_or("`://` is missing after its scheme")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, place) = match place.rsplit_once('@') {
        Some((login, place)) => (Login::read(login)?, place),
        None => (Login::default(), place),
    };
    let mut address = Address {
        shown: masked(url),
        servers: Servers::Cluster(Vec::new()),
        login,
        database: 0,
        tls: (scheme == "rediss").then(Tls::default),
        prefix: String::new(),
        min_replicas: 0,
        replica_timeout: Duration::from_secs(1),
        after_restart: AfterRestart::default(),
    };
    let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
    address.servers = match scheme {
        "redis" | "rediss" => {
            address.read_database(path)?;
            Servers::One(Host::read(hosts, 6379)?)
        }
        "redis+unix" if hosts.is_empty() && !path.is_empty() => {
            Servers::Socket(PathBuf::from(format!("/{}", decoded(path)?)))
        }
        "redis+unix" => return Err("a socket is written redis+unix:///PATH".to_owned()),
        "redis+sentinel" => {
            let (service, database) = path.split_once('/').unwrap_or((path, ""));
            address.read_database(database)?;
            let service = decoded(service)?;
            if service.is_empty() {
                return Err(
                    "it names no service; write redis+sentinel://HOST,HOST/SERVICE".to_owned()
                );
            }
            let sentinels = Host::read_list(hosts, 26379)?;
            Servers::Sentinels { sentinels, service, login: Login::default() }
        }
        "redis+cluster" => {
            address.read_database(path)?;
            Servers::Cluster(Host::read_list(hosts, 6379)?)
        }
        _ => return Err("its scheme is unknown".to_owned()),
    };
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        address.read_option(name, &decoded(value)?)?;
    }
    address.check()?;
    Ok(address)
}

impl Address {
    fn read_database(&mut self, text: &str) -> Result<(), String> {
        if !text.is_empty() {
            self.database = number("the database", text)?;
        }
        Ok(())
    }

    fn read_option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = || value.to_owned();
        match (name, &mut self.servers) {
            ("user", _) => self.login.user = Some(text()),
            ("password", _) => self.login.password = Some(text()),
            ("sentinel_user", Servers::Sentinels { login, .. }) => login.user = Some(text()),
            ("sentinel_password", Servers::Sentinels { login, .. }) => {
                login.password = Some(text())
            }
            ("db", _) => self.database = number("db", value)?,
            ("tls", _) => match value {
                "true" => drop(self.tls.get_or_insert_default()),
                "false" if self.tls.is_none() => {}
                _ => return Err("tls is true or false, and true with rediss://".to_owned()),
            },
            ("ca", _) => self.tls.get_or_insert_default().authority = Some(value.into()),
            ("cert", _) => self.identity().0 = value.into(),
            ("key", _) => self.identity().1 = value.into(),
            ("prefix", _) => self.prefix = prefix(value)?,
            ("min_replicas", _) => self.min_replicas = number("min_replicas", value)?,
            ("replica_timeout", _) => {
                self.replica_timeout =
                    span(value).map_err(|hint| format!("replica_timeout: {hint}"))?;
            }
            ("after_restart", _) => {
                self.after_restart = match value {
                    "wait" => AfterRestart::Wait,
                    "refuse" => AfterRestart::Refuse,
                    "trust" => AfterRestart::Trust,
                    _ => return Err("after_restart is wait, refuse or trust".to_owned()),
                };
            }
            _ => return Err(format!("it has no option `{name}`; there are {OPTIONS}")),
        }
        Ok(())
    }

    fn identity(&mut self) -> &mut (PathBuf, PathBuf) {
        self.tls.get_or_insert_default().identity.get_or_insert_default()
    }

    /// What only the whole can tell.
    fn check(&self) -> Result<(), String> {
        let is_half = |(cert, key): &(PathBuf, PathBuf)| {
            cert.as_os_str().is_empty() || key.as_os_str().is_empty()
        };
        match (&self.servers, &self.tls) {
            (_, Some(Tls { identity: Some(identity), .. })) if is_half(identity) => {
                Err("cert and key belong together".to_owned())
            }
            (Servers::Socket(_), Some(_)) => Err("a socket of this machine has no TLS".to_owned()),
            (Servers::Cluster(_), _) if self.database != 0 => {
                Err("a cluster has no database but 0".to_owned())
            }
            (Servers::Cluster(_), _) if self.min_replicas > 0 => Err(
                "min_replicas cannot be had from a cluster; set min-replicas-to-write on its nodes"
                    .to_owned(),
            ),
            _ if self.login.user.is_some() && self.login.password.is_none() => {
                Err("it names a user but no password".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Host {
    fn read_list(text: &str, port: u16) -> Result<Vec<Self>, String> {
        text.split(',').map(|host| Self::read(host, port)).collect()
    }

    fn read(text: &str, default_port: u16) -> Result<Self, String> {
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, port)) => {
                (name, port.strip_prefix(':').or_else(|| port.is_empty().then_some("")))
            }
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, Some("")),
            },
        };
        let port = match port {
            Some("") => default_port,
            Some(port) => number("the port", port)?,
            None => return Err("an address in brackets is followed by `:` and its port".to_owned()),
        };
        match name.is_empty() || name.contains(['/', '[', ']', '%']) {
            true => Err("it names no host".to_owned()),
            false => Ok(Self { name: name.to_owned(), port }),
        }
    }
}

impl Login {
    /// `USER:PASSWORD`, `:PASSWORD`, or `PASSWORD` alone as a name.
    fn read(text: &str) -> Result<Self, String> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (decoded(user)?, Some(decoded(password)?)),
            None => (decoded(text)?, None),
        };
        Ok(Self { user: Some(user).filter(|user| !user.is_empty()), password })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What can stand before a key, in a pattern of an access list, and outside of a hash tag.
fn prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"{}*?[]^\\".contains(c);
    match text.chars().all(is_plain) && text.len() <= 64 {
        true => Ok(text.to_owned()),
        false => Err("prefix has at most 64 visible ASCII signs, and none of {}*?[]^\\".to_owned()),
    }
}

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} is not a whole number that can be one"))
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| "a part of it is not UTF-8 after its percent signs".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        read(url).unwrap_or_else(|reason| panic!("{url}: {reason}"))
    }

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn one_server_by_name_by_address_and_by_socket() {
        for (url, name, port, database) in [
            ("redis://cache", "cache", 6379, 0),
            ("redis://cache:7000/3", "cache", 7000, 3),
            ("redis://10.0.0.1:7000/?db=5", "10.0.0.1", 7000, 5),
            ("redis://u:p@[::1]:7000/2", "::1", 7000, 2),
            ("rediss://[fe80::1]", "fe80::1", 6379, 0),
        ] {
            let read = address(url);
            let Servers::One(found) = &read.servers else { panic!("{url}: {:?}", read.servers) };
            assert_eq!((found, read.database), (&host(name, port), database), "{url}");
            assert_eq!(read.tls.is_some(), url.starts_with("rediss"), "{url}");
        }
        let read = address("redis+unix:///run/my%20redis.sock?db=1");
        assert!(matches!(read.servers, Servers::Socket(path) if path.ends_with("my redis.sock")));
        assert_eq!(read.database, 1);
    }

    #[test]
    fn many_servers() {
        let read = address("redis+sentinel://:p@a,b:7000/main/2?sentinel_password=s&tls=true");
        let Servers::Sentinels { sentinels, service, login } = read.servers else { panic!() };
        assert_eq!(sentinels, [host("a", 26379), host("b", 7000)]);
        assert_eq!((service.as_str(), read.database), ("main", 2));
        assert_eq!(login.password.as_deref(), Some("s"));
        assert!(read.tls.is_some());
        let read = address("redis+cluster://a,b:7000");
        assert!(matches!(read.servers, Servers::Cluster(nodes) if nodes.len() == 2));
    }

    #[test]
    fn who_we_are_and_how_it_is_used() {
        let read = address(
            "rediss://me:p%40s%2Fs@h?prefix=prod:&min_replicas=1&replica_timeout=500ms\
             &after_restart=refuse&ca=/ca.pem&cert=/c.pem&key=/k.pem",
        );
        assert_eq!(read.login.user.as_deref(), Some("me"));
        assert_eq!(read.login.password.as_deref(), Some("p@s/s"));
        assert_eq!((read.prefix.as_str(), read.min_replicas), ("prod:", 1));
        assert_eq!(read.replica_timeout, Duration::from_millis(500));
        assert_eq!(read.after_restart, AfterRestart::Refuse);
        let tls = read.tls.unwrap();
        assert_eq!(tls.authority.as_deref(), Some("/ca.pem".as_ref()));
        assert_eq!(tls.identity, Some(("/c.pem".into(), "/k.pem".into())));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, reason) in [
            ("redis:h", "`://` is missing"),
            ("redis://", "names no host"),
            ("redis://h:x", "the port is not"),
            ("redis://h:70000", "the port is not"),
            ("redis://h/x", "the database is not"),
            ("redis://[::1]7000", "followed by `:`"),
            ("redis+unix://h/path", "redis+unix:///PATH"),
            ("redis+unix:///p?tls=true", "has no TLS"),
            ("redis+sentinel://a,b", "names no service"),
            ("redis+sentinel://a,/s", "names no host"),
            ("redis+cluster://a/1", "no database but 0"),
            ("redis+cluster://a?min_replicas=1", "min-replicas-to-write"),
            ("redis://h?prefx=a", "no option `prefx`; there are after_restart, ca"),
            ("redis://h?sentinel_user=a", "no option `sentinel_user`"),
            ("redis://h?prefix={a}", "none of {}"),
            ("redis://h?min_replicas=-1", "min_replicas is not"),
            ("redis://h?replica_timeout=soon", "replica_timeout: write seconds"),
            ("redis://h?after_restart=never", "wait, refuse or trust"),
            ("redis://h?cert=/c.pem", "belong together"),
            ("redis://me@h", "a user but no password"),
            ("rediss://h?tls=false", "true with rediss://"),
            ("redis://:%ff@h", "not UTF-8"),
        ] {
            let said = read(url).map(|_| String::new()).unwrap_or_else(|reason| reason);
            assert!(said.contains(reason), "{url}: {said}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        for url in [
            "redis://u:canary@h/0",
            "redis://canary@h?odd=1",
            "redis+unix:///s?password=canary",
            "redis+sentinel://:canary@h/s?sentinel_password=canary",
            "redis+sentinel://:canary@h/s?sentinel_password=canary&odd=1",
            "redis://:canary@h:x",
        ] {
            let shown = match Address::parse(url) {
                Ok(address) => format!("{address:?} {:?} {}", address.servers, address.shown),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}
