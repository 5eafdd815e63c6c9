//! What the runs of the chaos run: this test program once more, as a command that uses its
//! GPUs and notes when.
//!
//! For every GPU it locks a file (flock(2)). The kernel frees such a lock at the moment at
//! which the last process is gone that has the file open. So whoever finds it locked shares
//! the GPU with somebody who lives, whatever became of that one's notes.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

use gpulock::core::{GpuIndex, LeaseId, Token};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::getppid;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::cli::scene::Scene;

/// The variable that makes a command of this test program.
const ORDERS: &str = "CHAOS_WORK";
/// The test of this file that is the command.
const COMMAND: &str = "cli::chaos::work::a_command_notes_its_work_and_whom_it_meets";
const NOTES: &str = "notes";

/// Longer than any run stays frozen.
const OUTLASTS: Duration = Duration::from_secs(10);
/// How often a command looks whether it is to go on.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a command is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) task: String,
    /// So long, and longer while its run is frozen: then it is a job that nobody stops.
    pub(super) lasts: Duration,
    /// What it ends with.
    pub(super) code: u8,
    /// It does not listen to SIGTERM.
    pub(super) is_deaf: bool,
    /// It starts a process in its group that uses the GPUs until it is stopped.
    pub(super) leaves_one: bool,
}

/// What a command wrote down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Note {
    /// CLOCK_BOOTTIME in nanoseconds.
    pub(super) at: u64,
    pub(super) pid: i32,
    pub(super) task: String,
    pub(super) lease_id: LeaseId,
    pub(super) token: Token,
    pub(super) gpus: Vec<GpuIndex>,
    pub(super) what: Moment,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Moment {
    /// Somebody who lives uses `shared` too.
    Begins { shared: Vec<GpuIndex> },
    /// It ends with this code, unless something happens at the last moment.
    Ends { code: u8 },
}

impl Work {
    /// The command that does it, for `gpulock run`.
    pub(super) fn command(&self) -> Vec<String> {
        let own = env::current_exe().unwrap().to_str().unwrap().to_owned();
        let deaf = ["sh", "-c", "trap '' TERM; exec \"$@\"", "sh"];
        let command = [&own, COMMAND, "--exact", "--nocapture", "--test-threads=1"];
        let before = if self.is_deaf { &deaf[..] } else { &[] };
        before.iter().chain(&command).map(ToString::to_string).collect()
    }

    pub(super) fn order(&self, run: &mut Command) {
        run.env(ORDERS, serde_json::to_string(self).unwrap());
    }

    /// Carries it out, as the command.
    fn carry_out(&self) -> ! {
        let variable = |name: &str| env::var(name).unwrap();
        let gpus = variable("GPULOCK_LEASE_GPUS");
        let gpus: Vec<_> = gpus.split(',').map(|gpu| GpuIndex(gpu.parse().unwrap())).collect();
        let locks: Vec<File> = gpus.iter().map(|gpu| lock_of(*gpu)).collect();
        let is_taken = |lock: &File| {
            let locked = flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive);
            locked.is_err_and(|error| error == Errno::WOULDBLOCK)
        };
        let mut shared = gpus.clone();
        let mut taken = locks.iter().map(is_taken);
        shared.retain(|_| taken.next().unwrap());
        let note = |what| {
            Note {
                at: boot_time(),
                pid: std::process::id().cast_signed(),
                task: self.task.clone(),
                lease_id: variable("GPULOCK_LEASE_ID").parse().unwrap(),
                token: Token::from_value(variable("GPULOCK_TOKEN").parse().unwrap()),
                gpus: gpus.clone(),
                what,
            }
            .write();
        };
        note(Moment::Begins { shared });
        if self.leaves_one {
            leave_one(&locks);
        }
        let began = Instant::now();
        while began.elapsed() < self.lasts || run_is_frozen() && began.elapsed() < OUTLASTS {
            sleep(LOOK_AGAIN);
        }
        note(Moment::Ends { code: self.code });
        exit(self.code.into())
    }
}

