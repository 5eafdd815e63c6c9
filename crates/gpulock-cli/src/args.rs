//! The arguments. Their doc comments are the help texts and the reference.

mod alerts;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use gpulock::config::span;
use gpulock::core::{GpuRef, LeaseId, PoolName, Priority, TaskName};

pub use alerts::{Ack, AlertList, AlertRoute, Alerts, Label, NewSilence, Resend, Trial};

/// Lends GPUs to commands: one at a time or several, in a fair order, and takes them back
/// when a command ends, hangs or dies.
#[derive(Clone, Debug, Parser)]
#[command(name = "gpulock", version, propagate_version = true, subcommand_required = true)]
#[command(arg_required_else_help = true, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// What holds for every command.
    #[command(flatten)]
    pub everywhere: Everywhere,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Everywhere {
    /// Where leases and queue are kept [default: the embedded store of this host].
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub store: Option<String>,

    /// Configuration file [default: $GPULOCK_CONFIG, ./config.yml, /etc/gpulock/config.yml].
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub config: Option<PathBuf>,

    /// The pool of GPUs [default: default].
    #[arg(long, global = true, value_name = "NAME", help_heading = "Everywhere")]
    pub pool: Option<PoolName>,
}

impl Cli {
    /// Reads the arguments of this process.
    ///
    /// # Errors
    /// What is wrong with them; also a request for help.
    pub fn of_process() -> Result<Self, clap::Error> {
        // `run` is started again and again, and describing all other commands to clap takes
        // longer than reading its arguments. What it cannot read is read in full.
        let is_run = std::env::args_os().nth(1).is_some_and(|verb| verb == "run");
        if is_run && let Ok(OnlyRun { verb: OnlyVerb::Run(run), everywhere }) = OnlyRun::try_parse()
        {
            return Ok(Self { command: Command::Run(run), everywhere });
        }
        Self::try_parse()
    }
}

/// The same arguments where the command is `run`.
#[derive(Clone, Debug, Parser)]
#[command(disable_help_flag = true, disable_help_subcommand = true)]
struct OnlyRun {
    #[command(subcommand)]
    verb: OnlyVerb,
    #[command(flatten)]
    everywhere: Everywhere,
}

#[derive(Clone, Debug, Subcommand)]
enum OnlyVerb {
    Run(Run),
}

const EXIT_CODES: &str = "\
Exit codes: that of the command, or 128+N if signal N ended it; 64 usage, 65 configuration,
69 store, 70 internal error, 75 not acquired in time, 76 lease lost, 77 not allowed,
126 command not executable, 127 command not found.";

/// One verb each.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a command as soon as it has its GPUs.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Show who holds, who waits, since when and until when.
    Status(Status),
    /// Ask the holder of a lease to stop, or take the lease away.
    #[command(after_help = RELEASE_EXAMPLES)]
    Release(Release),
    /// Show what happened, the latest last.
    History(History),
    /// Say whether a lease is still the current one: exit code 0, or 76 if not.
    Verify(Verify),
    /// Watch over leases, and answer the HTTP API.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Show alerts, say who has them in hand, silence them, try channels.
    #[command(subcommand)]
    Alerts(Alerts),
    /// Look into the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look for trouble, and say how to end it.
    Doctor(Doctor),
    /// Print files for other programs.
    #[command(subcommand)]
    Generate(Generate),
}

const RUN_EXAMPLES: &str = "\
Examples:
  gpulock run -- python train.py
  gpulock run --gpu 0 --task ocr -- python ocr.py scans/
  gpulock run --gpus 2 --priority high --wait 2h -- torchrun --nproc-per-node 2 train.py
  gpulock run --no-wait -- nvidia-smi || echo busy

The command sees CUDA_VISIBLE_DEVICES, GPULOCK_LEASE_ID, GPULOCK_TOKEN and GPULOCK_LEASE_GPUS.
It may tell how far it is: echo 'progress 45 frame 100' >&$GPULOCK_PROGRESS_FD
If several processes are left when it ends, they are stopped before the GPUs go on.";

const RELEASE_EXAMPLES: &str = "\
Examples:
  gpulock release gpu_lock:0 --ask --reason 'maintenance at 18:00'
  gpulock release gpu_lock:0 --force --reason 'stuck since noon'

A lease that is taken away ends at once; its GPUs go on when its processes are gone.";

