//! The figures of one machine on the embedded store, side by side with their yardsticks in
//! one run: `cargo bench -p gpulock-cli --bench one_machine`.
//!
//! - **run**: `gpulock run -- true` against `flock FILE true`, in turn, whole-process wall
//!   time.
//! - **pair**: acquire and release through the library against two bare write transactions
//!   on the same file, in turn.
//! - **queue**: 256 waiting `gpulock run` on one GPU: what they cost at rest, and how long
//!   from the end of one command to the start of the next.
//! - **file**: how large the store is after all of that.
//!
//! Nothing is asserted: it prints a table in Markdown. A name (`-- pair`) runs that one
//! alone.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run ends")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gpulock::Client;

const RUNS: usize = 300;
const PAIRS: usize = 4_000;
const BLOCK: usize = 50;
const WAITERS: usize = 256;
const REST: Duration = Duration::from_secs(20);

/// Set for the command that the waiters run: the file that it writes its times to.
const STAMPS: &str = "GPULOCK_BENCH_STAMPS";

fn main() {
    if let Ok(file) = std::env::var(STAMPS) {
        return stamp(Path::new(&file));
    }
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("gpulock.db");
    println!("| figure | gpulock | yardstick | ratio |\n|---|---|---|---|");
    let named: Vec<String> =
        std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let wanted = |figure: &str| named.is_empty() || named.iter().any(|name| name == figure);
    if wanted("run") {
        run(&store, &folder.path().join("flock"));
    }
    if wanted("pair") {
        pair(&store);
    }
    if wanted("queue") {
        queue(&store, &folder.path().join("stamps"));
    }
    let size: u64 = ["", "-wal", "-shm"]
        .iter()
        .filter_map(|suffix| fs::metadata(format!("{}{suffix}", store.display())).ok())
        .map(|meta| meta.len())
        .sum();
    println!("| store after all of that, with log | {} KiB | | |", size / 1024);
}

fn run(store: &Path, lock: &Path) {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for round in 0..RUNS + 10 {
        let gpulock = wall(gpulock(store).args(["run", "--", "true"]));
        let flock = wall(Command::new("flock").arg(lock).arg("true"));
        if round >= 10 {
            ours.push(gpulock);
            theirs.push(flock);
        }
    }
    row("`gpulock run -- true` against `flock FILE true`, median", median(ours), median(theirs));
}

fn pair(store: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shared = gpulock::connect(&format!("sqlite://{}", store.display())).unwrap();
    let bare = rusqlite::Connection::open(store).unwrap();
    bare.execute_batch(
        "PRAGMA synchronous=NORMAL; CREATE TABLE bare (n INTEGER); INSERT INTO bare VALUES (0)",
    )
    .unwrap();
    // In a task, as in a server: the outermost future pays for waking the whole runtime.
    let measured = runtime.spawn(async move {
        let client = Client::builder(shared).on(tokio::runtime::Handle::current()).build().unwrap();
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        // In blocks, so that neither throws the other's pages out of the cache each time.
        for _ in 0..PAIRS / BLOCK {
            for _ in 0..BLOCK {
                let start = Instant::now();
                let lease = client.request("pair".parse().unwrap()).start().unwrap().await.unwrap();
                lease.release().await.unwrap();
                ours.push(start.elapsed());
            }
            for _ in 0..BLOCK {
                let start = Instant::now();
                bare_write(&bare);
                bare_write(&bare);
                theirs.push(start.elapsed());
            }
        }
        (ours, theirs)
    });
    let (ours, theirs) = runtime.block_on(measured).unwrap();
    row(
        "acquire + release against two bare write transactions, median",
        median(ours),
        median(theirs),
    );
}

fn bare_write(connection: &rusqlite::Connection) {
    for statement in ["BEGIN IMMEDIATE", "UPDATE bare SET n = n + 1", "COMMIT"] {
        connection.prepare_cached(statement).unwrap().execute([]).unwrap();
    }
}

fn queue(store: &Path, stamps: &Path) {
    let mut holder = gpulock(store)
        .args(["run", "--task", "holder", "--", "sleep", "1000"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until(|| holds(store) == 1);
    let own = std::env::current_exe().unwrap();
    let mut waiters: Vec<Child> = (0..WAITERS)
        .map(|_| gpulock(store).args(["run", "--"]).arg(&own).env(STAMPS, stamps).spawn().unwrap())
        .collect();
    until(|| waits(store) == WAITERS);
    let before: Duration = waiters.iter().map(cpu).sum();
    std::thread::sleep(REST);
    let used: Duration = waiters.iter().map(cpu).sum::<Duration>() - before;
    let largest = waiters.iter().map(resident_kib).max().unwrap();
    let percent = 100.0 * used.as_secs_f64() / REST.as_secs_f64();
    println!("| {WAITERS} waiters at rest, all together | {percent:.2} % of a core | | |");
    println!("| resident memory of a waiter, largest | {:.1} MiB | | |", largest as f64 / 1024.0);
    holder.kill().unwrap();
    holder.wait().unwrap();
    for waiter in &mut waiters {
        assert!(waiter.wait().unwrap().success());
    }
    let mut spans: Vec<(u64, u64)> = fs::read_to_string(stamps)
        .unwrap()
        .lines()
        .map(|line| {
            let (start, end) = line.split_once(' ').unwrap();
            (start.parse().unwrap(), end.parse().unwrap())
        })
        .collect();
    spans.sort_unstable();
    let gaps: Vec<_> =
        spans.windows(2).map(|two| Duration::from_nanos(two[1].0 - two[0].1)).collect();
    let mut sorted = gaps.clone();
    sorted.sort_unstable();
    let p99 = sorted[sorted.len() * 99 / 100];
    println!(
        "| hand-over, end of a command to the start of the next, median / p99 | {} / {} | | |",
        shown(median(gaps)),
        shown(p99)
    );
}

/// What each waiter runs: notes when it began and when it ended.
fn stamp(file: &Path) {
    let start = gpulock::BootTime::now().since_boot().as_nanos();
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    let end = gpulock::BootTime::now().since_boot().as_nanos();
    file.write_all(format!("{start} {end}\n").as_bytes()).unwrap();
}

fn gpulock(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpulock"));
    command.arg("--store").arg(format!("sqlite://{}", store.display()));
    command.stderr(Stdio::null());
    command
}

fn wall(command: &mut Command) -> Duration {
    let start = Instant::now();
    assert!(command.status().unwrap().success());
    start.elapsed()
}

fn status(store: &Path) -> serde_json::Value {
    let answer = gpulock(store).args(["status", "--json"]).output().unwrap();
    serde_json::from_slice(&answer.stdout).unwrap()
}

fn holds(store: &Path) -> usize {
    status(store)["pools"][0]["leases"].as_array().map_or(0, Vec::len)
}

fn waits(store: &Path) -> usize {
    status(store)["pools"][0]["queue"].as_array().map_or(0, Vec::len)
}

fn until(reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(120), "it did not come about");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// User and system time so far, from `/proc/PID/schedstat` (nanoseconds on a core).
fn cpu(child: &Child) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn resident_kib(child: &Child) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

fn row(figure: &str, ours: Duration, theirs: Duration) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("| {figure} | {} | {} | {ratio:.2} |", shown(ours), shown(theirs));
}

fn shown(span: Duration) -> String {
    match span.as_micros() {
        micros if micros < 1_000 => format!("{micros} µs"),
        _ => format!("{:.2} ms", span.as_secs_f64() * 1e3),
    }
}
