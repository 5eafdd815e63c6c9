//! A crew: the worker processes of one lock, started, set off and ended together.
//!
//! They share two pipes. Standard input is the gate: one byte, which nobody takes out,
//! opens it for all; its hang-up ends those that were left behind. Standard output carries
//! reports, one line each.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::baton::{self, Pipe};
use crate::part::Part;
use crate::peer::Peer;

/// Far more than a crew needs to get ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// A crew at work. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Crew {
    peer: Peer,
    processes: Vec<Child>,
    gate: PipeWriter,
    baton: Pipe,
    reports: Receiver<Report>,
}

/// One line of a worker.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) word: String,
    pub(crate) numbers: Vec<u64>,
}

impl Crew {
    /// Starts so many workers and waits until all are ready.
    pub(crate) fn start(peer: Peer, url: &str, workers: usize, part: &Part) -> Self {
        let (stdin, gate) = std::io::pipe().unwrap();
        let (reader, stdout) = std::io::pipe().unwrap();
        let baton = Pipe::new();
        let processes = commands(peer, url, workers, part)
            .into_iter()
            .map(|mut command| {
                let (stdin, stdout) = (stdin.try_clone().unwrap(), stdout.try_clone().unwrap());
                command.env(baton::VARIABLE, baton.path()).process_group(0);
                command.stdin(stdin).stdout(stdout).spawn().unwrap()
            })
            .collect();
        // From now on the pipe ends when the last worker does.
        drop(stdout);
        let crew = Self { peer, processes, gate, baton, reports: listen(reader) };
        crew.await_reports("ready", workers, Instant::now() + PATIENCE)
            .unwrap_or_else(|| panic!("{workers} workers of {} are not ready", peer.title()));
        crew
    }

    /// Lets all of them begin.
    pub(crate) fn open_gate(&mut self) -> Instant {
        self.baton.take_first();
        self.gate.write_all(b"\n").unwrap();
        Instant::now()
    }

    /// The next report before that moment.
    pub(crate) fn report(&self, until: Instant) -> Option<Report> {
        self.reports.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }

    /// The last of `count` reports with this word, if they come before that moment.
    pub(crate) fn await_reports(&self, word: &str, count: usize, until: Instant) -> Option<Report> {
        let mut seen = 0;
        loop {
            let report = self.report(until)?;
            seen += usize::from(report.word == word);
            if seen == count {
                return Some(report);
            }
        }
    }

    /// Ends all of them without a chance to tidy up.
    pub(crate) fn kill(&mut self) {
        for mut process in self.processes.drain(..) {
            if process.try_wait().unwrap().is_some_and(|status| !status.success()) {
                eprintln!("a worker of {} failed: its figures mean nothing", self.peer.title());
            }
            // Gone already: that is what is wanted.
            let _ = kill_process_group(Pid::from_child(&process), Signal::KILL);
            process.wait().unwrap();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Python forks its workers itself: to start it again for each would take most of the time.
fn commands(peer: Peer, url: &str, workers: usize, part: &Part) -> Vec<Command> {
    let command = |program: &str, first: &str, number: usize| {
        let mut command = Command::new(program);
        command.args([first, peer.word(), url]).args(part.words()).arg(number.to_string());
        command
    };
    if peer.is_in_rust() {
        let own = std::env::current_exe().unwrap();
        let own = own.to_str().unwrap();
        (0..workers).map(|number| command(own, "worker", number)).collect()
    } else {
        vec![command(
            &python(),
            concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/worker.py"),
            workers,
        )]
    }
}

/// `scripts/bench-peers` names it: the one that has the packages.
fn python() -> String {
    std::env::var("GPULOCK_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn listen(reader: PipeReader) -> Receiver<Report> {
    let (sender, reports) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            let line = line.unwrap();
            let mut words = line.split(' ');
            let word = words.next().unwrap_or_default().to_owned();
            let numbers = words.map(|number| number.parse().unwrap()).collect();
            if sender.send(Report { word, numbers }).is_err() {
                return;
            }
        }
    });
    reports
}
