//! What an error of a server or of a connection means for a store: whether trying again can
//! help, and what a person should know.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError};

use super::address::{Address, Servers};
use crate::store::StoreError;
use crate::store::tls_trouble::{brief, of_tls};

/// Codes of answers after which trying again helps.
/// See <https://github.com/redis/redis/blob/7.0/src/server.c>, `createSharedObjects`.
const PASSING: [(&str, &str); 10] = [
    ("ASK", "the cluster is moving keys"),
    ("BUSY", "it is busy with a script"),
    ("CLUSTERDOWN", "the cluster is not whole"),
    ("LOADING", "it is loading its data"),
    ("MASTERDOWN", "it has lost its master"),
    ("MISCONF", "it takes no writes because it cannot save them to its disk; its log says why"),
    ("MOVED", "the cluster is moving keys"),
    ("NOREPLICAS", "it takes no writes because it has too few replicas (min-replicas-to-write)"),
    ("READONLY", "it is a replica; another server is master now, or will be"),
    ("TRYAGAIN", "the cluster is moving keys"),
];

enum Trouble {
    /// Trying again can help.
    Passing(String),
    /// Somebody has to do something first.
    Lasting(String),
    MemoryFull,
}

use Trouble::{Lasting, MemoryFull, Passing};

/// The error of a call, as a store reports it.
pub(super) fn failed(address: &Address, error: &RedisError) -> StoreError {
    let place = address.shown.clone();
    match trouble(address, error) {
        Passing(reason) => StoreError::Unavailable { place, reason },
        Lasting(reason) => StoreError::Refused { place, reason },
        MemoryFull => StoreError::OutOfMemory(place),
    }
}

fn trouble(address: &Address, error: &RedisError) -> Trouble {
    match (error.kind(), &address.servers) {
        (ErrorKind::Io, _) => of_connection(address, error),
        (ErrorKind::ClusterConnectionNotFound, _) => {
            Passing("no node of the cluster can be reached".to_owned())
        }
        (ErrorKind::MasterNameNotFoundBySentinel, Servers::Sentinels { service, .. }) => {
            Lasting(format!("its Sentinels know no service `{service}`"))
        }
        (ErrorKind::Parse, _) => {
            Lasting("it does not speak the protocol of Redis; with TLS write rediss://".to_owned())
        }
        _ => of_answer(address, error),
    }
}

fn of_answer(address: &Address, error: &RedisError) -> Trouble {
    let (code, text) = said(error);
    // A server that does not understand a command may repeat what came with it.
    let text = address.without_secrets(text);
    let user = address.login.user.as_deref().unwrap_or("default");
    match (code.as_str(), &address.servers) {
        ("OOM", _) => MemoryFull,
        ("ERR", _) if text.starts_with("max number of clients") => {
            Passing("it takes no more clients (maxclients)".to_owned())
        }
        ("NOAUTH", Servers::Sentinels { .. }) => {
            Lasting("it or a Sentinel wants a password (sentinel_password)".to_owned())
        }
        ("NOAUTH", _) => Lasting("it wants a password".to_owned()),
        ("WRONGPASS", Servers::Sentinels { .. }) => {
            Lasting("it or a Sentinel knows no such user with this password".to_owned())
        }
        ("WRONGPASS", _) => Lasting(format!("it knows no user `{user}` with this password")),
        ("NOPERM", Servers::Sentinels { .. }) => {
            Lasting(format!("a right is lacking there or at a Sentinel: {text}"))
        }
        ("NOPERM", _) => Lasting(format!("user `{user}` lacks a right: {text}")),
        ("MOVED" | "ASK", servers) if !matches!(servers, Servers::Cluster(_)) => {
            Lasting("it is a node of a cluster; write redis+cluster://".to_owned())
        }
        (code, _) => match PASSING.iter().find(|(passing, _)| *passing == code) {
            Some((_, reason)) => Passing((*reason).to_owned()),
            None => Lasting(text),
        },
    }
}

/// The code and the words of an answer. Redis before 7 wraps both in words of its own where
/// a script meets the error; since then the place in the script follows them.
fn said(error: &RedisError) -> (String, String) {
    let Some(code) = error.code() else {
        return (String::new(), brief(error.detail().unwrap_or(&error.to_string())));
    };
    let text = error.detail().unwrap_or(code);
    let wrapped = text.split_once("@user_script").and_then(|(_, text)| text.split_once(": -"));
    let (code, text) = match wrapped.and_then(|(_, wrapped)| wrapped.split_once(' ')) {
        Some(wrapped) => wrapped,
        None => (code, text.split_once(" script: ").map_or(text, |(text, _)| text)),
    };
    (code.to_owned(), brief(text))
}

