//! A look at the server: what about it could cost a lease, and what to do about it.

mod release;

use std::time::{Duration, Instant};

use gpulock_core::Time;

use super::RedisStore;
use super::address::{Address, AfterRestart, Servers};
use super::info::Info;
use super::keys::Keys;
use super::reply;
use crate::clock::wall_time;
use crate::store::{Remark, StoreError};

/// A round trip that takes longer is felt at each step.
const SLOW: Duration = Duration::from_millis(5);

/// Round trips that are measured.
const ROUND_TRIPS: usize = 21;

/// People compare times of hosts; a larger difference leads them astray.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// Looks at everything. Where the server does not answer, that is the only remark.
pub(super) async fn examine(store: &RedisStore) -> Vec<Remark> {
    match look(store).await {
        Ok(remarks) => remarks,
        Err(error) => {
            let remark = Remark::bad("server", error.to_string());
            vec![match error.hint() {
                Some(hint) => remark.hint(hint),
                None => remark,
            }]
        }
    }
}

async fn look(store: &RedisStore) -> Result<Vec<Remark>, StoreError> {
    let address = store.link.address();
    let mut remarks = vec![latency(store).await?, clock(store).await?];
    if matches!(address.servers, Servers::Cluster(_)) {
        remarks.push(cluster());
    } else {
        let told = store.link.ask(redis::cmd("INFO")).await?.value;
        let info = Info::new(redis::from_redis_value(told).unwrap_or_default());
        remarks.push(release::remark(&info));
        remarks.push(memory(&info));
        remarks.push(persistence(&info, address));
        remarks.push(replicas(&info, address));
    }
    remarks.push(network(address));
    remarks.push(rights(store).await?);
    Ok(remarks)
}

async fn latency(store: &RedisStore) -> Result<Remark, StoreError> {
    let mut taken = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        store.link.ask(redis::cmd("PING")).await?;
        taken.push(began.elapsed());
    }
    taken.sort();
    let (median, worst) = (taken[ROUND_TRIPS / 2], taken[ROUND_TRIPS - 1]);
    let message =
        format!("a round trip takes {median:.1?}, the slowest of {ROUND_TRIPS} took {worst:.1?}");
    Ok(match median > SLOW {
        false => Remark::good("latency", message),
        true => Remark::warning("latency", message)
            .hint("each step takes one or two of them; use a server that is nearer, and look at `redis-cli --latency`"),
    })
}

async fn clock(store: &RedisStore) -> Result<Remark, StoreError> {
    let began = wall_time();
    let told = store.link.ask(redis::cmd("TIME")).await?.value;
    let ended = wall_time();
    let (seconds, micros): (u64, u64) = redis::from_redis_value(told).unwrap_or_default();
    let server = Time::from_micros(seconds * 1_000_000 + micros);
    // Where in between it looked at its clock, nobody knows.
    let offset = began.since(server).max(server.since(ended));
    Ok(match offset > CLOCK_TOLERANCE {
        false => Remark::good("clock", "the server's clock and this host's agree"),
        true => Remark::warning("clock", format!("the server's clock and this host's differ by {offset:.1?}"))
            .hint("no deadline depends on this host's clock, but times that are shown do; run a time service (NTP) on both, and never set the server's clock by hand: set ahead, it ends leases early"),
    })
}

/// What a full server throws away must not be a lease.
fn memory(info: &Info) -> Remark {
    let limit = info.number("maxmemory").unwrap_or(0u64);
    let used = info.number("used_memory").unwrap_or(0u64);
    let policy = info.text("maxmemory_policy").unwrap_or("noeviction");
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let keep = "`maxmemory-policy noeviction` in redis.conf, or `CONFIG SET maxmemory-policy noeviction`; let caches that need another policy use a server of their own";
    match (policy, limit) {
        ("noeviction", 0) => {
            Remark::good("memory", format!("{} MiB used, without a limit", mebibytes(used)))
        }
        ("noeviction", _) if used > limit / 10 * 9 => Remark::warning(
            "memory",
            format!(
                "{} of {} MiB are used; when it is full nothing new is lent",
                mebibytes(used),
                mebibytes(limit)
            ),
        )
        .hint("raise `maxmemory`"),
        ("noeviction", _) => Remark::good(
            "memory",
            format!("{} of {} MiB used, nothing is evicted", mebibytes(used), mebibytes(limit)),
        ),
        (policy, 0) => Remark::warning(
            "memory",
            format!("the policy is {policy}: as soon as there is a limit, keys are thrown away"),
        )
        .hint(keep),
        (policy, _) => Remark::bad(
            "memory",
            format!("the policy is {policy}: the server throws keys away when its memory is full"),
        )
        .hint(keep),
    }
}

