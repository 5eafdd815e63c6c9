//! The acceptance run of the Redis store: 64 workers want 3 GPUs of one private server while
//! processes are killed and frozen and the server dies and comes back. Then a machine goes
//! through everything that was written down.
//!
//! - The workers ([`crew`]) call `gpulock run` again and again. What they run ([`work`]) notes
//!   when it begins and ends, and learns from the kernel whether it is alone on its GPUs.
//! - Three times a second somebody dies, is frozen (mostly beyond the deadline of the lease)
//!   or is told to stop. Every five seconds the server is killed and started again
//!   ([`nemesis`]).
//! - In the end all faults are healed. Every run has to end, no process may be left, and the
//!   pool has to be free.
//! - The [`verdict`] is over the commands' notes, the [`journal`] of the pool, the store's sums
//!   and the answer of every run. Its own tests plant what it has to find.
//!
//! Two variables of the environment change it; the times that things take, a seed does not
//! repeat:
//!
//! - `GPULOCK_CHAOS_SECONDS`: how long there is trouble, instead of 60 s.
//! - `GPULOCK_CHAOS_SEED`: the seed of all choices, instead of a new one. It is printed.
//!
//! A long run is one of `cargo test`, since `cargo nextest` ends it after some minutes:
//!
//! ```sh
//! GPULOCK_CHAOS_SECONDS=3600 cargo test --package gpulock-cli --test cli chaos::sixty_four -- --nocapture
//! ```
//!
//! After a failure everything that is known lies in a folder whose name is printed.

mod crew;
mod dice;
mod journal;
mod nemesis;
mod verdict;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use gpulock::core::{Counters, PoolName};
use gpulock_testbed::RedisServer;
use serde::Serialize;

use self::crew::{Answer, Crew};
use self::journal::Journal;
use self::nemesis::Nemesis;
use self::verdict::Evidence;
use super::scene::Scene;

const WORKERS: usize = 64;
const GPUS: u32 = 3;

/// How long anything may take that no fault hinders: it bounds a hang, and judges no speed.
const LIVENESS: Duration = Duration::from_secs(120);

/// Between two looks at everybody.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[test]
fn sixty_four_workers_never_share_a_gpu_whoever_dies() {
    let trouble = Duration::from_secs(number("GPULOCK_CHAOS_SECONDS").unwrap_or(60));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("GPULOCK_CHAOS_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    println!("{} s of chaos, GPULOCK_CHAOS_SEED={seed}", trouble.as_secs());
    let server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let scene = scene(&server);
    let mut chaos = Chaos::new(&scene, &server, seed);
    chaos.rage(trouble);
    let mut findings = chaos.settle();
    let counters = sums(&server);
    findings.extend(chaos.evidence(&counters).findings());
    println!("{}", chaos.report(&counters));
    if !findings.is_empty() {
        let kept = chaos.keep(seed, &findings);
        let (count, kept) = (findings.len(), kept.display());
        let shown = findings[..count.min(20)].join("\n");
        panic!("seed {seed}: {count} findings; all that is known lies in {kept}\n{shown}");
    }
}

/// A pool of three GPUs whose leases live for two seconds without a heartbeat.
fn scene(server: &RedisServer) -> Scene {
    let mut scene = Scene::with_config("gpus: [0, 1, 2]\n");
    scene.set("GPULOCK_STORE", &server.url());
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__INTERVAL", "300ms");
    scene.set("GPULOCK_GPU_LOCK_MONITOR__HEARTBEAT__TIMEOUT", "2s");
    scene.set_lock("claim_time", "1s");
    scene.set_lock("stop_grace", "300ms");
    scene.set_lock("poll_interval", "500ms");
    scene.set_lock("max_poll_interval", "2s");
    scene
}

/// Everybody who takes part.
struct Chaos<'a> {
    scene: &'a Scene,
    start: Instant,
    crew: Crew<'a>,
    nemesis: Nemesis<'a>,
    journal: Journal<'a>,
}

impl<'a> Chaos<'a> {
    fn new(scene: &'a Scene, server: &'a RedisServer, seed: u64) -> Self {
        let start = Instant::now();
        let crew = Crew::new(scene, start, WORKERS, seed);
        let nemesis = Nemesis::new(server, start, !seed);
        Self { scene, start, crew, nemesis, journal: Journal::of(scene) }
    }