fn of_connection(address: &Address, error: &RedisError) -> Trouble {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotFound,
        PermissionDenied, TimedOut, UnexpectedEof,
    };
    let Some(error) = io_error(error) else { return Passing(brief(&error.to_string())) };
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return Lasting(of_tls(tls, "redis://"));
    }
    Passing(match error.kind() {
        ConnectionRefused => "nobody listens there".to_owned(),
        NotFound => "there is no such socket".to_owned(),
        // Redis waits for the end of what it takes for a long line.
        TimedOut if address.tls.is_some() => {
            "it did not answer in time, or does not speak TLS".to_owned()
        }
        TimedOut => "it did not answer in time".to_owned(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
            "it closed the connection".to_owned()
        }
        PermissionDenied => {
            return Lasting("you may not use its socket (unixsocketperm)".to_owned());
        }
        _ => brief(&error.to_string()),
    })
}

/// What the library keeps inside of its own error.
fn io_error(error: &RedisError) -> Option<&io::Error> {
    error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use redis::{ServerErrorKind, make_extension_error};
    use rustls::CertificateError as Certificate;

    use super::*;

    fn said_of(url: &str, error: &RedisError) -> (bool, String) {
        let error = failed(&Address::parse(url).unwrap(), error);
        (error.is_transient(), error.to_string())
    }

    #[test]
    fn answers_are_told_apart() {
        for (code, text, is_transient, reason) in [
            ("LOADING", "Redis is loading", true, "loading its data"),
            ("BUSY", "Redis is busy", true, "busy with a script"),
            ("READONLY", "You can't write", true, "it is a replica"),
            ("ERR", "max number of clients reached", true, "maxclients"),
            ("OOM", "command not allowed when", false, "its memory is full"),
            (
                "ERR",
                "Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command \
                 not allowed when used memory > 'maxmemory'.",
                false,
                "its memory is full",
            ),
            ("NOAUTH", "Authentication required.", false, "it wants a password"),
            ("WRONGPASS", "invalid", false, "it knows no user `me` with this password"),
            (
                "NOPERM",
                "User me has no permissions to run the 'time' command script: 1f, on @user_script:1.",
                false,
                "user `me` lacks a right: User me has no permissions to run the 'time' command",
            ),
            ("MOVED", "1 h:1", false, "write redis+cluster://"),
            (
                "ERR",
                "unknown command\u{1b}[2J 'EVAL'\nmore",
                false,
                "us away: unknown command[2J 'EVAL'",
            ),
            ("NEW", "something else", false, "something else"),
        ] {
            let error = make_extension_error(code.to_owned(), Some(text.to_owned()));
            let (transient, said) = said_of("redis://me:pw@h", &error);
            assert_eq!(transient, is_transient, "{said}");
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn it_depends_on_the_servers_what_an_error_means() {
        let moved = RedisError::from((ServerErrorKind::Moved.into(), "moved", "1 h:1".to_owned()));
        assert!(said_of("redis+cluster://h", &moved).0);
        let unknown = RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "none"));
        let (transient, said) = said_of("redis+sentinel://h/locks", &unknown);
        assert!(!transient && said.contains("no service `locks`"), "{said}");
    }

    #[test]
    fn connections_fail_for_a_while_or_until_somebody_acts() {
        let of_tls = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let certificate = |why| of_tls(rustls::Error::InvalidCertificate(why));
        for (error, is_transient, reason) in [
            (io::ErrorKind::ConnectionRefused.into(), true, "nobody listens there"),
            (io::ErrorKind::UnexpectedEof.into(), true, "it closed the connection"),
            (io::ErrorKind::TimedOut.into(), true, "or does not speak TLS"),
            (io::Error::other("odd\nthing"), true, "reached: odd"),
            (io::ErrorKind::PermissionDenied.into(), false, "you may not use its socket"),
            (certificate(Certificate::UnknownIssuer), false, "nobody trusted here"),
            (certificate(Certificate::NotValidForName), false, "for another host"),
            (certificate(Certificate::Expired), false, "has expired"),
            (of_tls(rustls::Error::HandshakeNotComplete), false, "handshake not complete"),
        ] {
            let (transient, said) = said_of("rediss://h", &error.into());
            assert_eq!(transient, is_transient, "{said}");
            assert!(said.contains(reason), "{said}");
        }
    }
}
