//! Connections to a cluster.

use redis::aio::PubSub;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{ErrorKind, RedisError, TlsMode};

use super::call::{call, certificates, client_of, listen, place, tcp};
use super::{PATIENCE, in_time};
use crate::store::redis::address::{Address, Host};

/// Connects to all nodes that one of these knows.
pub(super) async fn connect(
    address: &Address,
    nodes: &[Host],
) -> Result<ClusterConnection, RedisError> {
    match client(address, nodes)?.get_async_connection().await {
        // The library has lost what the nodes said.
        Err(error) if error.is_io_error() => Err(said_by(address, nodes).await.unwrap_or(error)),
        answer => answer,
    }
}

/// Listens to the first node that lets us.
pub(super) async fn listen_anywhere(
    address: &Address,
    nodes: &[Host],
) -> Result<PubSub, RedisError> {
    let mut trouble = RedisError::from((ErrorKind::ClusterConnectionNotFound, "no nodes"));
    // A dead one must leave time for the others.
    let patience = PATIENCE / u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    for node in nodes {
        match in_time(patience, listen(&client_of(address, node)?)).await {
            Ok(heard) => return Ok(heard),
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

fn client(address: &Address, nodes: &[Host]) -> Result<ClusterClient, RedisError> {
    let mut builder = ClusterClient::builder(nodes.iter().map(|node| place(address, node)))
        .connection_timeout(PATIENCE)
        .response_timeout(PATIENCE)
        .tcp_settings(tcp())
        // Enough to follow a slot that has moved. All else is our caller's affair: it knows
        // until when to try, and tells the user.
        .retries(3)
        .min_retry_wait(10)
        .max_retry_wait(100);
    if let Some(user) = &address.login.user {
        builder = builder.username(user);
    }
    if let Some(password) = &address.login.password {
        builder = builder.password(password);
    }
    if let Some(tls) = &address.tls {
        builder = builder.tls(TlsMode::Secure).certs(certificates(tls)?);
    }
    builder.build()
}

async fn said_by(address: &Address, nodes: &[Host]) -> Option<RedisError> {
    let mut said = None;
    for node in nodes {
        match call(&client_of(address, node).ok()?).await {
            Err(error) if said.is_none() || !error.is_io_error() => said = Some(error),
            _ => {}
        }
    }
    said
}
