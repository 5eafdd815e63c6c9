//! The workers: each makes one `gpulock run` after the other and keeps how it was answered.

use std::collections::BTreeMap;
use std::mem::replace;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;

use super::dice::Dice;
use super::work::{Moment, Note, Work, notes_since};
use super::{GPUS, LIVENESS};
use crate::cli::program::{Ended, Running};
use crate::cli::scene::Scene;

/// Workers, and what has become of their runs.
pub(super) struct Crew<'a> {
    scene: &'a Scene,
    start: Instant,
    dice: Dice,
    workers: Vec<Worker>,
    is_closing: bool,
    /// How many runs were called.
    called: u32,
    notes_end: u64,
    /// Commands that have begun and not noted their end, by task.
    at_work: BTreeMap<String, Note>,
    /// Runs that are over.
    pub(super) runs: Vec<Run>,
    /// What their commands noted.
    pub(super) notes: Vec<Note>,
}

enum Worker {
    Rests { until: Instant },
    Awaits(Box<Underway>),
}

/// A run that is not over.
struct Underway {
    run: Run,
    running: Running,
}

/// One `gpulock run`, from its call to its answer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) work: Work,
    pub(super) options: Vec<String>,
    /// For how long it was told to wait.
    pub(super) patience: Duration,
    /// When it was called, and when it was seen to be over, both since the start of the chaos.
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) suffered: Vec<Blow>,
    pub(super) answer: Answer,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Answer {
    Code {
        code: u8,
        said: String,
    },
    /// By a signal that it did not handle.
    Signal {
        signal: i32,
        said: String,
    },
    /// It did not end by itself.
    None {
        said: String,
    },
}

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Blow {
    /// SIGKILL to `gpulock run`.
    Kill,
    /// SIGTERM to `gpulock run`.
    Terminate,
    /// SIGSTOP to `gpulock run`, and SIGCONT later.
    Freeze,
    /// SIGKILL to the group of its command.
    KillCommand,
    /// SIGSTOP to the group of its command, and SIGCONT later.
    FreezeCommand,
}

impl Blow {
    pub(super) fn is_frost(self) -> bool {
        matches!(self, Self::Freeze | Self::FreezeCommand)
    }

    fn signal(self) -> Signal {
        match self {
            Self::Kill | Self::KillCommand => Signal::KILL,
            Self::Terminate => Signal::TERM,
            Self::Freeze | Self::FreezeCommand => Signal::STOP,
        }
    }
}

impl<'a> Crew<'a> {
    pub(super) fn new(scene: &'a Scene, start: Instant, size: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let rests = |_| Worker::Rests { until: start + dice.millis(0, 500) };
        let workers = (0..size).map(rests).collect();
        let (at_work, runs, notes) = Default::default();
        let (is_closing, called, notes_end) = (false, 0, 0);
        Self { scene, start, dice, workers, is_closing, called, notes_end, at_work, runs, notes }
    }

    /// Looks at every worker: takes the answer of a run that is over, and calls the next one.
    pub(super) fn step(&mut self) {
        self.read_notes();
        for place in 0..self.workers.len() {
            match &mut self.workers[place] {
                Worker::Rests { until } if !self.is_closing && *until <= Instant::now() => {
                    let (options, patience) = self.wish();
                    self.workers[place] = self.begin(options, patience);
                }
                Worker::Rests { .. } => {}
                Worker::Awaits(underway) => {
                    let run = &underway.run;
                    let longest = run.patience + run.work.lasts + LIVENESS;
                    let is_late = self.start.elapsed() > run.began + longest;
                    if underway.running.has_ended() || is_late {
                        let until = Instant::now() + self.dice.millis(0, 400);
                        let done = replace(&mut self.workers[place], Worker::Rests { until });
                        self.finish(done);
                    }
                }
            }
        }
    }

    /// From now on nobody calls another run.
    pub(super) fn close(&mut self) {
        self.is_closing = true;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.workers.iter().all(|worker| matches!(worker, Worker::Rests { .. }))
    }

    /// Calls one more run, of low priority, that takes all GPUs.
    pub(super) fn take_all(&mut self) {
        let options = ["--gpus", &GPUS.to_string(), "--priority", "low", "--wait", "60s"];
        let options = options.map(str::to_owned).to_vec();
        self.workers[0] = self.begin(options, Duration::from_secs(60));
    }

    /// The tasks of runs whose commands are at work.
    pub(super) fn holders(&self) -> Vec<String> {
        self.tasks(|task| self.at_work.contains_key(task))
    }

    /// The tasks of all other runs: most of them wait.
    pub(super) fn waiters(&self) -> Vec<String> {
        self.tasks(|task| !self.at_work.contains_key(task))
    }

    /// `false` if the run is over, or has no command at work.
    pub(super) fn strike(&mut self, task: &str, blow: Blow) -> bool {
        let hit = self.signal(task, blow, blow.signal());
        if let (true, Some(underway)) = (hit, self.underway(task)) {
            underway.run.suffered.push(blow);
        }
        hit
    }

