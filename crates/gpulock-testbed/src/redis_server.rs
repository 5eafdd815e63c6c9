//! A private `redis-server` that can be killed, paused and started again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::clock_shim::ClockShim;
use crate::ports::{free_port, second};
use crate::process::{Process, demand, mortal, run};
use crate::wait_until;

/// A `redis-server` of this test alone, on a free port of 127.0.0.1 and on a socket.
///
/// Its files lie in a temporary folder. It is killed on drop, and by the kernel when the test
/// process ends.
pub struct RedisServer {
    port: u16,
    process: Mutex<Option<Process>>,
    setting: Setting,
}

/// What stays the same when the server is started again.
pub(crate) struct Setting {
    folder: TempDir,
    arguments: Vec<String>,
    certificates: Option<Certificates>,
    clock: Option<ClockShim>,
    /// The process in whose network it runs.
    network_of: Option<u32>,
}

impl RedisServer {
    /// Starts a server that writes nothing to disk.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server` here, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with further arguments, such as `&["--appendonly", "yes"]`.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    #[must_use]
    pub fn with(arguments: &[&str]) -> Self {
        Self::of(Setting::new(arguments))
    }

    /// Starts a server that also speaks TLS.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`], or without `openssl`.
    #[must_use]
    pub fn with_tls() -> Self {
        Self::of(Setting::new(&["--tls-auth-clients", "no"]).certified())
    }

    /// As [`RedisServer::with_tls`], for clients with a certificate of the authority only.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::with_tls`].
    #[must_use]
    pub fn with_tls_for_certified_clients() -> Self {
        Self::of(Setting::new(&["--tls-auth-clients", "yes"]).certified())
    }

