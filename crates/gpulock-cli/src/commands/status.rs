//! `gpulock status`: who holds, who waits.

use std::time::Duration;

use gpulock::core::{InventorySource, PoolName};
use gpulock::{
    GpuState, GpuStatus, LeaseStateName, LeaseStatus, PoolStatus, WaiterStatus, brief, closed,
};
use serde::Serialize;

use crate::args::Status;
use crate::daemon::monitor_pool;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::{Place, Session};

/// How often `--watch` looks again.
const WATCH_EVERY: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Report {
    pools: Vec<PoolStatus>,
}

/// Prints every pool, or the one that was named.
pub(crate) async fn status(what: &Status, session: &Session) -> Result<Code, Failure> {
    let store = session.connect()?;
    loop {
        let mut names = store.pools().await?;
        // It has no GPUs, only the place of the daemon that acts.
        names.retain(|pool| *pool != monitor_pool());
        if session.names_pool() || names.is_empty() {
            names = vec![session.pool.clone()];
        }
        let mut pools = Vec::new();
        for name in names {
            pools.push(look(session, &store, name).await?);
        }
        if what.watch {
            output::next_picture();
        }
        match what.json {
            true => output::json(&Report { pools }),
            false => print(&pools, session),
        }
        if !what.watch || !output::has_reader() {
            return Ok(Code::Ok);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn look(
    session: &Session,
    store: &std::sync::Arc<dyn gpulock::store::Store>,
    name: PoolName,
) -> Result<PoolStatus, Failure> {
    Ok(session.client_of(store.clone(), name)?.status().await?)
}

fn print(pools: &[PoolStatus], session: &Session) {
    for pool in pools {
        if pools.len() > 1 || pool.name != "default" {
            output::data(&format!("pool {}", pool.name));
        }
        print_gpus(pool);
        if !pool.queue.is_empty() {
            output::data("");
            let rows: Vec<_> = pool.queue.iter().map(waiter_row).collect();
            output::data(&output::table(
                &["PLACE", "TASK", "WANTS", "PRIORITY", "WAITS", "PID", "USER", "HOST"],
                &rows,
            ));
        }
        if let Some(left) = pool.closed_for_seconds {
            let left = Duration::try_from_secs_f64(left).unwrap_or_default();
            output::notice(&closed(left));
        }
        if pool.gpus_from == Some(InventorySource::Assumed) {
            output::notice(
                "no NVIDIA driver was found, so one card 0 is assumed; `gpulock doctor` looks again",
            );
        }
    }
    if let Place::Default(place) = &session.place
        && let Some((message, _)) = place.notice().as_deref().and_then(|n| n.split_once("\nhint: "))
    {
        output::notice(&format!("{message}; `gpulock doctor` says how to share one"));
    }
}

fn print_gpus(pool: &PoolStatus) {
    if pool.gpus.is_empty() {
        return output::notice("nobody has asked for a GPU yet");
    }
    let rows: Vec<_> = pool
        .gpus
        .iter()
        .map(|gpu| {
            let keeper = pool.leases.iter().find(|lease| Some(lease.lease_id) == gpu.lease_id);
            gpu_row(gpu, keeper)
        })
        .collect();
    output::data(&output::table(
        &["GPU", "STATE", "TASK", "HELD", "HEARTBEAT", "ENDS", "PID", "USER", "HOST"],
        &rows,
    ));
}

fn gpu_row(gpu: &GpuStatus, keeper: Option<&LeaseStatus>) -> Vec<String> {
    let state = match (gpu.state, keeper.map(|lease| lease.state)) {
        (GpuState::Free, _) => "free",
        (GpuState::Held, Some(LeaseStateName::Stopping)) => "stopping",
        (GpuState::Held, _) => "held",
        (GpuState::Draining, _) => "draining",
    };
    let mut row = vec![gpu.id.to_string(), state.to_owned()];
    if let Some(lease) = keeper {
        let ends = lease.deadline_in_seconds.map(|left| format!("in {}", span(left)));
        row.extend([
            lease.task.clone(),
            span(lease.age_seconds),
            format!("{} ago", span(lease.last_heartbeat_seconds_ago)),
            ends.unwrap_or_else(|| "when its processes do".to_owned()),
            pid(lease.pid),
            lease.user.clone(),
            lease.host.clone(),
        ]);
    }
    row
}

fn waiter_row(waiter: &WaiterStatus) -> Vec<String> {
    vec![
        waiter.position.to_string(),
        waiter.task.clone(),
        waiter.wants.gpus.to_string(),
        format!("{:?}", waiter.priority).to_lowercase(),
        span(waiter.waiting_seconds),
        pid(waiter.pid),
        waiter.user.clone(),
        waiter.host.clone(),
    ]
}

fn span(seconds: f64) -> String {
    brief(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn pid(pid: Option<u32>) -> String {
    pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}
