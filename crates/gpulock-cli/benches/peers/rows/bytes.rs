//! How many bytes a step takes, and that it does not depend on how many wait.

use std::sync::Arc;
use std::time::Duration;

use gpulock::core::{PoolName, Priority};
use gpulock::store::Store;
use gpulock::{Acquiring, Client, Lease, Options, Polling};

use crate::locks;
use crate::part::KEY;
use crate::peer::Peer;
use crate::redis_counts::RedisCounts;
use crate::servers::Server;
use crate::stand_in;
use crate::table::row_of_gpulock;

const QUEUES: [u128; 3] = [10, 1_000, 10_000];

/// So many requests are measured. They have priority: the queue stands behind them.
const MEASURED: usize = 100;

/// Bytes for each request: over sockets while it joined and when its turn came, and into the
/// append-only file when its turn came.
struct Cost {
    join: u64,
    hand_over: u64,
    log: u64,
}

pub(crate) fn measure() {
    let server = Server::start(Peer::Gpulock);
    let mut counts = server.counts().unwrap();
    counts.keep_log();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let costs = runtime.block_on(of_queues(&server.url(Peer::Gpulock), &mut counts));
    let queues = QUEUES.map(|queue| queue.to_string()).join(" / ");
    let line = |what: &str, part: fn(&Cost) -> u64| {
        let bytes: Vec<String> = costs.iter().map(|cost| part(cost).to_string()).collect();
        row_of_gpulock(&format!("bytes {what}, {queues} waiting"), &bytes.join(" / "));
    };
    line("from and to clients for each who joins", |cost| cost.join);
    line("from and to clients for each hand-over", |cost| cost.hand_over);
    line("into the append-only file for each hand-over", |cost| cost.log);
}

async fn of_queues(url: &str, counts: &mut RedisCounts) -> Vec<Cost> {
    let (store, pool) = (gpulock::connect(url).unwrap(), KEY.parse::<PoolName>().unwrap());
    locks::one_gpu(Arc::clone(&store), KEY).await;
    let client = silent_client(Arc::clone(&store));
    let mut holder = client.request(locks::task()).start().unwrap().await.unwrap();
    let (mut costs, mut waiting) = (Vec::new(), 0);
    for queue in QUEUES {
        stand_in::join(&store, &pool, waiting, queue).await;
        waiting = queue;
        let (cost, last) = of_queue(&client, holder, counts).await;
        costs.push(cost);
        holder = last;
    }
    holder.abandon();
    costs
}

/// The last of those that are measured keeps the GPU, so that no stand-in gets it.
async fn of_queue(client: &Client, holder: Lease, counts: &mut RedisCounts) -> (Cost, Lease) {
    let first = counts.bytes();
    let start = counts.bytes();
    let of_asking = start.sockets - first.sockets;
    let mut requests = Vec::new();
    for _ in 0..MEASURED {
        requests.push(queued(client).await);
    }
    let joined = counts.bytes();
    let mut lease = holder;
    for request in requests {
        lease.release().await.unwrap();
        lease = request.await.unwrap();
    }
    let handed_over = counts.bytes();
    let each = |bytes: u64| bytes / MEASURED as u64;
    let cost = Cost {
        join: each(joined.sockets - start.sockets - of_asking),
        hand_over: each(handed_over.sockets - joined.sockets - of_asking),
        log: each(handed_over.log - joined.log),
    };
    (cost, lease)
}

async fn queued(client: &Client) -> Acquiring {
    let request = client.request(locks::task()).priority(Priority::High).start().unwrap();
    let mut progress = request.progress();
    progress.wait_for(|state| state.ahead.is_some()).await.unwrap();
    request
}

/// One that neither polls nor renews during the measurement.
fn silent_client(store: Arc<dyn Store>) -> Client {
    let never = Duration::from_secs(3_600);
    let polling = Polling { first: never, longest: never, ..Polling::default() };
    locks::client(store, Options { polling, ..locks::options(KEY, never) })
}
