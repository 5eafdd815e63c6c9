//! Life and death of real processes, as the kernel tells them.
//!
//! Where a test needs a world of its own (a PID namespace, few file descriptors) it runs
//! itself once more there, see [`elsewhere`].

use std::env;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gpulock::process::{
    DeathWatch, Pressed, Processes, StopError, find, led_by, look, members, press, rebooted_since,
    stop, this_owner, this_process, this_sight,
};
use gpulock_core::{OwnProcess, Owner, Process, ProcessGroup, Sight};
use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, geteuid, kill_process_group, setrlimit, test_kill_process,
};
use tokio::time::timeout;

use super::support::{LONG, elsewhere, full_name, unshare, until};

const LEASE: &str = "5f0c9e6b0d9b4f6f8a53e4d6b1f4a001";

/// A command in a process group of its own, like one that `gpulock run` starts.
struct Job {
    leader: Child,
    group: ProcessGroup,
}

impl Job {
    fn start(command: &mut Command) -> Self {
        let leader = command.process_group(0).stdin(Stdio::piped()).spawn().unwrap();
        let group = led_by(leader.id()).unwrap();
        Self { leader, group }
    }

    /// A shell under the lease.
    fn sh(script: &str) -> Self {
        Self::start(Command::new("sh").args(["-c", script]).env("GPULOCK_LEASE_ID", LEASE))
    }

    /// A group whose leader ended and was reaped, while its child `sleep` lives on.
    fn without_leader(command: &mut Command) -> Self {
        let mut job = Self::start(command.args(["-c", "sleep 1000 & read line"]));
        job.wait_for_members(2);
        drop(job.leader.stdin.take());
        job.leader.wait().unwrap();
        assert_eq!(members(&job.group).unwrap().len(), 1);
        job
    }

    /// The leader as an owner that took a lease.
    fn owner(&self) -> Owner {
        owner_of(self.group.leader)
    }

    fn look(&self) -> Processes {
        look(&self.owner(), Some(&self.group)).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process_group(pid(self.group.leader), signal).unwrap();
    }

    fn wait_for_members(&self, count: usize) {
        until("the command has started its processes", || {
            members(&self.group).unwrap().len() == count
        });
    }

    fn end(&mut self) -> ExitStatus {
        self.leader.wait().unwrap()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // As a group: one that forks meanwhile would outrun us.
        if !members(&self.group).is_ok_and(|living| living.is_empty()) {
            let _ = kill_process_group(pid(self.group.leader), Signal::KILL);
        }
        drop(self.leader.stdin.take());
        let _ = self.leader.wait();
    }
}

fn owner_of(process: Process) -> Owner {
    let sight = this_sight().unwrap().clone();
    Owner { process: Some(OwnProcess { sight, process }), ..this_owner("test") }
}

fn pid(process: Process) -> Pid {
    Pid::from_raw(process.pid.cast_signed()).unwrap()
}

fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

async fn died(watch: &DeathWatch) {
    timeout(LONG, watch.died()).await.expect("the death is seen");
}

#[tokio::test]
async fn a_killed_process_is_seen_to_die_and_as_a_zombie_counts_as_gone() {
    let job = Job::sh("exec sleep 1000");
    let watch = DeathWatch::open(job.group.leader).unwrap();
    assert!(!watch.is_dead());
    assert_eq!(job.look(), Processes { holder_alive: true, group_alive: true });

    job.signal(Signal::KILL);
    died(&watch).await;
    died(&watch).await;

    assert!(watch.is_dead());
    assert_eq!(state(job.group.leader.pid), 'Z');
    assert_eq!(find(job.group.leader.pid).unwrap(), Some(job.group.leader));
    assert_eq!(job.look(), Processes { holder_alive: false, group_alive: false });
    assert!(DeathWatch::open(job.group.leader).unwrap().is_dead());
}

#[tokio::test]
async fn a_process_without_living_parent_is_found_gone() {
    let mut job = Job::sh("exit 0");
    job.end();
    assert_eq!(find(job.group.leader.pid).unwrap(), None);
    assert_eq!(job.look(), Processes { holder_alive: false, group_alive: false });
    let watch = DeathWatch::open(job.group.leader).unwrap();
    assert!(watch.is_dead());
    died(&watch).await;
}

#[tokio::test]
async fn any_process_may_be_watched_whosever_it_is() {
    let watch = DeathWatch::open(find(1).unwrap().unwrap()).unwrap();
    assert!(!watch.is_dead());
    assert!(timeout(Duration::ZERO, watch.died()).await.is_err());
}

