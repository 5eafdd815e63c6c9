//! The servers that the locks rest on: private, on free ports, a new one for each cell.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use gpulock_testbed::{RedisServer, wait_until};
use tempfile::TempDir;

use crate::peer::Peer;
use crate::redis_counts::RedisCounts;

/// The server of one lock.
pub(crate) enum Server {
    Redis(RedisServer),
    Etcd(Etcd),
}

impl Server {
    pub(crate) fn start(peer: Peer) -> Self {
        match peer.is_on_redis() {
            true => Self::Redis(RedisServer::start()),
            false => Self::Etcd(Etcd::start()),
        }
    }

    /// Where workers of this lock find it.
    pub(crate) fn url(&self, peer: Peer) -> String {
        match self {
            // The server has only just started. Otherwise gpulock would wait until leases are
            // over that an earlier life of it could have forgotten.
            Self::Redis(server) if peer == Peer::Gpulock => {
                format!("{}?after_restart=trust", server.url())
            }
            Self::Redis(server) => server.url(),
            Self::Etcd(etcd) => etcd.url(),
        }
    }

    /// What it counts, if it is Redis.
    pub(crate) fn counts(&self) -> Option<RedisCounts> {
        match self {
            Self::Redis(server) => Some(RedisCounts::of(&server.url())),
            Self::Etcd(_) => None,
        }
    }
}

/// A cluster of one etcd, which writes to its disk before it answers, as it always does.
pub(crate) struct Etcd {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Etcd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, peers) = (free_port(), free_port());
        let (clients, peers) = (url(port), url(peers));
        // The kernel kills it when the benchmark ends, however that comes about.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--logger", "zap", "--log-level", "error"]);
        command.arg("--data-dir").arg(folder.path());
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.arg("--initial-cluster").arg(format!("default={peers}"));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut etcd = Self { process, port, _folder: folder };
        wait_until("etcd answers: its package is etcd-server", || {
            assert!(etcd.process.try_wait().unwrap().is_none(), "etcd did not start");
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        etcd
    }

    fn url(&self) -> String {
        url(self.port)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
