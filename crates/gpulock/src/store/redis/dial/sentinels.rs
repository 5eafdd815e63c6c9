//! Finding the server that Sentinels name, as
//! <https://redis.io/docs/latest/develop/reference/sentinel-clients/> says.

use redis::aio::MultiplexedConnection;
use redis::{Client, ErrorKind, RedisError, ServerErrorKind};

use super::call::{call, client_of};
use super::{PATIENCE, in_time};
use crate::store::redis::address::{Address, Host, Login};

/// The server that a Sentinel names and that says of itself that it is the master. They are
/// asked anew each time: after a fail-over it is another one.
pub(super) async fn master(
    address: &Address,
    sentinels: &[Host],
    service: &str,
    login: &Login,
) -> Result<(Client, MultiplexedConnection), RedisError> {
    let to_sentinel = Address { login: login.clone(), database: 0, ..address.clone() };
    // A dead one must leave time for the others.
    let patience = PATIENCE / u32::try_from(sentinels.len()).unwrap_or(u32::MAX);
    let mut trouble = None;
    for sentinel in sentinels {
        let attempt = async {
            let host = named_by(&client_of(&to_sentinel, sentinel)?, service).await?;
            let client = client_of(address, &host)?;
            let mut connection = call(&client).await?;
            check_role(&mut connection).await?;
            Ok((client, connection))
        };
        match in_time(patience, attempt).await {
            Ok(found) => return Ok(found),
            // What somebody said is worth more than that nobody answered.
            Err(error) if trouble.is_none() || !error.is_io_error() => trouble = Some(error),
            Err(_) => {}
        }
    }
    Err(trouble.unwrap_or_else(|| RedisError::from((ErrorKind::EmptySentinelList, "none"))))
}

async fn named_by(sentinel: &Client, service: &str) -> Result<Host, RedisError> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let answer: Option<(String, u16)> = question.query_async(&mut call(sentinel).await?).await?;
    let unknown = || RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "unknown"));
    answer.map(|(name, port)| Host { name, port }).ok_or_else(unknown)
}

/// During a fail-over a Sentinel may name a server that is none any more or not yet.
async fn check_role(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let told: String = redis::cmd("INFO").arg("replication").query_async(connection).await?;
    match told.lines().any(|line| line.trim_end() == "role:master") {
        true => Ok(()),
        false => Err(RedisError::from((ServerErrorKind::ReadOnly.into(), "it is a replica"))),
    }
}
