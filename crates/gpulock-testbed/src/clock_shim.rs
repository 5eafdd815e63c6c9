//! A wall clock that can be set, for one server.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{demand, run};

/// A small library that is loaded into a server before libc.
///
/// libfaketime would do, but a server that allocates with jemalloc hangs in it.
pub(crate) struct ClockShim {
    library: PathBuf,
    shift: PathBuf,
}

impl ClockShim {
    /// Compiles the library into `folder`.
    pub(crate) fn build(folder: &Path) -> Self {
        demand("cc", "gcc");
        let source = folder.join("clock_shim.c");
        fs::write(&source, include_str!("clock_shim.c")).expect("the folder is writable");
        let shim =
            Self { library: folder.join("clock_shim.so"), shift: folder.join("clock_shift") };
        shim.set(0);
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
            .arg(&shim.library)
            .arg(&source));
        shim
    }

    pub(crate) fn load_into(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("GPULOCK_CLOCK_SHIFT", &self.shift);
    }

    pub(crate) fn set(&self, microseconds: i64) {
        // Written in place: the server has the file in its memory.
        fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.shift)
            .and_then(|file| file.write_all_at(&microseconds.to_ne_bytes(), 0))
            .expect("the folder of the server is writable");
    }
}

#[cfg(test)]
mod tests {
    use crate::RedisServer;

    fn seconds(server: &RedisServer) -> i64 {
        let time = server.cli(&["TIME"]);
        time.lines().next().and_then(|seconds| seconds.parse().ok()).expect("TIME is two numbers")
    }

    #[test]
    fn a_server_lives_in_the_time_it_is_told() {
        let server = RedisServer::with_clock();
        server.cli(&["SET", "key", "value", "EX", "3600"]);
        let start = seconds(&server);
        server.shift_clock(-7200);
        assert!(seconds(&server) < start - 3600, "it jumps back");
        assert!(server.cli(&["TTL", "key"]).parse::<i64>().is_ok_and(|ttl| ttl > 3600));
        server.shift_clock(7200);
        assert!(seconds(&server) >= start + 7200, "it jumps ahead");
        assert_eq!(server.cli(&["GET", "key"]), "", "and finds the key expired");
        server.start_again();
        assert!(seconds(&server) >= start + 7200, "the shift stays");
        server.shift_clock(0);
        assert!(seconds(&server) < start + 3600, "it comes back");
    }
}
