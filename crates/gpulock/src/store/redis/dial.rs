//! Making connections, to whatever kind of servers an address names.

mod call;
mod cluster;
mod sentinels;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use redis::ConnectionAddr::Unix;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value};

use self::call::{call, client, client_of, listen};
use super::address::{Address, Servers};

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
    in_time(DIALING, async {
        let connection = match &address.servers {
            Servers::One(host) => call(&client_of(address, host)?).await?,
            Servers::Socket(path) => call(&client(address, Unix(path.clone()))?).await?,
            Servers::Sentinels { sentinels, service, login } => {
                sentinels::master(address, sentinels, service, login).await?.1
            }
            Servers::Cluster(nodes) => {
                return Ok(Connection::Cluster(cluster::connect(address, nodes).await?));
            }
        };
        Ok(Connection::One(connection))
    })
    .await
}

/// Makes a connection that listens to a channel: the server has confirmed it. In a cluster
/// any node will do: it hears what is published on any other.
pub(crate) async fn dial_subscription(
    address: &Address,
    channel: &str,
) -> Result<PubSub, RedisError> {
    in_time(DIALING, async {
        let mut heard = match &address.servers {
            Servers::One(host) => listen(&client_of(address, host)?).await?,
            Servers::Socket(path) => listen(&client(address, Unix(path.clone()))?).await?,
            Servers::Sentinels { sentinels, service, login } => {
                listen(&sentinels::master(address, sentinels, service, login).await?.0).await?
            }
            Servers::Cluster(nodes) => cluster::listen_anywhere(address, nodes).await?,
        };
        heard.subscribe(channel).await?;
        Ok(heard)
    })
    .await
}

async fn in_time<T>(
    patience: Duration,
    dialing: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(patience, dialing).await.map_err(late)?
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
