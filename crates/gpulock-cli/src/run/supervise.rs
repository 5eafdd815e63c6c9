//! The command and its lease, side by side until both are over.

use std::time::Duration;

use gpulock::core::{Ending, Gpu, ProcessGroup};
use gpulock::process;
use gpulock::{Health, Lease, LeaseState, Loss};
use nix::sys::signal::{Signal as Number, raise};
use rustix::process::Signal;
use tokio::sync::watch;

use crate::exit::{Code, Failure};
use crate::output;
use crate::session::Session;

use super::child::{Child, News, Orders, not_started};
use super::progress::Listener;
use super::signals::Signals;
use super::terminal::Terminal;
use super::unconfirmed::Unconfirmed;

/// Sees to it that the command ends before the lease does.
#[derive(Debug)]
pub(super) struct Supervisor {
    lease: Lease,
    child: Child,
    state: watch::Receiver<LeaseState>,
    signals: Signals,
    terminal: Terminal,
    /// SIGTERM to SIGKILL when there is time for it.
    grace: Duration,
    /// The same when the lease runs out: so much before its deadline the command is stopped.
    last_grace: Duration,
}

/// How the command came to its end.
enum End {
    /// By itself, with this code.
    Own(u8),
    /// It was stopped, because its lease is lost.
    Lost(String),
}

impl Supervisor {
    pub(super) fn new(lease: Lease, child: Child, session: &Session, signals: Signals) -> Self {
        let lock = &session.config().gpu_lock;
        let span = session.config().gpu_lock_monitor.heartbeat.timeout;
        Self {
            state: lease.watch(),
            lease,
            child,
            signals,
            terminal: Terminal::new(),
            grace: lock.stop_grace,
            last_grace: lock.stop_grace.min(span / 4),
        }
    }

    /// Runs the command to its end, then gives the lease back.
    pub(super) async fn run(
        mut self,
        mut orders: Orders<'_>,
        unconfirmed: Unconfirmed,
    ) -> Result<Code, Failure> {
        let group = self.child.group().map_err(|error| {
            Failure::new(Code::Internal, format!("the command's group cannot be seen: {error}"))
        })?;
        let (mut progress, variables) = self.child.listen().map_err(|error| {
            Failure::new(Code::Internal, format!("the command cannot be listened to: {error}"))
        })?;
        // Without this word nothing is executed: the gate stays shut when `child` is dropped.
        self.lease.claim(group).await?;
        orders.environment.extend(self.environment());
        orders.environment.extend(variables);
        self.child.open_gate(&orders);
        let end = self.supervise(group, &mut progress).await;
        self.terminal.take_back();
        // Whatever the end was, also if the command could not be watched to it.
        if !self.stop_what_is_left(group).await {
            // Its processes still use the GPU. Once this process has ended, the next in line
            // sees that and waits for them.
            self.lease.abandon();
            return Err(Failure::new(
                Code::Internal,
                "the GPU is not given back while processes of the command run",
            )
            .hint("`gpulock status` shows it as draining until they are gone"));
        }
        let settled = self.lease.release().await;
        if let Err(error @ gpulock::Error::Store(_)) = &settled {
            unconfirmed.tell(error);
        }
        match (end?, settled) {
            (End::Lost(reason), _) => Err(Failure::new(
                Code::Lost,
                format!("the lease was lost: {reason}; the command was stopped"),
            )),
            (End::Own(code), Ok(())) => Ok(Code::Command(code)),
            (End::Own(code), Err(gpulock::Error::Lost(_))) => Err(Failure::new(
                Code::Lost,
                format!("the lease had ended before the command did (with exit code {code})"),
            )
            .hint("`gpulock history` shows how it ended")),
            (End::Own(code), Err(error)) => {
                output::warning(&format!(
                    "the command ended, but its lease could not be given back: {error}"
                ));
                Ok(Code::Command(code))
            }
        }
    }