#[tokio::test]
async fn a_process_with_another_start_time_is_not_the_holder() {
    let job = Job::sh("exec sleep 1000");
    let mut old = job.group;
    old.leader.start_time -= 1;
    expect_gone_and_unharmed(old).await;
    assert_eq!(job.look(), Processes { holder_alive: true, group_alive: true });
}

/// `old` is gone, and who has its number now does not suffer for it.
async fn expect_gone_and_unharmed(old: ProcessGroup) {
    let now = find(old.leader.pid).unwrap().unwrap();
    assert_ne!(now, old.leader);
    let gone = Processes { holder_alive: false, group_alive: false };
    assert_eq!(look(&owner_of(old.leader), Some(&old)), Some(gone));
    assert_eq!(members(&old).unwrap(), []);
    let watch = DeathWatch::open(old.leader).unwrap();
    assert!(watch.is_dead());
    died(&watch).await;
    assert_eq!(press(&old, LEASE, LONG, Duration::ZERO).unwrap(), Pressed::Gone);
    stop(old, Duration::ZERO).await.unwrap();
    assert_ne!(state(now.pid), 'Z');
}

#[test]
fn a_number_that_is_given_again_does_not_revive_the_holder() {
    let way = unshare(&["--pid", "--fork", "--mount-proc", "--kill-child"]);
    elsewhere(&full_name!("a_number_that_is_given_again_does_not_revive_the_holder"), &way, || {
        runtime().block_on(async {
            let mut first = sleep_as(300);
            let old = first.group;
            let watch = DeathWatch::open(old.leader).unwrap();
            first.signal(Signal::KILL);
            first.end();
            assert_eq!(first.look(), Processes { holder_alive: false, group_alive: false });

            // Start times count in ticks: within the same one it is tried again.
            let mut second = sleep_as(300);
            while second.group == old {
                drop(second);
                second = sleep_as(300);
            }
            expect_gone_and_unharmed(old).await;
            assert!(watch.is_dead());
            assert_eq!(second.look(), Processes { holder_alive: true, group_alive: true });
            drop(second);

            let (_stop, thread_ends) = mpsc::channel();
            thread_as(300, thread_ends);
            expect_gone_and_unharmed(old).await;
            let thread = find(300).unwrap().unwrap();
            DeathWatch::open(thread).expect_err("a thread is not a process");
        });
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The next process of this PID namespace gets the number `pid`, if that is free.
fn give_next(pid: u32) {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
}

fn sleep_as(pid: u32) -> Job {
    give_next(pid);
    let job = Job::start(Command::new("sleep").arg("1000"));
    assert_eq!(job.group.leader.pid, pid);
    job
}

fn thread_as(pid: u32, ends: mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    give_next(pid);
    thread::spawn(move || {
        tell.send(rustix::thread::gettid()).unwrap();
        let _ = ends.recv();
    });
    assert_eq!(told.recv().unwrap().as_raw_nonzero().get().unsigned_abs(), pid);
}

#[test]
fn another_pid_namespace_is_another_sight() {
    const OUTER: &str = "GPULOCK_TEST_OUTER";
    let way = unshare(&["--pid", "--fork", "--mount-proc", "--kill-child"]);
    let outer = this_sight().unwrap();
    let mut way_with_sight = vec!["env".to_owned()];
    way_with_sight.push(format!("{OUTER}={} {}", outer.boot_id, outer.pid_namespace));
    way_with_sight.extend(way);
    elsewhere(&full_name!("another_pid_namespace_is_another_sight"), &way_with_sight, || {
        let outer = env::var(OUTER).unwrap();
        let (boot_id, pid_namespace) = outer.split_once(' ').unwrap();
        let sight =
            Sight { boot_id: boot_id.to_owned(), pid_namespace: pid_namespace.parse().unwrap() };
        let here = this_sight().unwrap();
        assert_eq!(here.boot_id, sight.boot_id);
        assert_ne!(here.pid_namespace, sight.pid_namespace);

        // Here it is a number without a process; there it may well be one.
        let nobody_here = Process { pid: 77_777, start_time: 5 };
        assert_eq!(find(nobody_here.pid).unwrap(), None);
        let mut owner = owner_of(nobody_here);
        assert!(!look(&owner, None).unwrap().holder_alive);
        owner.process.as_mut().unwrap().sight = sight;
        assert_eq!(look(&owner, None), None);
        assert!(!rebooted_since(&owner));
    });
}

#[test]
fn a_proc_of_another_pid_namespace_is_not_trusted() {
    let way = unshare(&["--pid", "--fork", "--kill-child"]);
    elsewhere(&full_name!("a_proc_of_another_pid_namespace_is_not_trusted"), &way, expect_no_sight);
}

#[test]
fn start_times_of_a_shifted_clock_are_not_trusted() {
    let way = unshare(&["--time", "--boottime", "100000", "--fork", "--kill-child"]);
    elsewhere(&full_name!("start_times_of_a_shifted_clock_are_not_trusted"), &way, expect_no_sight);
}

fn expect_no_sight() {
    this_sight().unwrap_err();
    this_process().unwrap_err();
    find(1).unwrap_err();
    assert_eq!(this_owner("test").process, None);
    let anybody = ProcessGroup { leader: Process { pid: 2, start_time: 0 }, session: 2 };
    members(&anybody).unwrap_err();
    press(&anybody, LEASE, LONG, LONG).unwrap_err();
}

#[test]
fn without_a_free_file_descriptor_a_watch_is_refused_and_nobody_called_dead() {
    let name = "without_a_free_file_descriptor_a_watch_is_refused_and_nobody_called_dead";
    elsewhere(&full_name!(name), &["env".to_owned()], || {
        runtime().block_on(async {
            let own = this_process().unwrap();
            let owner = this_owner("test");
            setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
            DeathWatch::open(own).unwrap_err();
            assert_eq!(look(&owner, None), None);
        });
    });
}

#[tokio::test]
async fn a_process_lives_while_any_of_its_threads_does() {
    let program = "import ctypes, threading, time\n\
                   threading.Thread(target=time.sleep, args=(1000,)).start()\n\
                   ctypes.CDLL(None).pthread_exit(None)";
    let job = Job::start(Command::new("python3").args(["-c", program]));
    until("the first thread has ended", || state(job.group.leader.pid) == 'Z');

    assert_eq!(job.look(), Processes { holder_alive: true, group_alive: true });
    assert_eq!(members(&job.group).unwrap(), [job.group.leader]);
    let watch = DeathWatch::open(job.group.leader).unwrap();
    assert!(!watch.is_dead());

    job.signal(Signal::KILL);
    died(&watch).await;
    assert_eq!(job.look(), Processes { holder_alive: false, group_alive: false });
}

#[test]
fn a_group_outlives_its_leader_in_a_grandchild() {
    let job = Job::without_leader(&mut Command::new("sh"));
    assert_eq!(find(job.group.leader.pid).unwrap(), None);
    assert_eq!(job.look(), Processes { holder_alive: false, group_alive: true });

    let mut younger = job.group;
    younger.leader.start_time = u64::MAX;
    assert_eq!(members(&younger).unwrap(), [], "members are no older than their leader");
    let mut stranger = job.group;
    stranger.session += 1;
    assert_eq!(members(&stranger).unwrap(), [], "members are of the leader's session");

    job.signal(Signal::KILL);
    until("the grandchild is gone", || !job.look().group_alive);
}

#[tokio::test]
async fn a_leaderless_group_that_does_not_show_the_lease_is_left_alone() {
    let job = Job::without_leader(Command::new("sh").env("GPULOCK_LEASE_ID", "another"));
    let living = members(&job.group).unwrap();

    let pressed = press(&job.group, LEASE, LONG, Duration::ZERO).unwrap();
    assert_eq!(pressed, Pressed::NotSure(living.clone()));
    assert_eq!(members(&job.group).unwrap(), living);

    // Whoever started it is sure.
    stop(job.group, LONG).await.unwrap();
    assert_eq!(members(&job.group).unwrap(), []);
}

#[test]
fn a_forged_record_of_a_running_group_is_not_acted_on() {
    let mut job = Job::start(Command::new("sleep").arg("1000"));
    let pressed = press(&job.group, LEASE, LONG, Duration::ZERO).unwrap();
    assert_eq!(pressed, Pressed::NotSure(vec![job.group.leader]));
    assert!(job.look().group_alive);
    job.signal(Signal::TERM);
    assert_eq!(job.end().signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn pressing_asks_first_and_kills_when_the_grace_is_over() {
    let mut polite = Job::sh("exec sleep 1000");
    // While a program takes the place of another, neither can be asked what it runs under.
    until("it sleeps under the lease", || {
        let read = |what| fs::read(format!("/proc/{}/{what}", polite.group.leader.pid)).unwrap();
        read("cmdline").starts_with(b"sleep")
            && String::from_utf8_lossy(&read("environ")).contains(LEASE)
    });
    let leader = vec![polite.group.leader];
    let pressed = press(&polite.group, LEASE, Duration::ZERO, LONG).unwrap();
    assert_eq!(pressed, Pressed::Signalled(leader));
    assert_eq!(polite.end().signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(press(&polite.group, LEASE, Duration::ZERO, LONG).unwrap(), Pressed::Gone);

    let deaf = Job::sh("trap '' TERM; sleep 1000 & wait");
    deaf.wait_for_members(2);
    let both = members(&deaf.group).unwrap();
    assert_eq!(
        press(&deaf.group, LEASE, Duration::ZERO, LONG).unwrap(),
        Pressed::Signalled(both.clone())
    );
    assert_eq!(members(&deaf.group).unwrap(), both);
    assert_eq!(press(&deaf.group, LEASE, LONG, LONG).unwrap(), Pressed::Signalled(both));
    until("the group is gone", || press(&deaf.group, LEASE, LONG, LONG).unwrap() == Pressed::Gone);
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_the_grace() {
    let mut job = Job::sh("(trap '' TERM; exec sleep 1000) & wait");
    job.wait_for_members(2);
    let grandchild = members(&job.group).unwrap()[1];
    until("the grandchild ignores SIGTERM", || {
        fs::read(format!("/proc/{}/cmdline", grandchild.pid)).unwrap() == *b"sleep\x001000\x00"
    });

    stop(job.group, Duration::from_millis(100)).await.unwrap();
    assert_eq!(members(&job.group).unwrap(), []);
    assert_eq!(job.end().signal(), Some(Signal::TERM.as_raw()));
}

#[tokio::test]
async fn a_group_that_keeps_forking_is_never_taken_for_dead_and_is_stopped() {
    let program = "import os, signal, time\n\
                   signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
                   while os.fork() == 0: time.sleep(0.005)\n\
                   os._exit(0)";
    let job = Job::start(Command::new("python3").args(["-c", program]));
    until("the leader has ended", || state(job.group.leader.pid) == 'Z');
    for _ in 0..5 {
        // `None`, if it runs too fast to be met.
        let looked = look(&job.owner(), Some(&job.group));
        assert!(looked.is_none_or(|processes| processes.group_alive));
    }
    stop(job.group, Duration::from_millis(100)).await.unwrap();
    assert_eq!(job.look(), Processes { holder_alive: false, group_alive: false });
}

#[tokio::test]
async fn a_stopped_group_wakes_up_to_end() {
    let mut job = Job::sh("sleep 1000 & wait");
    job.wait_for_members(2);
    job.signal(Signal::STOP);
    for member in members(&job.group).unwrap() {
        until("it is stopped", || state(member.pid) == 'T');
    }
    assert_eq!(job.look(), Processes { holder_alive: true, group_alive: true });

    stop(job.group, LONG).await.unwrap();
    assert_eq!(job.end().signal(), Some(Signal::TERM.as_raw()), "not killed, but woken and asked");
}

#[test]
fn a_group_of_another_user_is_reported_as_such() {
    // Root, too, is not allowed everything without CAP_KILL.
    let way: &[&str] =
        if geteuid().is_root() { &["setpriv", "--bounding-set=-kill"] } else { &["env"] };
    let way: Vec<String> = way.iter().map(ToString::to_string).collect();
    elsewhere(&full_name!("a_group_of_another_user_is_reported_as_such"), &way, || {
        let job = geteuid().is_root().then(|| Job::start(Command::new("cat").uid(65_534)));
        let group = job.as_ref().map_or_else(group_of_another_user, |job| job.group);
        let living = members(&group).unwrap();

        let pressed = press(&group, LEASE, LONG, Duration::ZERO).unwrap();
        assert_eq!(pressed, Pressed::NotAllowed(living.clone()));
        let error = runtime().block_on(stop(group, Duration::ZERO)).unwrap_err();
        assert!(matches!(&error, StopError::NotAllowed(pids) if pids.0 == living), "{error}");
        assert_eq!(members(&group).unwrap(), living);
    });
}

fn group_of_another_user() -> ProcessGroup {
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok());
    let mut groups = pids.filter_map(|pid| led_by(pid).ok()).filter(|group| group.leader.pid > 1);
    groups
        .find(|group| test_kill_process(pid(group.leader)) == Err(Errno::PERM))
        .expect("a process of another user leads a group; else run this test as root")
}

#[test]
fn our_own_group_is_never_stopped() {
    let way = ["setsid".to_owned(), "--wait".to_owned()];
    elsewhere(&full_name!("our_own_group_is_never_stopped"), &way, || {
        let group = led_by(this_process().unwrap().pid).unwrap();
        let error = runtime().block_on(stop(group, Duration::ZERO)).unwrap_err();
        assert!(matches!(error, StopError::Unseen(_)), "{error}");
    });
}
