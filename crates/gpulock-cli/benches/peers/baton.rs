//! A pipe among the workers of a crew by which who gave the lock back learns that somebody
//! else has it now. Otherwise most locks would go to the same worker again and again, which
//! asks at once while the others sleep, and there would be no hand-over to measure.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;

/// Names the pipe for workers.
pub(crate) const VARIABLE: &str = "GPULOCK_BENCH_BATON";

/// The pipe, as the benchmark makes it.
#[derive(Debug)]
pub(crate) struct Pipe {
    reader: PipeReader,
    _writer: PipeWriter,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        let (reader, _writer) = std::io::pipe().unwrap();
        Self { reader, _writer }
    }

    /// Where workers open it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.reader.as_raw_fd())
    }

    /// Takes out one word: nobody has given the lock back before the very first holder.
    pub(crate) fn take_first(&self) {
        let mut reader = self.reader.try_clone().unwrap();
        std::thread::spawn(move || reader.read_exact(&mut [0]));
    }
}

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Baton(File);

impl Baton {
    pub(crate) fn open() -> Self {
        let path = std::env::var(VARIABLE).unwrap();
        Self(OpenOptions::new().read(true).write(true).open(path).unwrap())
    }

    /// Says "I have it".
    pub(crate) fn tell(&mut self) {
        self.0.write_all(b"\n").unwrap();
    }

    /// Waits until the next holder says so. It blocks the runtime, which has nothing else to
    /// do: a thread for it would disturb the hand-over that is being measured.
    pub(crate) fn await_next_holder(&mut self) {
        self.0.read_exact(&mut [0]).unwrap();
    }
}
