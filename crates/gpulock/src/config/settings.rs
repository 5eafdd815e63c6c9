//! The table of keys: every key of the configuration with its type, kind, default and
//! meaning. There is no second list of them anywhere.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::gpus::Gpus;
use super::key::{Field, Key, Section};
use super::kind;
use super::on_store_error::OnStoreError;
use super::origin::Origin;
use super::server_token::ServerToken;
use super::store_url::StoreUrl;
use super::unexamined::Unexamined;

/// Makes of each group of rows a struct, its defaults, and its part of the table.
///
/// A row reads `name: Type, KIND = default;` and its doc comment is the meaning that the
/// reference prints. `sections` are groups inside the group, `besides` are fields that are
/// no keys.
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])+
        struct $group:ident {
            $( $(#[doc = $meaning:literal])+ $key:ident: $type:ty, $kind:ident = $default:expr; )*
        }
        $( sections { $( $(#[doc = $sub_doc:literal])+ $sub:ident: $section:ident; )+ } )?
        $( besides { $( $other:ident: $other_type:ty; )+ } )?
    )+) => { $(
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $group {
            $( $(#[doc = $meaning])+ pub $key: $type, )*
            $( $( $(#[doc = $sub_doc])+ pub $sub: $section, )+ )?
            $( $( pub(super) $other: $other_type, )+ )?
        }

        impl Default for $group {
            fn default() -> Self {
                Self {
                    $( $key: $default, )*
                    $( $( $sub: $section::default(), )+ )?
                    $( $( $other: <$other_type>::default(), )+ )?
                }
            }
        }

        impl Section for $group {
            fn add_keys<'c>(&'c mut self, prefix: &str, keys: &mut Vec<Key<'c>>) {
                let group = concat!($($about),+).trim_ascii();
                $( keys.push(Key {
                    path: format!("{prefix}{}", stringify!($key)),
                    meaning: concat!($($meaning),+).trim_ascii(),
                    group,
                    slot: Box::new(Field { value: &mut self.$key, kind: kind::$kind }),
                }); )*
                $( $( self.$sub.add_keys(&format!("{prefix}{}.", stringify!($sub)), keys); )+ )?
            }
        }
    )+ };
}

settings! {
    /// Where the ledger is, and which GPUs it lends out.
    struct Config {
        /// URL of the store; where it is not set, the store is the embedded one of this host.
        store: Option<StoreUrl>, STORE = None;
        /// The pool that requests go to.
        pool: String, POOL = "default".to_owned();
        /// The GPUs of the pool, by index or UUID; `auto` takes all that the host has.
        gpus: Gpus, GPUS = Gpus::Auto;
        /// Who is told about trouble, and how: see the guide to alerts.
        alerts: Option<Unexamined>, UNEXAMINED = None;
        /// File that gets a JSON line for every release that could not be confirmed.
        critical_failure_log: PathBuf, PATH =
            PathBuf::from("/var/log/gpulock/critical_failures.jsonl");
    }
    sections {
        /// `gpu_lock`
        gpu_lock: GpuLock;
        /// `gpu_lock_monitor`
        gpu_lock_monitor: Monitor;
        /// `server`
        server: Server;
        /// `compat`
        compat: Compat;
    }
    besides { origins: BTreeMap<String, Origin>; }

    /// How a request waits for a GPU, and how long a lease lasts.
    struct GpuLock {
        /// First pause between two looks at the queue, in case a wake-up was lost.
        poll_interval: Duration, SPAN = seconds(2);
        /// A request gives up after waiting for this long; 0 means that it never waits.
        max_wait_time: Duration, SPAN_OR_ZERO = seconds(1800);
        /// A lease taken without heartbeats ends after this long.
        lock_timeout: Duration, SPAN = seconds(3600);
        /// Whether the pause between two looks doubles each time.
        exponential_backoff: bool, SWITCH = true;
        /// Longest pause between two looks that the doubling may reach.
        max_poll_interval: Duration, SPAN = seconds(10);
        /// Whether waiters are woken by the store; `false` means polling alone.
        use_event_driven: bool, SWITCH = true;
        /// Longest pause between two looks while waiters are woken by the store; where it
        /// is not set, `max_poll_interval` alone counts.
        fallback_timeout: Option<Duration>, OPTIONAL_SPAN = None;
        /// How long an unreachable store is tried again before the request fails.
        store_patience: Duration, SPAN_OR_ZERO = seconds(10);
        /// What happens then: `fail`; `wait`, up to `max_wait_time`; or `run_unlocked`,
        /// which runs the task without a lease.
        on_store_error: OnStoreError, ON_STORE_ERROR = OnStoreError::Fail;
        /// Pause between the request to stop (SIGTERM) and the end by force (SIGKILL).
        stop_grace: Duration, SPAN_OR_ZERO = seconds(5);
        /// A waiter that does not pick its grant up loses it after this long.
        claim_time: Duration, SPAN = seconds(10);
    }

    /// How `gpulock serve` watches over leases.
    struct Monitor {
        /// Whether the monitor runs.
        enabled: bool, SWITCH = true;
        /// Whether the monitor takes GPUs back; `false` means that it only sends alerts.
        auto_recovery: bool, SWITCH = true;
        /// Longest pause between two rounds of the monitor.
        monitor_interval: Duration, SPAN = seconds(30);
    }
    sections {
        /// `gpu_lock_monitor.timeout_levels`
        timeout_levels: TimeoutLevels;
        /// `gpu_lock_monitor.heartbeat`
        heartbeat: Heartbeat;
        /// `gpu_lock_monitor.cleanup`
        cleanup: Cleanup;
        /// `gpu_lock_monitor.health_thresholds`
        health_thresholds: HealthThresholds;
    }

    /// What happens to a lease that is held for long.
    struct TimeoutLevels {
        /// Age of a lease at which its holding is reported.
        warning: Duration, SPAN = seconds(1800);
        /// Age of a lease at which its holder is asked to stop.
        soft_timeout: Duration, SPAN = seconds(3600);
        /// Age of a lease at which its GPU is taken back.
        hard_timeout: Duration, SPAN = seconds(7200);
    }

    /// The signs of life of a holder.
    struct Heartbeat {
        /// Pause between two heartbeats.
        interval: Duration, SPAN = seconds(10);
        /// A lease without a heartbeat for this long is over.
        timeout: Duration, SPAN = seconds(30);
    }

    /// What happens when a GPU could not be taken back.
    struct Cleanup {
        /// How often that is tried again.
        max_retry: u32, COUNT_OR_ZERO = 3;
        /// Pause before each new try.
        retry_delay: Duration, SPAN_OR_ZERO = seconds(60);
    }

    /// From which figures on the lock counts as unhealthy.
    struct HealthThresholds {
        /// Smallest healthy share of requests that got their GPU.
        min_success_rate: f64, RATE = 0.8;
        /// Largest healthy share of requests that gave up waiting.
        max_timeout_rate: f64, RATE = 0.2;
        /// Largest healthy age of a lease.
        max_lock_age: Duration, SPAN = seconds(3600);
        /// How many of the latest requests the recent rates are taken from.
        recent_window_size: u32, COUNT = 20;
    }

    /// The HTTP server of `gpulock serve`.
    struct Server {
        /// Address and port that the server listens on.
        listen: SocketAddr, LISTEN = SocketAddr::from((Ipv4Addr::LOCALHOST, 8788));
        /// Bearer tokens as `role:secret` or `role:@file`; the roles are `read` and
        /// `operate`.
        tokens: Vec<ServerToken>, TOKENS = Vec::new();
        /// Host names, besides its own address, under which the server may be asked.
        allowed_hosts: Vec<String>, HOSTS = Vec::new();
        /// Whether `/metrics` needs a token too, where there are tokens.
        protect_metrics: bool, SWITCH = false;
        /// Folder that gets a file for every GPU that is held, with the task in it, for
        /// dcgm-exporter (`DCGM_HPC_JOB_MAPPING_DIR`).
        job_mapping_dir: Option<PathBuf>, OPTIONAL_PATH = None;
    }

    /// What helps while an older system is replaced worker by worker.
    struct Compat {
        /// Whether the lock keys of older workers in the store's Redis database
        /// (`gpu_lock:0`) are respected, and set while a GPU is held.
        legacy_keys: bool, SWITCH = false;
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
