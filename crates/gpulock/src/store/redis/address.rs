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

mod host;
mod login;
mod options;
mod tls;
mod written;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::host::Host;
pub(crate) use self::login::Login;
use self::options::{Options, number};
pub(crate) use self::tls::Tls;
use self::written::{Written, decoded};
use crate::config::{masked, span};
use crate::store::StoreError;

/// For confirmations of replicas. The answer must come before the connection counts as dead.
const LONGEST_REPLICA_TIMEOUT: Duration = Duration::from_secs(2);

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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Reads a URL, and once the files that it names.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] with the part that is wrong and how it is written. It repeats
    /// no password.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        Self::read(url).map_err(|reason| StoreError::BadUrl { url: masked(url), reason })
    }

    /// What somebody else says, without our passwords in it.
    pub(crate) fn without_secrets(&self, text: String) -> String {
        let of_sentinels = match &self.servers {
            Servers::Sentinels { login, .. } => login.password.as_deref(),
            _ => None,
        };
        let secrets = self.login.password.as_deref().into_iter().chain(of_sentinels);
        let hide = |text: String, secret: &str| text.replace(secret, "***");
        secrets.filter(|secret| !secret.is_empty()).fold(text, hide)
    }

    fn read(url: &str) -> Result<Self, String> {
        let Written { scheme, login, hosts, path, mut options } = Written::read(url)?;
        let login = Login::read(login, &mut options)?;
        let (servers, database) = servers(scheme, hosts, path, &mut options)?;
        let is_many = matches!(servers, Servers::Sentinels { .. } | Servers::Cluster(_));
        let is_tls = scheme == "rediss" || (is_many && options.take_switch("tls")?);
        let address = Self {
            shown: masked(url),
            servers,
            login,
            database: database.map_or(Ok(0), |text| number("the database", &text))?,
            tls: is_tls.then(|| Tls::read(&mut options)).transpose()?,
            prefix: options.take("prefix").map_or(Ok(String::new()), prefix)?,
            min_replicas: match options.take("min_replicas") {
                Some(text) => number("`min_replicas`", &text)?,
                None => 0,
            },
            replica_timeout: match options.take("replica_timeout") {
                Some(text) => replica_timeout(&text)?,
                None => Duration::from_secs(1),
            },
            after_restart: match options.take("after_restart").as_deref() {
                Some("wait") | None => AfterRestart::Wait,
                Some("refuse") => AfterRestart::Refuse,
                Some("trust") => AfterRestart::Trust,
                Some(_) => return Err("`after_restart` is not wait, refuse or trust".to_owned()),
            },
        };
        address.check_cluster()?;
        options.finish()?;
        Ok(address)
    }

    fn check_cluster(&self) -> Result<(), String> {
        match self.servers {
            Servers::Cluster(_) if self.database != 0 => {
                Err("a cluster has no database but 0".to_owned())
            }
            // The connection to a node is made anew without a word, and a new one does not
            // know which writes to wait for.
            Servers::Cluster(_) if self.min_replicas > 0 => {
                Err("`min_replicas` cannot be had from a cluster; \
                     set min-replicas-to-write on its nodes"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// The servers and the text of the database.
fn servers(
    scheme: &str,
    hosts: &str,
    path: &str,
    options: &mut Options,
) -> Result<(Servers, Option<String>), String> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(match scheme {
        "redis" | "rediss" if hosts.contains(',') => {
            return Err("it names several hosts; \
                        write redis+sentinel:// or redis+cluster:// for those"
                .to_owned());
        }
        "redis" | "rediss" => {
            (Servers::One(Host::read(hosts, 6379)?), options.take_or("db", some(path))?)
        }
        "redis+unix" if hosts.is_empty() && !path.is_empty() => {
            (Servers::Socket(PathBuf::from(format!("/{}", decoded(path)?))), options.take("db"))
        }
        "redis+unix" => return Err("a socket is written redis+unix:///PATH".to_owned()),
        "redis+sentinel" => {
            let (service, database) = path.split_once('/').unwrap_or((path, ""));
            if service.is_empty() {
                return Err(
                    "it names no service; write redis+sentinel://HOST,HOST/SERVICE".to_owned()
                );
            }
            let servers = Servers::Sentinels {
                sentinels: Host::read_list(hosts, 26379)?,
                service: decoded(service)?,
                login: Login::of_sentinels(options)?,
            };
            (servers, options.take_or("db", some(database))?)
        }
        "redis+cluster" => {
            let nodes = Host::read_list(hosts, 6379)?;
            (Servers::Cluster(nodes), options.take_or("db", some(path))?)
        }
        _ => return Err("its scheme is unknown".to_owned()),
    })
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

/// What can stand before a key, in a pattern of an access list, and outside of a hash tag.
fn prefix(text: String) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"{}*?[]^\\".contains(c);
    match text.chars().all(is_plain) && text.len() <= 64 {
        true => Ok(text),
        false => {
            Err("`prefix` has at most 64 visible ASCII signs, and none of {}*?[]^\\".to_owned())
        }
    }
}

fn replica_timeout(text: &str) -> Result<Duration, String> {
    let timeout = span(text).map_err(|hint| format!("`replica_timeout` is not a time; {hint}"))?;
    match timeout <= LONGEST_REPLICA_TIMEOUT {
        true => Ok(timeout),
        false => {
            Err(format!("`replica_timeout` is longer than {} s", LONGEST_REPLICA_TIMEOUT.as_secs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::read(url).unwrap_or_else(|reason| panic!("{url}: {reason}"))
    }

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    fn login(user: &str, password: &str) -> Login {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Login { user: some(user), password: Some(password.to_owned()) }
    }

    #[test]
    fn one_server_by_name_by_address_and_by_socket() {
        for (url, name, port, database) in [
            ("redis://cache", "cache", 6379, 0),
            ("redis://cache/", "cache", 6379, 0),
            ("redis://cache:7000/3", "cache", 7000, 3),
            ("redis://10.0.0.1:7000/?db=5", "10.0.0.1", 7000, 5),
            ("redis://u:p@[::1]:7000/2", "::1", 7000, 2),
            ("rediss://[fe80::1]", "fe80::1", 6379, 0),
        ] {
            let read = address(url);
            assert_eq!(read.servers, Servers::One(host(name, port)), "{url}");
            assert_eq!(read.database, database, "{url}");
            assert_eq!(read.tls.is_some(), url.starts_with("rediss"), "{url}");
        }
        let read = address("redis+unix:///run/my%20redis.sock?db=1");
        assert_eq!(read.servers, Servers::Socket("/run/my redis.sock".into()));
        assert_eq!(read.database, 1);
    }

    #[test]
    fn many_servers() {
        let read = address(
            "redis+sentinel://:p@a,[::1]:7000/my%2Fmain/2?sentinel_user=u&sentinel_password=s\
             &tls=true",
        );
        let sentinels = vec![host("a", 26379), host("::1", 7000)];
        let service = "my/main".to_owned();
        assert_eq!(read.servers, Servers::Sentinels { sentinels, service, login: login("u", "s") });
        assert_eq!((read.login, read.database), (login("", "p"), 2));
        assert!(read.tls.is_some());
        for url in ["redis+cluster://a,b:7000", "redis+cluster://a,b:7000/0?tls=false"] {
            let read = address(url);
            assert_eq!(read.servers, Servers::Cluster(vec![host("a", 6379), host("b", 7000)]));
            assert!(read.tls.is_none());
        }
    }

    #[test]
    fn who_we_are() {
        for (url, login) in [
            ("redis://h", Login::default()),
            ("redis://:@h", Login::default()),
            ("redis://:p%40%2f%25@h", login("", "p@/%")),
            ("redis://:p@p:p@h", login("", "p@p:p")),
            ("redis://m%C3%A9:pw@h", login("mé", "pw")),
            ("redis://nopass:@h", login("nopass", "")),
            ("redis://me@h?password=p%26p", login("me", "p&p")),
            ("redis+unix://me:pw@/s", login("me", "pw")),
            ("redis+unix:///s?user=me&password=p+w", login("me", "p+w")),
        ] {
            assert!(address(url).login == login, "{url}");
        }
    }

    #[test]
    fn how_it_is_used() {
        let read = address(
            "redis://h?prefix=prod:&min_replicas=1&replica_timeout=500ms&after_restart=refuse",
        );
        assert_eq!((read.prefix.as_str(), read.min_replicas), ("prod:", 1));
        assert_eq!(read.replica_timeout, Duration::from_millis(500));
        assert_eq!(read.after_restart, AfterRestart::Refuse);
        let read = address("redis://h");
        assert_eq!((read.prefix.as_str(), read.min_replicas), ("", 0));
        assert_eq!(read.replica_timeout, Duration::from_secs(1));
        assert_eq!(read.after_restart, AfterRestart::Wait);
    }

    /// URLs, and a part of what is said about them.
    const WRONG: &[(&str, &str)] = &[
        ("redis:h", "`://` is missing"),
        ("redis://", "names no host"),
        ("redis://:6379", "names no host"),
        ("redis://h:x", "the port is no number"),
        ("redis://h:", "the port is no number"),
        ("redis://h:0", "the port is 0"),
        ("redis://h:70000", "the port is no number"),
        ("redis://[::1]7000", "the port is no number"),
        ("redis://::1", "stands in brackets"),
        ("redis://a,b", "redis+sentinel:// or redis+cluster://"),
        ("redis://h/x", "the database is no number"),
        ("redis://h/-1", "the database is no number"),
        ("redis://h/1?db=2", "`db` stands in it twice"),
        ("redis://h?db=1&db=1", "`db` stands in it twice"),
        ("redis://:p@h?password=q", "`password` stands in it twice"),
        ("redis://:p#w@h", "as %40, %2F, %3F, %23"),
        ("redis://:p/w@h", "as %40, %2F, %3F, %23"),
        ("redis://:p?w@h", "as %40, %2F, %3F, %23"),
        ("redis://h /", "as %40, %2F, %3F, %23"),
        ("redis://:%ff@h", "not UTF-8"),
        ("redis://me@h", "a user without a password"),
        ("redis+unix://h/path", "redis+unix:///PATH"),
        ("redis+unix:///", "redis+unix:///PATH"),
        ("redis+unix:///p?tls=true", "`tls` is for TLS"),
        ("redis://h?tls=true", "write rediss://"),
        ("redis://h?ca=/ca.pem", "write rediss://"),
        ("rediss://h?ca=/nowhere.pem", "/nowhere.pem cannot be read: No such file"),
        ("rediss://h?ca=/dev/null", "/dev/null holds no certificate"),
        ("rediss://h?cert=/c.pem", "belong together"),
        ("redis+cluster://a?tls=yes", "`tls` is neither true nor false"),
        ("redis+sentinel://a,b", "names no service"),
        ("redis+sentinel://a,/s", "names no host"),
        ("redis+sentinel://a/s/x", "the database is no number"),
        ("redis+cluster://a/1", "no database but 0"),
        ("redis+cluster://a?min_replicas=1", "min-replicas-to-write"),
        ("redis://h?prefx=a", "no option `prefx`; the nearest is `prefix`"),
        ("redis://h?prefix", "NAME=VALUE"),
        ("redis://h?sentinel_user=a", "`sentinel_user` has no meaning"),
        ("redis://h?prefix={a}", "none of {}"),
        ("redis://h?prefix=a%20b", "none of {}"),
        ("redis://h?min_replicas=-1", "`min_replicas` is no number"),
        ("redis://h?replica_timeout=soon", "`replica_timeout` is not a time; write seconds"),
        ("redis://h?replica_timeout=3s", "longer than 2 s"),
        ("redis://h?after_restart=never", "wait, refuse or trust"),
    ];

    #[test]
    fn what_is_wrong_is_said() {
        for (url, reason) in WRONG {
            let said = Address::read(url).err().unwrap_or_default();
            assert!(said.contains(reason), "{url}: {said}");
        }
        let long = format!("redis://h?prefix={}", "a".repeat(65));
        assert!(Address::read(&long).unwrap_err().contains("at most 64"));
    }

    #[test]
    fn no_secret_is_shown() {
        for url in [
            "redis://u:canary@h/0",
            "redis://:canary@h?odd=1",
            "redis://canary@h",
            "redis://:canary",
            "redis://u:canary/0",
            "redis:/u:canary@h",
            "redis:canary@h",
            "redis://:ca/canary@h:1/0",
            "redis://:ca?canary@h/0",
            "redis://:ca?db=canary@h/0",
            "redis://:ca#canary@h/0",
            "redis://:canary@h:x",
            "redis://u:canary@h/0?db=1",
            "redis://h?pasword=canary",
            "redis://h?canary",
            "redis+unix:///s?password=canary",
            "redis+unix:///s?password=canary&password=canary",
            "redis+sentinel://:canary@h/s?sentinel_password=canary",
            "redis+sentinel://:canary@h/s?sentinel_password=canary&odd=1",
        ] {
            let read = Address::parse(url);
            let said = match &read {
                Ok(address) => format!("{address:?} {:?} {:?}", address.login, address.servers),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!said.contains("canary"), "{url}: {said}");
        }
    }
}
