//! Where a test takes place: a folder with a store, and ways to run `gpulock` in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use insta::internals::SettingsBindDropGuard;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::program::{Ended, Running, start, until};

/// The program under test.
pub(super) const GPULOCK: &str = env!("CARGO_BIN_EXE_gpulock");

/// A command that forks nothing while it waits for a line in `gate`: a shell that is just
/// starting a program when it is stopped is not seen as stopped.
pub(super) const BLOCKED: &str = "mkfifo gate; echo $$ > worker.pid; read line < gate; echo done";

/// The critical failure log, in the folder of the scene: not that of this machine.
pub(super) const CRITICAL_FAILURES: &str = "critical_failures.jsonl";

/// A folder to work in, with a store of its own.
pub(super) struct Scene {
    folder: TempDir,
    variables: Vec<(String, String)>,
    started: AtomicU32,
    _filters: SettingsBindDropGuard,
}

impl Scene {
    /// Nothing is there yet: no configuration, and a store that the first command makes.
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("gpulock-cli-").tempdir().unwrap();
        let filters = filters(folder.path()).bind_to_scope();
        fs::create_dir(folder.path().join("work")).unwrap();
        fs::create_dir(folder.path().join("store")).unwrap();
        let mut scene =
            Self { folder, variables: Vec::new(), started: AtomicU32::new(0), _filters: filters };
        scene.set("GPULOCK_STORE", &scene.store_url());
        let log = scene.folder().join(CRITICAL_FAILURES).display().to_string();
        scene.set("GPULOCK_CRITICAL_FAILURE_LOG", &log);
        scene
    }

    /// With a `config.yml` where the commands run.
    pub(super) fn with_config(text: &str) -> Self {
        let scene = Self::new();
        scene.write("config.yml", text);
        scene
    }

    /// From now on the commands see this variable.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// From now on the commands do not see this variable.
    pub(super) fn unset(&mut self, name: &str) {
        self.variables.retain(|(known, _)| known != name);
    }

    /// Sets a key below `gpu_lock`.
    pub(super) fn set_lock(&mut self, key: &str, value: &str) {
        self.set(&format!("GPULOCK_GPU_LOCK__{}", key.to_uppercase()), value);
    }

    /// The whole of the scene.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file where the commands run.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    pub(super) fn store_path(&self) -> PathBuf {
        self.folder.path().join("store/gpulock.db")
    }

    pub(super) fn store_url(&self) -> String {
        format!("sqlite://{}", self.store_path().display())
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The file's text; nothing if there is no such file.
    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Waits for a file that a command writes, and returns its first line.
    pub(super) fn wait_for_line(&self, name: &str) -> String {
        until(&format!("{name} has a line"), || self.read(name).contains('\n'));
        self.read(name).lines().next().unwrap_or_default().to_owned()
    }

    /// The process id that a command wrote into this file.
    pub(super) fn wait_for_pid(&self, name: &str) -> Pid {
        let text = self.wait_for_line(name);
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.unwrap_or_else(|| panic!("{name} holds no process id but {text:?}"))
    }

    /// Any program, in the work folder and with a clean environment, in which `gpulock` is
    /// on PATH.
    pub(super) fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let tools = std::env::var("PATH").unwrap_or_default();
        let own = Path::new(GPULOCK).parent().unwrap().display();
        command.env_clear().current_dir(self.path(""));
        command.env("PATH", format!("{own}:{tools}")).env("HOME", self.folder.path());
        command.env("USER", "tester").env("TZ", "UTC").env("TERM", "xterm").env("LANG", "C.UTF-8");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(GPULOCK);
        command.args(arguments);
        command
    }

    /// Runs `gpulock` to its end.
    #[track_caller]
    pub(super) fn gpulock(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).ended()
    }

    /// Runs a script of the shell to its end.
    #[track_caller]
    pub(super) fn shell(&self, script: &str) -> Ended {
        self.start_shell(script).ended()
    }

    /// Starts `gpulock`.
    #[track_caller]
    pub(super) fn start(&self, arguments: &[&str]) -> Running {
        self.launch(self.command(arguments))
    }

    /// Starts a script of the shell.
    #[track_caller]
    pub(super) fn start_shell(&self, script: &str) -> Running {
        let mut shell = self.program("sh");
        shell.args(["-c", script]);
        self.launch(shell)
    }

    /// Starts a command. Its outputs go to files, so that nobody waits for the last of its
    /// descendants to close them.
    #[track_caller]
    pub(super) fn launch(&self, mut command: Command) -> Running {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let output = |kind: &str| self.folder.path().join(format!("{number}.{kind}"));
        let (stdout, stderr) = (output("stdout"), output("stderr"));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let child = start(&mut command);
        Running::new(child, stdout, stderr)
    }

    /// Starts `gpulock run OPTIONS` with a command that holds its GPUs until `let_go`, and
    /// waits until it has them.
    #[track_caller]
    pub(super) fn holder(&self, task: &str, options: &[&str]) -> Running {
        let script = format!("echo $$ > {task}.pid; until [ -e {task}.go ]; do sleep 0.01; done");
        let running = self.start_run(task, options, &script);
        self.wait_for_pid(&format!("{task}.pid"));
        running
    }

    /// Lets the command of a `holder` come to its end.
    pub(super) fn let_go(&self, task: &str) {
        self.write(&format!("{task}.go"), "");
    }

    /// Starts `gpulock run OPTIONS` with a command that notes its task in the file `order`,
    /// and waits until it is in the queue.
    #[track_caller]
    pub(super) fn waiter(&self, task: &str, options: &[&str]) -> Running {
        let running = self.start_run(task, options, &format!("echo {task} >> order"));
        self.until_queued(task);
        running
    }

    /// Starts `gpulock run OPTIONS` with a script as its command.
    #[track_caller]
    pub(super) fn start_run(&self, task: &str, options: &[&str], script: &str) -> Running {
        let mut arguments = vec!["run", "--task", task];
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        self.start(&arguments)
    }

    /// Starts the next in line, which looks for the processes whose ids are in these files.
    /// It ends with 0 and an empty `alive` if none of them lives when it begins.
    #[track_caller]
    pub(super) fn successor(&self, pid_files: &[&str]) -> Running {
        self.write("successor.sh", SUCCESSOR);
        let script = format!("exec sh successor.sh {}", pid_files.join(" "));
        self.start_run("successor", &[], &script)
    }

    pub(super) fn until_queued(&self, task: &str) {
        until(&format!("{task} waits"), || {
            let queue = self.pool()["queue"].clone();
            queue.as_array().unwrap().iter().any(|waiter| waiter["task"] == task)
        });
    }

    /// The pool `default` of `gpulock status --json`.
    #[track_caller]
    pub(super) fn pool(&self) -> Value {
        let ended = self.gpulock(&["status", "--json"]);
        let report: Value =
            serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
        report["pools"][0].clone()
    }

    /// The one lease of the pool.
    #[track_caller]
    pub(super) fn lease(&self) -> Value {
        let leases = self.pool()["leases"].clone();
        assert_eq!(leases.as_array().map(Vec::len), Some(1), "{leases}");
        leases[0].clone()
    }

    /// What happened, the latest last.
    #[track_caller]
    pub(super) fn events(&self) -> Vec<Value> {
        let ended = self.gpulock(&["history", "--json", "--limit", "100000"]);
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Processes that a command left behind would outlive a test that fails.
impl Drop for Scene {
    fn drop(&mut self) {
        let mark = self.folder.path().as_os_str().as_encoded_bytes();
        let Ok(processes) = fs::read_dir("/proc") else {
            return;
        };
        for pid in processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let is_ours = environment.windows(mark.len()).any(|text| text == mark);
            if let (true, Some(pid)) = (is_ours, Pid::from_raw(pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Zombies do no work any more: they count as gone.
const SUCCESSOR: &str = r#"
: > alive
for file in "$@"; do
    pid=$(cat "$file")
    state=$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat" 2>/dev/null)
    case $state in '' | Z | X) ;; *) echo "$file: $pid is $state" >> alive ;; esac
done
[ ! -s alive ]
"#;

/// Takes out of a conversation what is different each time.
fn filters(folder: &Path) -> insta::Settings {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(&folder.display().to_string(), "FOLDER");
    settings.add_filter("[0-9a-f]{32}", "LEASE");
    settings.add_filter(r"\bpid [0-9]+\b", "pid PID");
    settings.add_filter(&format!(r"on {host}\b"), "on HOST");
    settings.add_filter(&format!(r" [0-9]+ +tester +{host}\b"), " PID  tester  HOST");
    settings.add_filter(r"\b(for|within|after|in) [0-9.]+s\b", "$1 SPAN");
    settings.add_filter(r"\b[0-9]+(\.[0-9])?s ago", "SPAN ago");
    settings.add_filter(r"\b[0-9]\.[0-9]s\b", "SPAN");
    settings.add_filter(r"  [0-9]+s  ", "  SPAN  ");
    settings.add_filter(r"behind \([0-9, ]+\)", "behind (PIDS)");
    // The store is built beside its place.
    settings.add_filter(r"gpulock\.db\.[0-9a-f]{16}\.new", "gpulock.db");
    settings.add_filter(r"\b[0-9]+ KiB", "SIZE");
    settings.add_filter(" {3,}", "  ");
    settings
}
