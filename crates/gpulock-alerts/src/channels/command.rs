//! A local command.
//!
//! It is executed without a shell, as the user of the daemon, in a process group of its own. It finds
//! the facts as JSON on its standard input and a few of them in its environment. It has the message
//! if it ends with 0. Nothing of its group outlives the attempt.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use gpulock::core::ProcessGroup;
use gpulock::core::alert::Labels;
use gpulock::process;
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::timeout;

use super::Around;
use crate::channel::{Channel, Failure, Message, Reason};
use crate::notification::{Notification, Status};
use crate::span::Span;
use crate::text::{Markup, cut};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// How long to read on what a command that has ended has said: somebody who left its group may hold
/// the pipe open.
const ECHO: Duration = Duration::from_millis(200);

/// The most of standard error that a failure quotes, in characters.
const QUOTED: usize = 300;

/// The longest value of a variable, in bytes.
const LONGEST_VALUE: usize = 1_000;

/// Variables by which the daemon itself speaks with systemd.
const OF_THE_DAEMON: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The program, by its path or to be found on PATH, and its arguments.
    argv: Vec<String>,
    /// How long it may take.
    #[serde(default = "half_a_minute")]
    timeout: Span,
}

const fn half_a_minute() -> Span {
    Span::seconds(30)
}

impl Settings {
    /// Looks for the program.
    ///
    /// # Errors
    /// If there is none that this user can execute.
    pub fn open(&self, _around: &Around) -> Result<Program, String> {
        let Some((name, arguments)) = self.argv.split_first().filter(|(name, _)| !name.is_empty())
        else {
            return Err("`argv` names no program; write argv: [PROGRAM, ARGUMENT…]".to_owned());
        };
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return Err("`argv` contains a zero byte; remove it".to_owned());
        }
        if self.timeout.0.is_zero() {
            return Err("`timeout: 0` leaves the command no time; the default is 30s".to_owned());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find(name, &path)?;
        Ok(Program { program, arguments: arguments.to_vec(), patience: self.timeout.0 })
    }
}

/// A local command.
#[derive(Clone, Debug)]
pub struct Program {
    program: PathBuf,
    arguments: Vec<String>,
    patience: Duration,
}

#[async_trait]
impl Channel for Program {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn markup(&self) -> Markup {
        Markup::Plain
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let shown = self.program.display();
        let local = |text: String| Failure::new(Reason::Local, format!("{shown} {text}"));
        let input = input_of(message).map_err(|error| local(error.to_string()))?;
        let mut running =
            self.start(message).map_err(|error| local(format!("cannot be executed: {error}")))?;
        let ended = timeout(self.patience, running.talk(&input)).await;
        let left = running.stop().await;
        let said = running.ear.said();
        match ended {
            Err(_) => {
                let span = gpulock::brief(self.patience);
                let text = format!("{shown} did not end within {span} and was stopped{said}");
                Err(Failure::new(Reason::ContextDeadlineExceeded, text))
            }
            Ok(Err(error)) => Err(local(format!("cannot be watched: {error}"))),
            Ok(Ok(status)) if !status.success() => {
                Err(local(format!("ended with {}{said}", outcome(status))))
            }
            Ok(Ok(_)) => left.map_err(|error| local(format!("left processes behind: {error}"))),
        }
    }
}

impl Program {
    fn start(&self, message: &Message<'_>) -> io::Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        for name in OF_THE_DAEMON {
            command.env_remove(name);
        }
        command.envs(variables(message));
        let mut child = command.spawn()?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let number = child.id().ok_or_else(|| io::Error::other("it has no process id"))?;
        // Until it is waited for, it is there, dead or alive.
        let group = process::led_by(number)?;
        Ok(Running { child, group, stdin, ear: Ear { stderr, said: Vec::new() } })
    }
}

/// The command while it runs. Dropped, its whole group ends.
struct Running {
    child: Child,
    group: ProcessGroup,
    stdin: Option<ChildStdin>,
    ear: Ear,
}

impl Running {
    /// Gives it its input, whether it reads it or not, and waits for its end.
    async fn talk(&mut self, input: &[u8]) -> io::Result<ExitStatus> {
        let speak = async { tokio::join!(feed(self.stdin.take(), input), self.ear.listen()) };
        tokio::select! {
            status = self.child.wait() => return status,
            _ = speak => {}
        }
        self.child.wait().await
    }

