//! One worker process, for locks that are used from Rust. `worker.py` plays the same parts
//! for those in Python, and its lines mean the same.
//!
//! - **pair** measures acquire and release, in turn with two bare scripts;
//! - **cycle** acquires, holds and releases for ever;
//! - **relay** does the same, but lets another worker have its turn first ([`Baton`]);
//! - **once** makes a number of requests at the same time, each served once;
//! - **keep** acquires a number of locks and keeps them;
//! - **renew** keeps leases in a number of pools alive as fast as it can (gpulock only);
//! - **bare** runs bare scripts, as many at a time, as fast as it can.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use rustix::time::{ClockId, clock_gettime};

use crate::baton::Baton;
use crate::gate;
use crate::locks::{self, Lock};
use crate::table::median;

/// Pairs before it is the yardstick's turn: neither pays for the other's cold caches.
const BLOCK: usize = 50;

/// Between the first requests of two workers of a relay: so their order is beyond doubt.
const STAGGER: Duration = Duration::from_millis(5);

/// What a worker was told.
struct Worker {
    peer: String,
    url: String,
    key: String,
    ttl: Duration,
    hold: Duration,
    each: usize,
    number: u32,
}

/// Plays one part: PEER URL PLAY KEY TTL_MS HOLD_US EACH NUMBER.
pub(crate) fn main(words: &[String]) {
    let [peer, url, play, key, ttl, hold, each, number] = words else {
        panic!("a worker has 8 arguments, not {words:?}");
    };
    let worker = Worker {
        peer: peer.clone(),
        url: url.clone(),
        key: key.clone(),
        ttl: Duration::from_millis(ttl.parse().unwrap()),
        hold: Duration::from_micros(hold.parse().unwrap()),
        each: each.parse().unwrap(),
        number: number.parse().unwrap(),
    };
    gate::end_with_benchmark();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let play = play.clone();
    // In a task, as in a server: the outermost future pays for waking the whole runtime.
    let played = runtime.spawn(async move {
        match &*play {
            "pair" => worker.pair().await,
            "cycle" => worker.cycle(None).await,
            "relay" => worker.cycle(Some(Baton::open())).await,
            "once" => worker.once().await,
            "keep" => worker.keep().await,
            "renew" => worker.renew().await,
            "bare" => worker.bare().await,
            other => panic!("no part is called {other}"),
        }
    });
    runtime.block_on(played).unwrap();
}

impl Worker {
    async fn pair(&self) {
        let lock = self.lock().await;
        let mut connection = self.connection().await;
        let script = redis::Script::new("return 1");
        report("ready", &[]);
        gate::wait().await;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.each / BLOCK {
            for _ in 0..BLOCK {
                let start = Instant::now();
                lock.acquire().await.release().await;
                ours.push(start.elapsed());
            }
            for _ in 0..BLOCK {
                let start = Instant::now();
                bare(&script, &mut connection).await;
                bare(&script, &mut connection).await;
                theirs.push(start.elapsed());
            }
        }
        report("pair", &[nanos(median(ours)), nanos(median(theirs))]);
        std::future::pending::<()>().await;
    }

    async fn cycle(&self, mut baton: Option<Baton>) {
        let lock = self.lock().await;
        let number = u64::from(self.number);
        report("ready", &[]);
        gate::wait().await;
        if baton.is_some() {
            tokio::time::sleep(STAGGER * self.number).await;
        }
        loop {
            report("asks", &[number, now()]);
            let lease = lock.acquire().await;
            let held = now();
            baton.as_mut().map(Baton::tell);
            if !self.hold.is_zero() {
                tokio::time::sleep(self.hold).await;
            }
            let released = now();
            lease.release().await;
            baton.as_mut().map(Baton::await_next_holder);
            report("turn", &[number, held, released]);
        }
    }

    async fn once(&self) {
        let lock = self.lock().await;
        let (number, hold) = (u64::from(self.number), self.hold);
        report("ready", &[]);
        gate::wait().await;
        for _ in 0..self.each {
            let lock = lock.clone();
            tokio::spawn(async move {
                report("asks", &[number, now()]);
                let lease = lock.acquire().await;
                report("held", &[number, now()]);
                tokio::time::sleep(hold).await;
                lease.release().await;
            });
        }
        std::future::pending::<()>().await;
    }

    async fn keep(&self) {
        let mut held = Vec::new();
        for key in self.keys() {
            let lock = Lock::open(&self.peer, &self.url, &key, self.ttl).await;
            held.push((lock.acquire().await, lock));
        }
        report("ready", &[]);
        std::future::pending::<()>().await;
    }

    /// One connection, and a client for each pool: every client has one lease.
    async fn renew(&self) {
        let store = gpulock::connect(&self.url).unwrap();
        let renewed = Arc::new(AtomicU64::new(0));
        let mut leases = Vec::new();
        for key in self.keys() {
            locks::one_gpu(store.clone(), &key).await;
            let client = locks::client(store.clone(), locks::options(&key, self.ttl));
            let request = client.request(locks::task());
            let lease = request
                .heartbeats(Duration::from_millis(1), self.ttl)
                .start()
                .unwrap()
                .await
                .unwrap();
            let renewed = renewed.clone();
            lease.on_change(move |_| {
                renewed.fetch_add(1, Ordering::Relaxed);
            });
            leases.push(lease);
        }
        report("ready", &[]);
        gate::wait().await;
        let before = renewed.load(Ordering::Relaxed);
        tokio::time::sleep(self.hold).await;
        report("done", &[renewed.load(Ordering::Relaxed) - before]);
        std::future::pending::<()>().await;
    }

    async fn bare(&self) {
        let connection = self.connection().await;
        report("ready", &[]);
        gate::wait().await;
        let until = Instant::now() + self.hold;
        let done = Arc::new(AtomicU64::new(0));
        let script = redis::Script::new("return 1");
        for _ in 0..self.each {
            let (mut connection, done) = (connection.clone(), done.clone());
            let script = script.clone();
            tokio::spawn(async move {
                while Instant::now() < until {
                    bare(&script, &mut connection).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tokio::time::sleep(self.hold).await;
        report("done", &[done.load(Ordering::Relaxed)]);
        std::future::pending::<()>().await;
    }

    async fn lock(&self) -> Lock {
        Lock::open(&self.peer, &self.url, &self.key, self.ttl).await
    }

    async fn connection(&self) -> MultiplexedConnection {
        // What follows the question mark is for gpulock alone.
        let (server, _) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let client = redis::Client::open(server).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    fn keys(&self) -> Vec<String> {
        match self.each {
            1 => vec![self.key.clone()],
            each => (0..each).map(|n| format!("{}-{}-{n}", self.key, self.number)).collect(),
        }
    }
}

async fn bare(script: &redis::Script, connection: &mut MultiplexedConnection) {
    let _: i64 = script.invoke_async(connection).await.unwrap();
}

/// The clock that Python calls `time.monotonic_ns`.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// One write a line: the workers share the pipe.
fn report(word: &str, numbers: &[u64]) {
    let mut line = word.to_owned();
    for number in numbers {
        line.push_str(&format!(" {number}"));
    }
    line.push('\n');
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap()
}
