//! Two machines and a server in namespaces of this one.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, demand, mortal, run};
use crate::redis_server::Setting;
use crate::{RedisServer, wait_until};

const SERVER_ADDRESS: &str = "10.97.0.1";

/// Two hosts that see nothing of each other's processes, and a `redis-server` that both can talk
/// to. They share the file system.
///
/// Each host has its own network, process ids, host name and boot id. All of it lives in
/// processes, and is gone when they end: there is nothing to clean up.
pub struct TwoHosts {
    // Dropped in this order: first what uses a network, then the network.
    hosts: [Machine; 2],
    server: RedisServer,
    switch: Process,
    _folder: TempDir,
}

/// One of the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// `gpulock-a`, 10.97.0.2
    A,
    /// `gpulock-b`, 10.97.0.3
    B,
}

struct Machine {
    /// Killed, it takes the first process of the host with it, and so all others.
    process: Process,
}

impl TwoHosts {
    /// Starts both hosts and the server.
    ///
    /// # Panics
    ///
    /// Without root, or without the programs `ip` and `mount`.
    #[must_use]
    pub fn start() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "failed to make namespaces: tests with two hosts need root, for example in a container"
        );
        demand("ip", "iproute2");
        demand("mount", "mount");
        let folder = tempfile::tempdir().expect("the folder for temporary files is writable");
        let switch = switch();
        let hosts = [Host::A, Host::B].map(|host| Machine::start(host, folder.path(), &switch));
        let server = RedisServer::of(Setting::new(&[]).in_network_of(switch.pid()));
        Self { hosts, server, switch, _folder: folder }
    }

    /// The server. Its own [`RedisServer::url`] is good for no one: use [`TwoHosts::url`].
    #[must_use]
    pub fn server(&self) -> &RedisServer {
        &self.server
    }

    /// `redis://10.97.0.1:PORT/0`, for both hosts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{SERVER_ADDRESS}:{}/0", self.server.port())
    }

    /// A command that runs `program` on a host.
    ///
    /// The child to be seen here is not the program itself, but whatever ends it kills the
    /// program (SIGKILL); what the program has started stays. It also ends with the thread that
    /// starts it.
    #[must_use]
    pub fn command(&self, host: Host, program: impl AsRef<OsStr>) -> Command {
        let pid = self.machine(host).process.pid();
        let mut command = mortal("nsenter");
        for (option, namespace) in [
            ("net", "net"),
            ("uts", "uts"),
            ("ipc", "ipc"),
            ("mount", "mnt"),
            ("pid", "pid_for_children"),
        ] {
            command.arg(format!("--{option}=/proc/{pid}/ns/{namespace}"));
        }
        command.args(["--", "setpriv", "--pdeathsig", "KILL"]).arg(program);
        command
    }

    /// Takes the host off the network. Nobody is told: packets get lost.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn cut(&self, host: Host) {
        run(ip(&self.switch).args(["link", "set", "dev", host.name(), "down"]));
    }

    /// Ends [`TwoHosts::cut`].
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn heal(&self, host: Host) {
        run(ip(&self.switch).args(["link", "set", "dev", host.name(), "up"]));
    }

    /// Kills every process of the host at once, as a power cut does.
    pub fn power_off(&mut self, host: Host) {
        self.hosts[host as usize].process.kill();
    }

    fn machine(&self, host: Host) -> &Machine {
        &self.hosts[host as usize]
    }
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Self::A => "gpulock-a",
            Self::B => "gpulock-b",
        }
    }

    fn address(self) -> &'static str {
        match self {
            Self::A => "10.97.0.2/24",
            Self::B => "10.97.0.3/24",
        }
    }
}

