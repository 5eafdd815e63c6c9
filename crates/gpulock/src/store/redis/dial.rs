//! Making connections, to whatever kind of servers an address names.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::{TcpSettings, socket2};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, TlsCertificates,
    TlsMode, Value,
};

use super::address::{Address, Host, Login, Servers, Tls};

/// For a connection to be made, and for an answer to come. A call that takes longer counts
/// as lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// For everything that a new connection takes: asking Sentinels, TLS, login.
const DIALING: Duration = Duration::from_secs(5);

/// A connection that many calls share.
#[derive(Clone)]
pub(crate) enum Connection {
    /// To one server.
    One(MultiplexedConnection),
    /// To the nodes of a cluster.
    Cluster(ClusterConnection),
}

/// Makes a connection for calls.
pub(crate) async fn dial(address: &Address) -> Result<Connection, RedisError> {
    in_time(async {
        if let Servers::Cluster(nodes) = &address.servers {
            return Ok(Connection::Cluster(cluster(address, nodes)?.get_async_connection().await?));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let server = server(address).await?;
        Ok(Connection::One(server.get_multiplexed_async_connection_with_config(&config).await?))
    })
    .await
}

/// Makes a connection that listens. In a cluster any node will do: it hears what is
/// published on any other.
pub(crate) async fn dial_subscription(address: &Address) -> Result<PubSub, RedisError> {
    in_time(async {
        let Servers::Cluster(nodes) = &address.servers else {
            return server(address).await?.get_async_pubsub().await;
        };
        let mut answer = Err(wrong("the cluster has no nodes", String::new()));
        for node in nodes {
            answer = client(address, node_address(node, address.tls.is_some()))?
                .get_async_pubsub()
                .await;
            if answer.is_ok() {
                break;
            }
        }
        answer
    })
    .await
}

async fn in_time<T>(dialing: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    let late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer in time");
    tokio::time::timeout(DIALING, dialing).await.map_err(late)?
}

/// The one server of an address that is not a cluster.
async fn server(address: &Address) -> Result<Client, RedisError> {
    match &address.servers {
        Servers::One(host) => client(address, node_address(host, address.tls.is_some())),
        Servers::Cluster(_) => Err(wrong("a cluster is not one server", String::new())),
        Servers::Socket(path) => client(address, ConnectionAddr::Unix(path.clone())),
        Servers::Sentinels { sentinels, service, login } => {
            master(address, sentinels, service, login).await
        }
    }
}

/// The server that Sentinels name, which also says of itself that it is the master. They are
/// asked anew each time: after a fail-over it is another one.
async fn master(
    address: &Address,
    sentinels: &[Host],
    service: &str,
    login: &Login,
) -> Result<Client, RedisError> {
    let is_tls = address.tls.is_some();
    let places = sentinels.iter().map(|sentinel| node_address(sentinel, is_tls));
    let mut builder = SentinelClientBuilder::new(places, service, SentinelServerType::Master)?
        .set_client_to_redis_db(address.database.into())
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if let Some(tls) = &address.tls {
        let certificates = certificates(tls)?;
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates);
    }
    if let Some(user) = &address.login.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &address.login.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = &login.user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &login.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder.build()?.async_get_client().await
}

fn cluster(address: &Address, nodes: &[Host]) -> Result<ClusterClient, RedisError> {
    let is_tls = address.tls.is_some();
    let nodes: Result<Vec<_>, _> =
        nodes.iter().map(|node| connection_info(address, node_address(node, is_tls))).collect();
    // Trying again is our caller's affair: it knows until when, and tells the user.
    let mut builder = ClusterClient::builder(nodes?)
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE)
        .tcp_settings(tcp())
        .retries(2);
    if let Some(tls) = &address.tls {
        builder = builder.tls(TlsMode::Secure).certs(certificates(tls)?);
    }
    builder.build()
}

fn client(address: &Address, place: ConnectionAddr) -> Result<Client, RedisError> {
    let info = connection_info(address, place)?;
    match &address.tls {
        Some(tls) => Client::build_with_tls(info, certificates(tls)?),
        None => Client::open(info),
    }
}

fn connection_info(address: &Address, place: ConnectionAddr) -> Result<ConnectionInfo, RedisError> {
    let mut settings = RedisConnectionInfo::default()
        .set_db(address.database.into())
        .set_lib_name("gpulock", env!("CARGO_PKG_VERSION"));
    if let Some(user) = &address.login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &address.login.password {
        settings = settings.set_password(password);
    }
    Ok(place.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(tcp()))
}

fn node_address(host: &Host, is_tls: bool) -> ConnectionAddr {
    let Host { name, port } = host.clone();
    match is_tls {
        true => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(name, port),
    }
}

/// Small messages go out at once, and a connection whose other end has vanished is noticed
/// although nothing is sent over it.
fn tcp() -> TcpSettings {
    let probes = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(2);
    TcpSettings::default().set_nodelay(true).set_keepalive(probes)
}

fn certificates(tls: &Tls) -> Result<TlsCertificates, RedisError> {
    // Fails if a program around us has chosen a provider already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client_tls = match &tls.identity {
        Some((certificate, key)) => {
            Some(ClientTlsConfig { client_cert: file(certificate)?, client_key: file(key)? })
        }
        None => None,
    };
    let root_cert = tls.authority.as_deref().map(file).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}

fn file(path: &Path) -> Result<Vec<u8>, RedisError> {
    std::fs::read(path).map_err(|error| {
        wrong("a certificate cannot be read", format!("{}: {error}", path.display()))
    })
}

fn wrong(what: &'static str, detail: String) -> RedisError {
    RedisError::from((ErrorKind::InvalidClientConfig, what, detail))
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "Connection::One",
            Self::Cluster(_) => "Connection::Cluster",
        })
    }
}