fn persistence(info: &Info, address: &Address) -> Remark {
    let closing = match address.after_restart {
        AfterRestart::Wait => {
            "after a restart nothing is lent for one heartbeat timeout, because leases may be forgotten"
        }
        AfterRestart::Refuse => {
            "after a restart requests are refused for one heartbeat timeout, because leases may be forgotten"
        }
        AfterRestart::Trust => {
            "after a restart leases may be forgotten and their GPUs lent twice (after_restart=trust)"
        }
    };
    let advice = "`appendonly yes` in redis.conf, with `appendfsync everysec` (a power cut costs a second) or `always`";
    if !info.is_on("aof_enabled") {
        return Remark::warning("persistence", format!("no log of writes: {closing}")).hint(advice);
    }
    match info.text("aof_last_write_status") {
        Some("ok") | None => Remark::good("persistence", "every write is logged"),
        Some(status) => {
            Remark::bad("persistence", format!("the log of writes cannot be written: {status}"))
                .hint("look at the server's log, and whether its disk is full")
        }
    }
}

fn replicas(info: &Info, address: &Address) -> Remark {
    let count: u32 = info.number("connected_slaves").unwrap_or(0);
    let wanted = address.min_replicas;
    let has = match count {
        0 => "no replica".to_owned(),
        1 => "1 replica".to_owned(),
        count => format!("{count} replicas"),
    };
    if info.text("role") == Some("slave") {
        return Remark::bad("replicas", "this server is a replica and takes no writes").hint(
            "name the master, or the Sentinels that know it: redis+sentinel://HOST,HOST/SERVICE",
        );
    }
    match (count, wanted) {
        (0, 0) => Remark::good("replicas", "none"),
        _ if count < wanted => Remark::bad("replicas", format!("{has}, and min_replicas asks for {wanted}: nothing can be lent"))
            .hint("start the replicas, or lower min_replicas in the store's URL"),
        (_, 0) => Remark::warning("replicas", format!("{has}, and no lease waits for one: a fail-over can lose the latest grants"))
            .hint("add min_replicas=1 to the store's URL, and `min-replicas-to-write 1` to redis.conf for the case that the master is cut off; without, nothing is lent for one heartbeat timeout after a fail-over"),
        _ => Remark::good("replicas", format!("{has}, {wanted} must have each write")),
    }
}

fn cluster() -> Remark {
    Remark::warning("cluster", "a node that comes back without its latest writes is not noticed in a cluster")
        .hint("`appendonly yes` and `min-replicas-to-write 1` on every node; Sentinels or a single server close the pool in that case")
}

fn network(address: &Address) -> Remark {
    let hosts = match &address.servers {
        Servers::Socket(_) => return Remark::good("network", "a socket of this machine"),
        Servers::One(host) => std::slice::from_ref(host),
        Servers::Sentinels { sentinels: hosts, .. } | Servers::Cluster(hosts) => hosts,
    };
    let is_local = |name: &str| name == "localhost" || name.starts_with("127.") || name == "::1";
    match &address.tls {
        Some(_) => Remark::good("network", "TLS, and the server's certificate is verified"),
        None if hosts.iter().all(|host| is_local(&host.name)) => Remark::good("network", "this machine alone"),
        None => Remark::warning("network", "everything, passwords included, goes over the network in clear")
            .hint("rediss:// instead of redis://, or tls=true with Sentinels and clusters; see `docs/guides/many-hosts.md`"),
    }
}

/// Which user we are, and the rights that are enough.
async fn rights(store: &RedisStore) -> Result<Remark, StoreError> {
    let mut whoami = redis::cmd("ACL");
    whoami.arg("WHOAMI");
    let user = match store.link.ask(whoami).await {
        Ok(answered) => reply::name(answered.value),
        // A user who may not even ask has no more rights than it needs.
        Err(StoreError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    let enough = access_list(&store.keys, store.link.address());
    Ok(match user.as_deref() {
        Some("default") => {
            Remark::warning("rights", "we are the user `default`, who may do everything")
                .hint(enough)
        }
        Some(user) => Remark::good("rights", format!("we are the user `{user}`")).hint(enough),
        None => Remark::good("rights", "we are a user with few rights"),
    })
}

/// The command that makes a user who may do what gpulock does, and nothing else.
/// See <https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/>.
fn access_list(keys: &Keys, address: &Address) -> String {
    let pattern = keys.pattern();
    let waits = if address.min_replicas > 0 { " +wait" } else { "" };
    let in_cluster = match address.servers {
        Servers::Cluster(_) => " +cluster|slots +cluster|shards +cluster|nodes +readonly",
        _ => "",
    };
    format!(
        "ACL SETUSER gpulock on >PASSWORD resetkeys ~{pattern} resetchannels &{pattern} -@all \
         +eval +evalsha +hget +hmget +hgetall +hset +hdel +hexists +hincrby +zadd +zrem +zcard \
         +zrangebylex +zlexcount +zpopmin +xadd +xlen +xrange +xrevrange +sadd +smembers +publish +subscribe \
         +unsubscribe +time +info +ping +select{waits}{in_cluster}"
    )
}