impl Machine {
    fn start(host: Host, folder: &Path, switch: &Process) -> Self {
        let name = host.name();
        let (boot_id, ready) = (folder.join(name), folder.join(format!("{name}-is-up")));
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux makes UUIDs");
        fs::write(&boot_id, id).expect("the folder is writable");
        let mut unshare = mortal("unshare");
        unshare
            .args(["--net", "--uts", "--ipc", "--mount", "--pid", "--mount-proc", "--kill-child"])
            // The first process of a host waits for all whose parents have ended.
            .args(["sh", "-c"])
            .arg(
                "set -e; mount --bind \"$1\" /proc/sys/kernel/random/boot_id; \
                 echo \"$2\" >/proc/sys/kernel/hostname; : >\"$3\"; \
                 while :; do sleep 1000 & wait $!; done",
            )
            .arg("sh")
            .arg(&boot_id)
            .arg(name)
            .arg(&ready);
        let process = Process::start(unshare);
        wait_until("a host is up", || ready.exists());
        let pid = process.pid().to_string();
        let cable = ["type", "veth", "peer", "name", "eth0", "netns", &pid];
        run(ip(switch).args(["link", "add", "name", name]).args(cable));
        run(ip(switch).args(["link", "set", "dev", name, "master", "switch", "up"]));
        run(ip(&process).args(["address", "add", host.address(), "dev", "eth0"]));
        for interface in ["lo", "eth0"] {
            run(ip(&process).args(["link", "set", "dev", interface, "up"]));
        }
        Self { process }
    }
}

/// A network of its own, with the server's address and a bridge for the cables of the hosts.
fn switch() -> Process {
    let mut unshare = mortal("unshare");
    unshare.args(["--net", "sleep", "infinity"]);
    let process = Process::start(unshare);
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let pid = process.pid().to_string();
    wait_until("the switch has its network", || {
        network(&pid).is_some_and(|own| Some(own) != network("self"))
    });
    run(ip(&process).args(["link", "add", "name", "switch", "type", "bridge"]));
    let address = format!("{SERVER_ADDRESS}/24");
    run(ip(&process).args(["address", "add", &address, "dev", "switch"]));
    for interface in ["lo", "switch"] {
        run(ip(&process).args(["link", "set", "dev", interface, "up"]));
    }
    process
}

/// The command `ip` in the network of a process.
fn ip(process: &Process) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", process.pid())).arg("ip");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    impl TwoHosts {
        fn printed(&self, host: Host, command: &[&str]) -> String {
            run(self.command(host, command[0]).args(&command[1..]))
        }

        fn reaches_the_server(&self, host: Host) -> bool {
            // `timeout`, since redis-cli is as patient as TCP.
            self.command(host, "timeout")
                .args(["--signal=KILL", "1", "redis-cli", "-u", &self.url(), "PING"])
                .output()
                .is_ok_and(|output| output.stdout.starts_with(b"PONG"))
        }
    }

    #[test]
    fn hosts_have_names_and_boots_and_processes_of_their_own() {
        let mut two = TwoHosts::start();
        let boot_id = ["cat", "/proc/sys/kernel/random/boot_id"];
        let here = fs::read_to_string(boot_id[1]).expect("Linux has a boot id");
        let [a, b] = [Host::A, Host::B].map(|host| two.printed(host, &boot_id));
        assert!(a != b && a != here.trim() && b != here.trim());
        assert_eq!(two.printed(Host::B, &["hostname"]), "gpulock-b");

        let mut sleep = two.command(Host::A, "sleep").arg("4321").spawn().expect("it starts");
        let seen = |two: &TwoHosts, host| {
            two.printed(host, &["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"])
                .contains("sleep 4321")
        };
        wait_until("host A sees it", || seen(&two, Host::A));
        assert!(!seen(&two, Host::B));
        two.power_off(Host::A);
        assert!(!sleep.wait().expect("it was started here").success());
    }

    #[test]
    fn a_cut_host_reaches_nothing_until_it_is_healed() {
        let two = TwoHosts::start();
        wait_until("both reach it", || {
            two.reaches_the_server(Host::A) && two.reaches_the_server(Host::B)
        });
        two.cut(Host::A);
        assert!(!two.reaches_the_server(Host::A));
        wait_until("the other still reaches it", || two.reaches_the_server(Host::B));
        two.heal(Host::A);
        wait_until("it is back", || two.reaches_the_server(Host::A));
    }
}
