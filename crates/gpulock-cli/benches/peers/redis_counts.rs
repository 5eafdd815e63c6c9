//! What a Redis server can tell about the work that clients give it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Connection, InfoDict, Value};

/// Asks one server.
pub(crate) struct RedisCounts {
    url: String,
    connection: Connection,
}

/// How many bytes went where so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    /// Over the sockets of clients, both ways.
    pub(crate) sockets: u64,
    /// Into the append-only file.
    pub(crate) log: u64,
}

impl RedisCounts {
    pub(crate) fn of(url: &str) -> Self {
        Self { url: url.to_owned(), connection: connection(url) }
    }

    /// Counts the commands that clients send from now on. `INFO` does not know: its sums
    /// contain what scripts call. `MONITOR` tells the two apart; it slows the server down
    /// somewhat, so nothing is timed meanwhile.
    pub(crate) fn watch_commands(&self) -> CommandCount {
        let mut connection = connection(&self.url);
        connection.send_packed_command(&redis::cmd("MONITOR").get_packed_command()).unwrap();
        connection.recv_response().unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let sum = Arc::clone(&count);
        // It ends with the server.
        std::thread::spawn(move || {
            while let Ok(line) = connection.recv_response() {
                sum.fetch_add(u64::from(is_from_client(&line)), Ordering::Relaxed);
            }
        });
        CommandCount(count)
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        let info = self.info();
        let read: u64 = info.get("total_net_input_bytes").unwrap();
        let written: u64 = info.get("total_net_output_bytes").unwrap();
        Bytes { sockets: read + written, log: info.get("aof_current_size").unwrap_or(0) }
    }

    /// Turns the append-only file on.
    pub(crate) fn keep_log(&mut self) {
        redis::cmd("CONFIG").arg(&["SET", "appendonly", "yes"]).exec(&mut self.connection).unwrap();
        gpulock_testbed::wait_until("the log is begun", || {
            self.info().get::<u8>("aof_rewrite_in_progress") == Some(0)
        });
    }

    /// How much memory all keys take, in bytes.
    pub(crate) fn memory_of_keys(&mut self) -> u64 {
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut self.connection).unwrap();
        let of_key = |key| {
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(key).arg("SAMPLES").arg(0);
            usage.query::<u64>(&mut self.connection).unwrap()
        };
        keys.into_iter().map(of_key).sum()
    }

    fn info(&mut self) -> InfoDict {
        redis::cmd("INFO").query(&mut self.connection).unwrap()
    }
}

/// How many commands clients have sent since it was made.
pub(crate) struct CommandCount(Arc<AtomicU64>);

impl CommandCount {
    pub(crate) fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// `1339518083.107412 [0 127.0.0.1:60866] "get" "x"`; what a script calls comes from `lua`.
fn is_from_client(line: &Value) -> bool {
    let Value::SimpleString(line) = line else { return false };
    line.split_once(']').is_some_and(|(head, _)| !head.ends_with(" lua"))
}

fn connection(url: &str) -> Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}
