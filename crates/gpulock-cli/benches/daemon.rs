//! What `gpulock serve` costs and how fast it answers:
//! `cargo bench -p gpulock-cli --bench daemon`.
//!
//! - **start**: from exec to the first answer.
//! - **hand-over**: release to the next holder's lease in hand, through the daemon and, in turn,
//!   on the same file without it.
//! - **rest**, **get**: a daemon on a pool with 1,000 leases and 1,000 waiters: its share of a
//!   core and its memory at rest, then each GET at 200 requests a second in all.
//!
//! Nothing is asserted: it prints a table in Markdown.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run ends")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use gpulock::core::{GpuIndex, GpuRef};
use gpulock::{Client, Lease, Options, connect};

const STARTS: usize = 20;
const HAND_OVERS: usize = 400;
const CROWD: u32 = 1_000;
const REST: Duration = Duration::from_secs(30);
const ASKING: Duration = Duration::from_secs(20);
const RATE: u32 = 200;
const CALLERS: u32 = 4;
const HOUR: Duration = Duration::from_secs(3_600);

const PATHS: [&str; 13] = [
    "/api/v1/pools",
    "/api/v1/leases",
    "/api/v1/queue",
    "/api/v1/history",
    "/api/v1/alerts",
    "/api/v1/monitoring/gpu-lock/health",
    "/api/v1/monitoring/gpu-lock/status",
    "/api/v1/monitoring/heartbeat/all",
    "/api/v1/monitoring/statistics",
    "/api/v1/monitoring/monitor/status",
    "/api/v1/monitoring/timeout/status",
    "/metrics",
    "/readyz",
];

fn main() {
    println!("| figure | median | p99 |\n|---|---|---|");
    let folder = tempfile::tempdir().unwrap();
    start(&folder.path().join("start.db"));
    hand_over(&folder.path().join("pair.db"));
    crowd(&folder.path().join("crowd.db"));
}

fn start(store: &Path) {
    let starts = (0..STARTS).map(|_| {
        let began = Instant::now();
        drop(Daemon::start(store, 1));
        began.elapsed()
    });
    row("exec to first answer", starts.collect());
}

fn hand_over(store: &Path) {
    let daemon = Daemon::start(store, 1);
    let through = [0, 1].map(|_| client(&daemon.url, 1));
    let directly = [0, 1].map(|_| client(&url_of(store), 1));
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..HAND_OVERS {
        ours.push(one_hand_over(&through));
        bare.push(one_hand_over(&directly));
    }
    row("hand-over through the daemon", ours);
    row("the same without it", bare);
}

/// One client waits until another gives back.
fn one_hand_over([first, second]: &[Client; 2]) -> Duration {
    let held = first.request("first".parse().unwrap()).acquire().unwrap();
    thread::scope(|scope| {
        let waiting = second.request("second".parse().unwrap()).watched().start().unwrap();
        while waiting.progress().borrow().ahead.is_none() {
            thread::sleep(Duration::from_micros(200));
        }
        let waiter = scope.spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let lease = runtime.block_on(waiting).unwrap();
            (lease, Instant::now())
        });
        // It shall be asleep.
        thread::sleep(Duration::from_millis(2));
        let began = Instant::now();
        first_gives_back(held);
        let (lease, has_it) = waiter.join().unwrap();
        drop(lease);
        has_it - began
    })
}

fn first_gives_back(held: Lease) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(held.release()).unwrap();
}

fn crowd(store: &Path) {
    let client = client(&url_of(store), CROWD);
    let gpu = |number| vec![GpuRef::Index(GpuIndex(number))];
    let holds: Vec<_> = (0..CROWD)
        .map(|number| {
            let request = client.request(format!("service {}", number % 20).parse().unwrap());
            request.named(gpu(number)).heartbeats(HOUR / 3, HOUR).acquire().unwrap()
        })
        .collect();
    for number in 0..CROWD {
        let request = client.request("waiter".parse().unwrap());
        let asked = request.named(gpu(number)).comes_back_within(HOUR).acquire();
        assert!(asked.is_err(), "it waits");
    }
    let daemon = Daemon::start(store, CROWD);
    thread::sleep(Duration::from_secs(2));
    let (before, began) = (daemon.processor_time(), Instant::now());
    thread::sleep(REST);
    let share = (daemon.processor_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("| at rest: share of a core | {:.2} % | |", share * 100.0);
    println!("| at rest: memory | {} MiB | |", daemon.memory() >> 20);
    for (path, spans) in ask_all(&daemon) {
        row(&format!("GET {path}"), spans);
    }
    println!("| after that: memory | {} MiB | |", daemon.memory() >> 20);
    drop(daemon);
    holds.into_iter().for_each(std::mem::forget);
}

/// All callers ask in turn, each at its time.
fn ask_all(daemon: &Daemon) -> BTreeMap<&'static str, Vec<Duration>> {
    let spans: Mutex<BTreeMap<_, Vec<_>>> = Mutex::default();
    let began = Instant::now();
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let spans = &spans;
            scope.spawn(move || {
                let mut connection = Connection::open(&daemon.address);
                for number in (caller..).step_by(CALLERS as usize) {
                    let due = Duration::from_secs(1) / RATE * number;
                    if due > ASKING {
                        return;
                    }
                    thread::sleep(due.saturating_sub(began.elapsed()));
                    let path = PATHS[number as usize % PATHS.len()];
                    let asked = Instant::now();
                    connection.get(path);
                    spans.lock().unwrap().entry(path).or_default().push(asked.elapsed());
                }
            });
        }
    });
    spans.into_inner().unwrap()
}

fn client(url: &str, gpus: u32) -> Client {
    let gpus = (0..gpus).map(|number| GpuRef::Index(GpuIndex(number))).collect();
    let options = Options { gpus: Some(gpus), ..Options::default() };
    Client::builder(connect(url).unwrap()).options(options).build().unwrap()
}

fn url_of(store: &Path) -> String {
    format!("sqlite://{}", store.display())
}

/// A daemon that answers.
struct Daemon {
    child: Child,
    address: String,
    url: String,
}

impl Daemon {
    fn start(store: &Path, gpus: u32) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let gpus: Vec<_> = (0..gpus).map(|number| number.to_string()).collect();
        let child = Command::new(env!("CARGO_BIN_EXE_gpulock"))
            .args(["--store", &url_of(store), "serve", "--listen", &address])
            .env("GPULOCK_GPUS", gpus.join(","))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(&address).is_err() {
            thread::sleep(Duration::from_micros(200));
        }
        Connection::open(&address).get("/healthz");
        let url = format!("http://{address}");
        Self { child, address, url }
    }

    fn processor_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident, in bytes.
    fn memory(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A connection that is kept.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Asks, and takes the whole answer.
    fn get(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
        self.read.clear();
        let mut whole = usize::MAX;
        let mut piece = vec![0; 1 << 16];
        while self.read.len() < whole {
            let length = self.stream.read(&mut piece).unwrap();
            assert!(length > 0, "the connection was closed");
            self.read.extend_from_slice(&piece[..length]);
            if whole == usize::MAX
                && let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n")
            {
                let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
                assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
                let length = head.split("content-length: ").nth(1).unwrap();
                whole =
                    end + 4 + length.split_whitespace().next().unwrap().parse::<usize>().unwrap();
            }
        }
    }
}

fn row(figure: &str, mut spans: Vec<Duration>) {
    spans.sort();
    let at = |share: f64| spans[((spans.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("| {figure} | {:.2} ms | {:.2} ms |", at(0.5), at(0.99));
}