    /// Ends a [`Blow::Freeze`] or [`Blow::FreezeCommand`].
    pub(super) fn thaw(&mut self, task: &str, frost: Blow) {
        self.signal(task, frost, Signal::CONT);
    }

    fn signal(&mut self, task: &str, blow: Blow, signal: Signal) -> bool {
        let group = self.at_work.get(task).and_then(|note| Pid::from_raw(note.pid));
        let Some(underway) = self.underway(task) else { return false };
        match blow {
            Blow::Kill | Blow::Terminate | Blow::Freeze => {
                underway.running.signal(signal);
                true
            }
            Blow::KillCommand | Blow::FreezeCommand => {
                group.is_some_and(|group| kill_process_group(group, signal).is_ok())
            }
        }
    }

    fn underway(&mut self, task: &str) -> Option<&mut Underway> {
        self.workers.iter_mut().find_map(|worker| match worker {
            Worker::Awaits(underway) if underway.run.work.task == task => Some(&mut **underway),
            _ => None,
        })
    }

    fn tasks(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let tasks = self.workers.iter().filter_map(|worker| match worker {
            Worker::Awaits(underway) => Some(underway.run.work.task.as_str()),
            Worker::Rests { .. } => None,
        });
        tasks.filter(|task| is_wanted(task)).map(str::to_owned).collect()
    }

    fn read_notes(&mut self) {
        let (notes, end) = notes_since(self.scene, self.notes_end);
        self.notes_end = end;
        for note in &notes {
            match note.what {
                Moment::Begins { .. } => self.at_work.insert(note.task.clone(), note.clone()),
                Moment::Ends { .. } => self.at_work.remove(&note.task),
            };
        }
        self.notes.extend(notes);
    }

    /// What a run asks for, and how long it will wait.
    fn wish(&mut self) -> (Vec<String>, Duration) {
        let dice = &mut self.dice;
        let gpu = dice.roll(GPUS.into());
        let (number, pair) = (gpu.to_string(), format!("{gpu},{}", (gpu + 1) % u64::from(GPUS)));
        let mut options: Vec<&str> = match dice.roll(10) {
            0..5 => vec!["--gpus", "1"],
            5..7 => vec!["--gpu", &number],
            7..9 => vec!["--gpus", "2"],
            _ => vec!["--gpu", &pair],
        };
        match dice.roll(8) {
            0 => options.extend(["--priority", "low"]),
            1 => options.extend(["--priority", "high"]),
            2 => options.extend(["--priority", "urgent"]),
            _ => {}
        }
        let (how_long, patience) = match dice.roll(10) {
            0 => (&["--no-wait"][..], Duration::ZERO),
            1 => (&["--wait", "2s"][..], Duration::from_secs(2)),
            _ => (&["--wait", "30s"][..], Duration::from_secs(30)),
        };
        options.extend(how_long);
        (options.into_iter().map(str::to_owned).collect(), patience)
    }

    fn begin(&mut self, options: Vec<String>, patience: Duration) -> Worker {
        let dice = &mut self.dice;
        self.called += 1;
        let work = Work {
            task: format!("run{}", self.called),
            // Some outlast the deadline of a lease.
            lasts: if dice.roll(20) == 0 {
                dice.millis(1_000, 4_000)
            } else {
                dice.millis(10, 200)
            },
            code: dice.one_of(&[0, 0, 3]),
            is_deaf: dice.roll(6) == 0,
            leaves_one: dice.roll(6) == 0,
        };
        let mut arguments = vec!["run".to_owned(), "--task".to_owned(), work.task.clone()];
        arguments.extend(options.iter().cloned().chain(["--".to_owned()]));
        arguments.extend(work.command());
        let mut call = self.scene.program(crate::cli::scene::GPULOCK);
        work.order(call.args(arguments));
        let began = self.start.elapsed();
        let running = self.scene.launch(call);
        let (ended, suffered, answer) = (began, Vec::new(), Answer::None { said: String::new() });
        let run = Run { work, options, patience, began, ended, suffered, answer };
        Worker::Awaits(Box::new(Underway { run, running }))
    }

    fn finish(&mut self, worker: Worker) {
        let Worker::Awaits(underway) = worker else { return };
        let Underway { mut run, mut running } = *underway;
        run.ended = self.start.elapsed();
        run.answer = match running.has_ended() {
            true => answer(&running.ended()),
            // It is killed when it is dropped.
            false => Answer::None { said: running.stderr() },
        };
        self.at_work.remove(&run.work.task);
        self.runs.push(run);
    }
}

fn answer(ended: &Ended) -> Answer {
    let said = ended.stderr.clone();
    match (ended.status.code(), ended.status.signal()) {
        (Some(code), _) => Answer::Code { code: code.try_into().unwrap(), said },
        (None, signal) => Answer::Signal { signal: signal.unwrap(), said },
    }
}