    /// Starts a server whose wall clock can be set with [`RedisServer::shift_clock`].
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`], or without a C compiler.
    #[must_use]
    pub fn with_clock() -> Self {
        let mut setting = Setting::new(&[]);
        setting.clock = Some(ClockShim::build(setting.folder.path()));
        Self::of(setting)
    }

    pub(crate) fn of(setting: Setting) -> Self {
        demand("redis-server", "redis-server");
        for _ in 0..20 {
            let port = free_port();
            if let Some(process) = setting.started(port) {
                return Self { port, process: Mutex::new(Some(process)), setting };
            }
        }
        panic!("redis-server found its port taken twenty times");
    }

    /// The port of 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT/0`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// `rediss://localhost:PORT/0`
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}/0", second(self.port))
    }

    /// The certificate (PEM) of the authority that has signed the server's and the client's.
    ///
    /// # Panics
    ///
    /// Without TLS.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.certificates().certificate("ca")
    }

    /// A certificate (PEM) for a client.
    ///
    /// # Panics
    ///
    /// Without TLS.
    #[must_use]
    pub fn client_certificate(&self) -> PathBuf {
        self.certificates().certificate("client")
    }

    /// The private key (PEM, PKCS 8) of [`RedisServer::client_certificate`].
    ///
    /// # Panics
    ///
    /// Without TLS.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.certificates().key("client")
    }

    /// The Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.setting.socket()
    }

    /// Where the server keeps its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.setting.folder.path()
    }

    /// What the server has logged since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        self.setting.log()
    }

    /// Sends a command through `redis-cli` and returns what that printed, without the last newline.
    ///
    /// # Panics
    ///
    /// With everything that was printed, if the reply is an error.
    pub fn cli(&self, arguments: &[&str]) -> String {
        run(&mut self.redis_cli(arguments))
    }

    /// As [`RedisServer::cli`] for a server in transition: none if the reply is an error, or there
    /// is none.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> Option<String> {
        let output = self.redis_cli(arguments).output().ok()?;
        let reply = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| reply.trim_end().to_owned())
    }

    /// The process id.
    ///
    /// # Panics
    ///
    /// If the server was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running(Process::pid)
    }

    /// Kills the server (SIGKILL). One that was killed before stays so.
    pub fn kill(&self) {
        self.process().take();
    }

    /// Starts the server again on the same port, in the same folder, with the same arguments. One
    /// that still runs is killed first. Returns when all data is loaded.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_again(&self) {
        self.kill();
        let mut process = None;
        wait_until("the port is free again", || {
            process = self.setting.started(self.port);
            process.is_some()
        });
        *self.process() = process;
    }

    /// Stops the server (SIGSTOP): connections stay open, and nobody gets an answer.
    ///
    /// # Panics
    ///
    /// If the server was killed.
    pub fn pause(&self) {
        self.running(Process::pause);
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Panics
    ///
    /// If the server was killed.
    pub fn resume(&self) {
        self.running(Process::resume);
    }

    /// Puts the server's wall clock so many seconds ahead of the true time, or behind it. Zero is
    /// the true time.
    ///
    /// # Panics
    ///
    /// If the server was not started by [`RedisServer::with_clock`].
    pub fn shift_clock(&self, seconds: i64) {
        let clock = self.setting.clock.as_ref().expect("the server was started by with_clock()");
        clock.set(seconds * 1_000_000);
    }

    fn certificates(&self) -> &Certificates {
        self.setting.certificates.as_ref().expect("the server was started by with_tls()")
    }

    fn redis_cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.arg("-e").arg("-s").arg(self.socket()).args(arguments).stdin(Stdio::null());
        command
    }

    fn running<T>(&self, use_it: impl FnOnce(&Process) -> T) -> T {
        use_it(self.process().as_ref().expect("the server runs: call start_again() first"))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RedisServer {
    /// Before its folder is removed: it could still write into it.
    fn drop(&mut self) {
        self.kill();
    }
}

impl Setting {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("gpulock-redis-")
            .tempdir()
            .expect("the folder for temporary files is writable");
        let setting = Self {
            folder,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            certificates: None,
            clock: None,
            network_of: None,
        };
        // Even if it is empty: with a file, CONFIG REWRITE keeps what was changed.
        setting.configured("")
    }

    /// With lines of a configuration file, which the server may write anew.
    pub(crate) fn configured(self, lines: &str) -> Self {
        fs::write(self.config_file(), lines).expect("the folder of the server is writable");
        self
    }

    /// With a certificate, and a port for TLS.
    fn certified(mut self) -> Self {
        self.certificates = Some(Certificates::create(self.folder.path()));
        self
    }

    /// In the network of a process, where everybody may talk to it.
    pub(crate) fn in_network_of(mut self, pid: u32) -> Self {
        self.network_of = Some(pid);
        self.arguments.extend(["--bind", "0.0.0.0", "--protected-mode", "no"].map(str::to_owned));
        self
    }

    /// A server that answers, or none if the port is taken.
    fn started(&self, port: u16) -> Option<Process> {
        let logged = self.log().len();
        let mut process = Process::start(self.command(port));
        let mut ended = false;
        wait_until("redis-server answers", || {
            ended = process.has_ended();
            ended || self.answers()
        });
        if !ended {
            return Some(process);
        }
        let log = &self.log()[logged..];
        assert!(log.contains("Address already in use"), "redis-server did not start:\n{log}");
        None
    }

    fn command(&self, port: u16) -> Command {
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.expect("the folder of the server is writable");
        let mut command = match self.network_of {
            None => mortal("redis-server"),
            Some(pid) => {
                let mut nsenter = mortal("nsenter");
                nsenter.arg(format!("--net=/proc/{pid}/ns/net")).arg("redis-server");
                nsenter
            }
        };
        if let Some(clock) = &self.clock {
            clock.load_into(&mut command);
        }
        command
            .arg(self.config_file())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
            .args(["--enable-debug-command", "local"])
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .args(self.tls_arguments(port))
            .args(&self.arguments)
            // Its log goes to the same place as what it says before it has read its arguments.
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .stdin(Stdio::null());
        command
    }

    fn tls_arguments(&self, port: u16) -> Vec<OsString> {
        let Some(certificates) = &self.certificates else { return Vec::new() };
        vec![
            "--tls-port".into(),
            second(port).to_string().into(),
            "--tls-ca-cert-file".into(),
            certificates.certificate("ca").into(),
            "--tls-cert-file".into(),
            certificates.certificate("server").into(),
            "--tls-key-file".into(),
            certificates.key("server").into(),
        ]
    }

    /// Asks at the socket: at the port somebody else's server could answer.
    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else { return false };
        let mut reply = [0; 64];
        let asked = stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .and_then(|()| stream.write_all(b"PING\r\n"))
            .and_then(|()| stream.read(&mut reply));
        // A server with a password says that it wants it.
        asked.is_ok_and(|length| {
            [b"+PONG".as_slice(), b"-NOAUTH"].iter().any(|good| reply[..length].starts_with(good))
        })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn config_file(&self) -> PathBuf {
        self.folder.path().join("redis.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_disk_is_there_again_after_a_kill() {
        let server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
        assert_eq!(server.cli(&["SET", "key", "value"]), "OK");
        let (pid, port) = (server.pid(), server.port());
        server.start_again();
        assert_eq!(server.cli(&["GET", "key"]), "value");
        assert_eq!(server.port(), port);
        assert_ne!(server.pid(), pid);
        assert!(server.url().ends_with(&format!(":{port}/0")));
    }

    #[test]
    fn without_a_disk_a_kill_takes_everything() {
        let server = RedisServer::start();
        server.cli(&["SET", "key", "value"]);
        server.kill();
        assert!(UnixStream::connect(server.socket()).is_err());
        server.start_again();
        assert_eq!(server.cli(&["DBSIZE"]), "0");
    }

    #[test]
    fn a_paused_server_takes_connections_and_answers_none() {
        let server = RedisServer::start();
        server.pause();
        assert!(UnixStream::connect(server.socket()).is_ok());
        assert!(!server.setting.answers());
        server.resume();
        wait_until("it answers", || server.setting.answers());
    }

    #[test]
    #[should_panic(expected = "unknown subcommand")]
    fn a_failed_command_panics_with_the_reply() {
        RedisServer::start().cli(&["CONFIG", "NONSENSE"]);
    }

    #[test]
    #[should_panic(expected = "did not start")]
    fn a_wrong_argument_panics_with_the_log() {
        let _server = RedisServer::with(&["--nonsense", "yes"]);
    }
}