impl Note {
    /// One write to a file that is opened to append: notes never mix.
    fn write(&self) {
        let line = serde_json::to_string(self).unwrap() + "\n";
        let mut notes = File::options().create(true).append(true).open(NOTES).unwrap();
        notes.write_all(line.as_bytes()).unwrap();
    }
}

/// All notes of a scene from byte `from` on, and where they end.
pub(super) fn notes_since(scene: &Scene, from: u64) -> (Vec<Note>, u64) {
    let Ok(mut file) = File::open(scene.path(NOTES)) else { return (Vec::new(), from) };
    file.seek(SeekFrom::Start(from)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let whole = text.rfind('\n').map_or(0, |last| last + 1);
    let notes = text[..whole].lines().map(|line| serde_json::from_str(line).unwrap());
    (notes.collect(), from + whole as u64)
}

fn lock_of(gpu: GpuIndex) -> File {
    File::options().create(true).append(true).open(lock_name(gpu)).unwrap()
}

fn lock_name(gpu: GpuIndex) -> String {
    format!("gpu-{gpu}")
}

/// A process that has the locks open and does nothing else.
fn leave_one(locks: &[File]) {
    let mut locks = locks.iter().map(|lock| Stdio::from(lock.try_clone().unwrap()));
    let mut next = || locks.next().unwrap_or_else(Stdio::null);
    let mut sleep = Command::new("sleep");
    sleep.arg("600").stdin(next()).stdout(next()).stderr(next());
    drop(sleep.spawn().unwrap());
}

/// Whether the parent is stopped: by the letter behind its name, see proc(5).
fn run_is_frozen() -> bool {
    let run = getppid().map_or(0, |run| run.as_raw_nonzero().get());
    let stat = fs::read_to_string(format!("/proc/{run}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
}

fn boot_time() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    tv_sec.unsigned_abs() * 1_000_000_000 + tv_nsec.unsigned_abs()
}

#[test]
fn a_command_notes_its_work_and_whom_it_meets() {
    if let Ok(orders) = env::var(ORDERS) {
        serde_json::from_str::<Work>(&orders).unwrap().carry_out();
    }
    let mut scene = Scene::with_config("gpus: [0, 1]\n");
    scene.set_lock("stop_grace", "100ms");
    let run = |work: &Work, code| {
        let command = work.command();
        let mut arguments = vec!["run", "--gpus", "2", "--task", &work.task, "--"];
        arguments.extend(command.iter().map(String::as_str));
        let mut run = scene.command(&arguments);
        work.order(&mut run);
        scene.launch(run).ended().expect(code);
    };
    let (task, lasts) = ("ocr".to_owned(), Duration::from_millis(1));
    let mut work = Work { task, lasts, code: 7, is_deaf: true, leaves_one: true };
    run(&work, 7);
    // The process that the first one left is gone, or this one would meet it.
    (work.task, work.leaves_one) = ("asr".to_owned(), false);
    run(&work, 7);
    let stranger = File::open(scene.path(&lock_name(GpuIndex(1)))).unwrap();
    flock(stranger.as_fd(), FlockOperation::NonBlockingLockExclusive).unwrap();
    work.task = "tts".to_owned();
    run(&work, 7);
    let (notes, _) = notes_since(&scene, 0);
    let told: Vec<_> = notes.iter().map(|note| (note.task.as_str(), note.what.clone())).collect();
    let begins =
        |shared: &[u32]| Moment::Begins { shared: shared.iter().copied().map(GpuIndex).collect() };
    let ends = || Moment::Ends { code: 7 };
    assert_eq!(
        told,
        [
            ("ocr", begins(&[])),
            ("ocr", ends()),
            ("asr", begins(&[])),
            ("asr", ends()),
            ("tts", begins(&[1])),
            ("tts", ends())
        ]
    );
    assert!(notes.is_sorted_by_key(|note| (note.at, note.token)));
}