    /// What the command finds in its environment.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let join = |names: Vec<String>| names.join(",");
        let indices = join(self.lease.gpu_indices().iter().map(ToString::to_string).collect());
        let uuids: Option<Vec<String>> =
            self.lease.gpus().iter().map(|gpu: &Gpu| gpu.uuid.clone()).collect();
        let mut environment = vec![
            ("GPULOCK_LEASE_ID", self.lease.id().to_string()),
            ("GPULOCK_TOKEN", self.lease.token().to_string()),
            ("GPULOCK_LEASE_GPUS", indices.clone()),
        ];
        match uuids {
            Some(uuids) => environment.push(("CUDA_VISIBLE_DEVICES", join(uuids))),
            None => {
                // Numbers mean the same to CUDA as to us only in the order of the bus.
                environment.push(("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()));
                environment.push(("CUDA_VISIBLE_DEVICES", indices));
            }
        }
        environment
    }

    async fn supervise(
        &mut self,
        group: ProcessGroup,
        progress: &mut Listener,
    ) -> Result<End, Failure> {
        let mut asked_to_stop = false;
        loop {
            let state = self.state.borrow_and_update().clone();
            if let Health::Lost(loss) = state.health {
                let reason = self.reason(loss).await;
                return Ok(self.stop(group, reason).await);
            }
            if let (Some(request), false) = (&state.stop, asked_to_stop) {
                asked_to_stop = true;
                output::notice(&format!("asked to stop: {}", request.reason));
                self.child.signal(Signal::TERM);
            }
            let last_moment = state.deadline - self.last_grace;
            if last_moment.left().is_zero() {
                let reason = "it could not be renewed in time".to_owned();
                return Ok(self.stop(group, reason).await);
            }
            tokio::select! {
                biased;
                news = self.child.news() => match news {
                    Ok(News::Ended(code)) => return Ok(End::Own(code)),
                    Ok(News::NotStarted(error)) => return Err(not_started(&error)),
                    Ok(News::Stopped(signal)) => self.child_stopped(signal),
                    Err(error) => return Err(Failure::new(
                        Code::Internal,
                        format!("the command cannot be watched: {error}"),
                    )),
                },
                signal = self.signals.next() => self.pass_on(signal),
                // A client that is gone changes nothing any more; the deadline stays.
                _ = self.state.changed() => {}
                word = progress.next() => self.lease.progress(word.percent, word.message),
                () = tokio::time::sleep(last_moment.left().min(Duration::from_secs(1))) => {}
            }
        }
    }

    /// Why the lease is lost, as exactly as the journal knows.
    async fn reason(&self, loss: Loss) -> String {
        match self.lease.ending().await {
            Some(Ending::Seized { by, reason }) => format!("{by} took it away ({reason})"),
            _ => loss.to_string(),
        }
    }

    fn pass_on(&mut self, signal: Number) {
        self.child.pass_on(signal);
        if signal == Number::SIGTSTP {
            self.stop_together();
        }
    }

    /// The kernel or somebody else stopped the command.
    fn child_stopped(&mut self, signal: i32) {
        let wants_terminal = [Number::SIGTTIN as i32, Number::SIGTTOU as i32].contains(&signal);
        if wants_terminal && !self.terminal.is_lent() && self.terminal.lend(self.child.group_id()) {
            self.child.signal(Signal::CONT);
        } else if wants_terminal || signal == Number::SIGTSTP as i32 {
            self.stop_together();
        }
        // Stopped by SIGSTOP, it keeps its GPU: heartbeats go on.
    }

    /// Stops together with the command, so that the shell sees its job stopped, and goes on
    /// with it. Heartbeats rest meanwhile: the lease of a job stopped for long runs out.
    fn stop_together(&mut self) {
        let had_terminal = self.terminal.is_lent();
        self.terminal.take_back();
        output::notice(&format!(
            "stopped; the lease ends in {} unless the job goes on",
            gpulock::brief(self.state.borrow().deadline.left())
        ));
        // It cannot fail for a signal that exists.
        let _ = raise(Number::SIGSTOP);
        if had_terminal {
            self.terminal.lend(self.child.group_id());
        }
        self.child.signal(Signal::CONT);
    }

    async fn stop(&mut self, group: ProcessGroup, reason: String) -> End {
        output::warning(&format!("the lease is lost: {reason}; stopping the command"));
        self.stop_group(group, self.last_grace).await;
        // It has been reaped, or it cannot die; the next in line waits for it in any case.
        let _ = tokio::time::timeout(Duration::from_millis(100), self.child.news()).await;
        End::Lost(reason)
    }

    /// Stops what the command left running in its group: the GPU goes on only after it.
    /// `false` if something could not be stopped.
    async fn stop_what_is_left(&self, group: ProcessGroup) -> bool {
        match process::members(&group) {
            Ok(left) if left.is_empty() => true,
            Ok(left) => {
                let pids: Vec<_> = left.iter().map(|process| process.pid.to_string()).collect();
                output::notice(&format!(
                    "the command left processes behind ({}); stopping them",
                    pids.join(", ")
                ));
                self.stop_group(group, self.grace).await
            }
            Err(error) => {
                output::warning(&format!("what the command left behind cannot be seen: {error}"));
                false
            }
        }
    }

    async fn stop_group(&self, group: ProcessGroup, grace: Duration) -> bool {
        let Err(error) = process::stop(group, grace).await else { return true };
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        output::warning(&format!("{error}{hint}"));
        false
    }
}
