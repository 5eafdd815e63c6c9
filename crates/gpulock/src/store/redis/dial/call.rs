//! Calling one server.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::{TcpSettings, socket2};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates,
};

use super::PATIENCE;
use crate::store::redis::address::{Address, Host, Tls};

/// Connects and logs in.
pub(super) async fn call(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    explained(client, client.get_multiplexed_async_connection_with_config(&config()).await).await
}

/// The same for a connection that only listens.
pub(super) async fn listen(client: &Client) -> Result<PubSub, RedisError> {
    explained(client, client.get_async_pubsub().await).await
}

pub(super) fn client_of(address: &Address, host: &Host) -> Result<Client, RedisError> {
    client(address, place(address, host))
}

pub(super) fn client(address: &Address, place: ConnectionAddr) -> Result<Client, RedisError> {
    let Address { login, database, .. } = address;
    let mut settings = RedisConnectionInfo::default()
        .set_db((*database).into())
        .set_lib_name("gpulock", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password);
    }
    let info = place.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp());
    match &address.tls {
        Some(tls) => Client::build_with_tls(info, certificates(tls)?),
        None => Client::open(info),
    }
}

/// Names and addresses without TLS parameters.
pub(super) fn place(address: &Address, host: &Host) -> ConnectionAddr {
    let Host { name, port } = host.clone();
    match address.tls {
        Some(_) => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(name, port),
    }
}

/// Small messages go out at once, and a connection whose other end has vanished is noticed
/// although nothing is sent over it.
pub(super) fn tcp() -> TcpSettings {
    let probes = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(2);
    TcpSettings::default().set_nodelay(true).set_keepalive(probes)
}

pub(super) fn certificates(tls: &Tls) -> Result<TlsCertificates, RedisError> {
    // Fails if a program around us has chosen a provider already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tls.certificates()
        .map_err(|reason| RedisError::from((ErrorKind::InvalidClientConfig, "TLS", reason)))
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
}

/// The library takes every error at login for a wrong password, also "too many clients".
/// So the server is asked again, for its own words.
async fn explained<T>(client: &Client, answer: Result<T, RedisError>) -> Result<T, RedisError> {
    match answer {
        Err(error) if error.kind() == ErrorKind::AuthenticationFailed => {
            Err(log_in(client).await.err().unwrap_or(error))
        }
        answer => answer,
    }
}

async fn log_in(client: &Client) -> Result<(), RedisError> {
    let info = client.get_connection_info();
    let anonymous = RedisConnectionInfo::default().set_skip_set_lib_name();
    let stranger = Client::open(info.clone().set_redis_settings(anonymous))?;
    let mut connection = stranger.get_multiplexed_async_connection_with_config(&config()).await?;
    let settings = info.redis_settings();
    redis::cmd("AUTH")
        .arg(settings.username())
        .arg(settings.password())
        .query_async(&mut connection)
        .await
}