const SERVE_EXAMPLES: &str = "\
Examples:
  gpulock serve
  GPULOCK_SERVER__TOKENS=operate:@/etc/gpulock/token gpulock serve --listen 0.0.0.0:8788

Several on one store: one watches over the leases, the others stand by; all answer.
SIGHUP, or a change of its file, makes it read the configuration again.";

/// `gpulock run`
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Exactly these GPUs, by number or UUID.
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with = "gpus")]
    pub gpu: Vec<GpuRef>,

    /// Any so many GPUs, all at once [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(allow_negative_numbers = true)]
    pub gpus: Option<u32>,

    /// Before those of lower priority; inside a priority the order is that of arrival.
    #[arg(long, value_enum, value_name = "P", default_value = "normal")]
    pub priority: PriorityArg,

    /// Give up after so long: 90s, 30m, 1h30m [default: max_wait_time, 30m].
    #[arg(long, value_name = "SPAN", value_parser = span, conflicts_with = "no_wait")]
    #[arg(allow_hyphen_values = true)]
    pub wait: Option<Duration>,

    /// Do not wait at all.
    #[arg(long)]
    pub no_wait: bool,

    /// What the work is called, for people [default: the name of the command].
    #[arg(long, value_name = "NAME")]
    pub task: Option<TaskName>,

    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PriorityArg {
    /// After everybody else.
    Low,
    /// The default.
    Normal,
    /// Before normal.
    High,
    /// Before everybody else.
    Urgent,
}

impl From<PriorityArg> for Priority {
    fn from(priority: PriorityArg) -> Self {
        match priority {
            PriorityArg::Low => Self::Low,
            PriorityArg::Normal => Self::Normal,
            PriorityArg::High => Self::High,
            PriorityArg::Urgent => Self::Urgent,
        }
    }
}

/// `gpulock status`
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// As JSON with stable field names.
    #[arg(long)]
    pub json: bool,
    /// Again and again, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
}

/// `gpulock release`
#[derive(Clone, Debug, Args)]
pub struct Release {
    /// gpu_lock:0, gpu_lock:POOL/0 or the id of a lease.
    #[arg(value_name = "LOCK_KEY|LEASE_ID")]
    pub target: String,
    /// Take the lease away from its holder.
    #[arg(long, requires = "reason", conflicts_with = "ask")]
    pub force: bool,
    /// Ask the holder to stop, and leave it the lease until it does.
    #[arg(long, requires = "reason")]
    pub ask: bool,
    /// Why; holder and history are told.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// With --force: hand the GPUs on even if processes still use them.
    #[arg(long, requires = "force")]
    pub ignore_processes: bool,
}

/// `gpulock history`
#[derive(Clone, Debug, Args)]
pub struct History {
    /// As JSON, one event a line.
    #[arg(long)]
    pub json: bool,
    /// At most so many events.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Only of this task.
    #[arg(long, value_name = "NAME")]
    pub task: Option<TaskName>,
}

/// `gpulock verify`
#[derive(Clone, Debug, Args)]
pub struct Verify {
    /// The lease [default: $GPULOCK_LEASE_ID].
    #[arg(requires = "token")]
    pub lease_id: Option<LeaseId>,
    /// Its token [default: $GPULOCK_TOKEN].
    pub token: Option<u64>,
}

/// `gpulock config`
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Look for contradictions, and say how to end them.
    Check,
    /// Print the effective values and where each came from.
    Show {
        /// As JSON with stable field names.
        #[arg(long)]
        json: bool,
    },
}

/// `gpulock doctor`
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// As JSON with stable field names.
    #[arg(long)]
    pub json: bool,
}

/// `gpulock generate`
#[derive(Clone, Debug, Subcommand)]
pub enum Generate {
    /// Completions for a shell, to standard output.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Manual pages, into a folder.
    Man {
        /// The folder; it is made if it is not there.
        folder: PathBuf,
    },
    /// The document of the HTTP API (OpenAPI 3.1), to standard output.
    Openapi,
    /// Alerting rules for Prometheus, to standard output.
    PrometheusRules,
    /// A board for Grafana, to standard output.
    GrafanaDashboard,
}

/// `gpulock serve`
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Listen here [default: server.listen, 127.0.0.1:8788].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Listen where others can reach it although there are no tokens: everybody who can, may
    /// take GPUs away.
    #[arg(long)]
    pub insecure_no_auth: bool,

    /// How its log is written, on standard error.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "human")]
    pub log: LogFormat,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object for each line.
    Json,
}