    fn rage(&mut self, trouble: Duration) {
        while self.start.elapsed() < trouble {
            self.nemesis.step(&mut self.crew);
            self.step();
        }
        self.nemesis.heal(&mut self.crew);
    }

    /// Waits for the end of all runs, and then until nothing is left of any, neither in the
    /// pool nor on this machine. Gives back what stays.
    fn settle(&mut self) -> Vec<String> {
        self.crew.close();
        self.until_idle();
        let until = Instant::now() + LIVENESS;
        let mut rest = loop {
            // With nobody waiting, nothing happens until the next request. This is the one.
            self.crew.take_all();
            self.until_idle();
            let rest = self.rest();
            if rest.is_empty() || Instant::now() > until {
                break rest;
            }
        };
        self.journal.finish();
        if self.journal.has_gaps {
            rest.push("the journal has lost events, or was read too seldom".to_owned());
        }
        rest
    }

    fn until_idle(&mut self) {
        while !self.crew.is_idle() {
            self.step();
        }
    }

    fn step(&mut self) {
        self.crew.step();
        self.journal.step();
        sleep(LOOK_AGAIN);
    }

    /// What is left of the runs.
    fn rest(&self) -> Vec<String> {
        let mut rest = Vec::new();
        let last = self.crew.runs.last().unwrap();
        if !matches!(last.answer, Answer::Code { code, .. } if code == last.work.code) {
            rest.push(format!("nobody gets all GPUs: {last:?}"));
        }
        let pool = self.scene.pool();
        if pool["leases"] != serde_json::json!([]) || pool["queue"] != serde_json::json!([]) {
            rest.push(format!("the pool is not free: {pool}"));
        }
        let strays = processes_in(self.scene.folder());
        if !strays.is_empty() {
            rest.push(format!("processes are left: {strays:?}"));
        }
        rest
    }

    fn evidence<'e>(&'e self, counters: &'e Counters) -> Evidence<'e> {
        Evidence {
            notes: &self.crew.notes,
            events: &self.journal.events,
            counters,
            runs: &self.crew.runs,
            outages: &self.nemesis.outages,
        }
    }

    fn report(&self, counters: &Counters) -> String {
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for run in &self.crew.runs {
            let answer = match &run.answer {
                Answer::Code { code, .. } => format!("code {code}"),
                Answer::Signal { signal, .. } => format!("signal {signal}"),
                Answer::None { .. } => "no answer".to_owned(),
            };
            *answers.entry(answer).or_default() += 1;
        }
        let faults: usize = self.nemesis.counts().values().sum();
        let (runs, events) = (self.crew.runs.len(), self.journal.events.len());
        format!(
            "{runs} runs: {answers:?}\n{faults} faults: {:?}\n{events} events, {counters:?}",
            self.nemesis.counts()
        )
    }

    /// Writes down all that is known, for whoever looks for the reason.
    fn keep(&self, seed: u64, findings: &[String]) -> PathBuf {
        let folder = env::temp_dir().join(format!("gpulock-chaos-{seed}"));
        fs::create_dir_all(&folder).unwrap();
        let write = |name, lines: String| fs::write(folder.join(name), lines).unwrap();
        write("findings", findings.join("\n"));
        write("runs", json_lines(&self.crew.runs));
        write("notes", json_lines(&self.crew.notes));
        write("journal", json_lines(&self.journal.events));
        write("faults", json_lines(&self.nemesis.faults));
        folder
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// What the store has counted.
fn sums(server: &RedisServer) -> Counters {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = gpulock::connect(&server.url()).unwrap();
        store.read(&PoolName::default(), None).await.unwrap().pool.ledger.counters
    })
}

/// Processes that were started in a scene.
fn processes_in(folder: &Path) -> Vec<String> {
    let mark = folder.as_os_str().as_encoded_bytes();
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_ours = |process: &PathBuf| {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|text| text == mark)
    };
    let command = |process: PathBuf| fs::read_to_string(process.join("cmdline")).ok();
    all.filter(is_ours).filter_map(command).collect()
}

fn json_lines<T: Serialize>(all: &[T]) -> String {
    all.iter().map(|one| serde_json::to_string(one).unwrap() + "\n").collect()
}