    /// Stops what is left of its group. Its last words are heard: with its pipe closed it might die
    /// of them before it has tidied up.
    async fn stop(&mut self) -> Result<(), process::StopError> {
        let listening = async {
            self.ear.listen().await;
            std::future::pending::<Infallible>().await
        };
        let stopped = tokio::select! {
            stopped = process::stop(self.group, GRACE) => stopped,
            never = listening => match never {},
        };
        let _ = timeout(ECHO, self.ear.listen()).await;
        // So that it does not stay as a zombie; one that hangs in the kernel is not waited for.
        let _ = timeout(ECHO, self.child.wait()).await;
        stopped
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let lives = process::members(&self.group).map_or(true, |living| !living.is_empty());
        let is_ours = lives || self.child.id().is_some();
        let number = i32::try_from(self.group.leader.pid).ok().and_then(Pid::from_raw);
        if let (true, Some(group)) = (is_ours, number) {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Who does not read its input closes it at its end.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
}

/// Hears what a command says on standard error.
struct Ear {
    /// `None`: there is no more.
    stderr: Option<ChildStderr>,
    /// The end of it.
    said: Vec<u8>,
}

impl Ear {
    /// Listens until the pipe is closed.
    async fn listen(&mut self) {
        // A character takes at most four bytes.
        const KEPT: usize = 4 * QUOTED;
        let Some(stderr) = &mut self.stderr else { return };
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = stderr.read(&mut piece).await {
            self.said.extend_from_slice(&piece[..length]);
            let surplus = self.said.len().saturating_sub(KEPT);
            self.said.drain(..surplus);
        }
        self.stderr = None;
    }

    /// What was said, behind a colon.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.said);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = text.trim();
        let skipped = text.chars().count().saturating_sub(QUOTED);
        let text: String = text.chars().skip(skipped).collect();
        if text.is_empty() { text } else { format!(": {text}") }
    }
}

/// The fields of the input, in their order.
#[derive(Serialize)]
struct Input<'m> {
    title: &'m str,
    text: &'m str,
    #[serde(flatten)]
    notification: &'m Notification,
}

fn input_of(message: &Message<'_>) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Input {
        title: &message.text.title,
        text: &message.text.body,
        notification: message.notification,
    })
}

/// The facts that fit into an environment.
fn variables(message: &Message<'_>) -> [(&'static str, String); 4] {
    let notification = message.notification;
    let labels = [&notification.common_labels, &notification.group_labels];
    let named = labels.into_iter().map(|labels| labels.value(Labels::RULE));
    let rule = named.chain(notification.alerts.iter().map(|alert| alert.rule()));
    let status = match notification.status {
        Status::Firing => "firing",
        Status::Resolved => "resolved",
    };
    [
        ("GPULOCK_ALERT_STATUS", status.to_owned()),
        ("GPULOCK_ALERT_SEVERITY", notification.urgency().to_string()),
        ("GPULOCK_ALERT_NAME", value(rule.into_iter().find(|rule| !rule.is_empty()).unwrap_or(""))),
        ("GPULOCK_ALERT_TITLE", value(&message.text.title)),
    ]
}

fn value(text: &str) -> String {
    let mut value: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&mut value, LONGEST_VALUE);
    value
}

fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The file that a shell would execute for this name.
fn find(name: &str, path: &OsStr) -> Result<PathBuf, String> {
    let candidates: Vec<PathBuf> = match name.as_bytes().contains(&b'/') {
        true => vec![PathBuf::from(name)],
        false => std::env::split_paths(path).map(|folder| folder.join(name)).collect(),
    };
    let executable = |path: &&PathBuf| path.is_file() && access(*path, Access::EXEC_OK).is_ok();
    match candidates.iter().find(executable) {
        Some(found) => std::path::absolute(found).map_err(|error| format!("{name}: {error}")),
        None => Err(missing(name, candidates.iter().find(|path| path.exists()))),
    }
}

fn missing(name: &str, there: Option<&PathBuf>) -> String {
    match there.map(PathBuf::as_path) {
        Some(path) if Path::is_dir(path) => {
            format!("the command {} is a folder; name a program in it", path.display())
        }
        Some(path) => {
            let path = path.display();
            format!("the command {path} cannot be executed by this user; `chmod +x {path}`")
        }
        None => format!("the command `{name}` was not found; write its path, or put it on PATH"),
    }
}
