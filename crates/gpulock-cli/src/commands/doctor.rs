//! `gpulock doctor`: looks for trouble, and says how to end it.

use gpulock::config::Severity;
use gpulock::core::InventorySource;
use gpulock::{GpuState, process};
use serde::Serialize;

use crate::args::Doctor;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::{Place, Session};

/// What was looked at, and what came of it.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    Warning,
    Bad,
}

/// Looks at everything, and ends with the code of the worst that it found.
pub(crate) async fn doctor(what: &Doctor, session: &Session) -> Result<Code, Failure> {
    let mut checks = vec![configuration(session), processes()];
    let mut code = Code::Ok;
    match session.connect() {
        Ok(store) => {
            checks.push(sharing(session));
            checks.push(match integrity(session) {
                Ok(check) => check,
                Err(failure) => {
                    code = failure.code;
                    bad("integrity", &failure)
                }
            });
            let client = session.client(store)?;
            checks.push(gpus(&client).await);
            checks.push(draining(&client).await);
        }
        Err(failure) => {
            code = failure.code;
            checks.push(bad("store", &failure));
        }
    }
    if code == Code::Ok && checks.iter().any(|check| check.state == State::Bad) {
        code = Code::Internal;
    }
    match what.json {
        true => output::json(&checks),
        false => checks.iter().for_each(print),
    }
    Ok(code)
}

fn print(check: &Check) {
    let mark = match check.state {
        State::Good => "good   ",
        State::Warning => "warning",
        State::Bad => "bad    ",
    };
    output::data(&format!("{mark}  {}: {}", check.name, check.message));
    if let Some(hint) = &check.hint {
        output::data(&format!("         hint: {hint}"));
    }
}

fn good(name: &'static str, message: impl Into<String>) -> Check {
    Check { name, state: State::Good, message: message.into(), hint: None }
}

fn warning(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { name, state: State::Warning, message: message.into(), hint: Some(hint.into()) }
}

fn bad(name: &'static str, failure: &Failure) -> Check {
    let (message, hint) = (failure.message.clone(), failure.hint.clone());
    Check { name, state: State::Bad, message, hint }
}

fn configuration(session: &Session) -> Check {
    let source = match &session.loaded.file {
        Some(path) => path.display().to_string(),
        None => "defaults and environment".to_owned(),
    };
    let contradictions = session.config().contradictions();
    let worst = contradictions.iter().max_by_key(|finding| finding.severity);
    match worst {
        None => good("configuration", source),
        Some(finding) => Check {
            name: "configuration",
            state: if finding.severity == Severity::Error { State::Bad } else { State::Warning },
            message: format!("{}: {}", finding.place, finding.message),
            hint: Some(format!("{}; `gpulock config check` lists them all", finding.hint)),
        },
    }
}

/// Whether deaths are seen by the kernel's word or only by missing heartbeats.
fn processes() -> Check {
    match process::this_sight() {
        Ok(_) => good("processes", "a dead holder is noticed at once"),
        Err(error) => warning(
            "processes",
            format!(
                "/proc cannot be used ({error}), so only missing heartbeats tell that a holder died"
            ),
            "in a container, mount its own /proc; on a host, mount /proc without hidepid",
        ),
    }
}

fn sharing(session: &Session) -> Check {
    match &session.place {
        Place::Chosen(_) => good("store", session.url_shown()),
        Place::Default(place) => {
            match place.notice().as_deref().and_then(|n| n.split_once("\nhint: ")) {
                None => good("store", format!("{}, shared by all users of this host", place.url())),
                Some((message, hint)) => warning("store", message, hint),
            }
        }
    }
}

fn integrity(session: &Session) -> Result<Check, Failure> {
    let url = session.url();
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Ok(good("integrity", "nothing to look at"));
    };
    let path = std::path::Path::new(path.strip_prefix("//").unwrap_or(path));
    gpulock::store::sqlite::SqliteStore::open(path)?.check_integrity()?;
    let size = std::fs::metadata(path).map(|meta| meta.len()).unwrap_or_default();
    Ok(good("integrity", format!("the file is whole, {} KiB", size.div_ceil(1024))))
}

/// Asks the driver, and writes down what it says: the one time that it is asked.
async fn gpus(client: &gpulock::Client) -> Check {
    let inventory = match client.refresh_gpus().await {
        Ok(inventory) => inventory,
        Err(error) => return bad("gpus", &error.into()),
    };
    let list: Vec<_> = inventory
        .gpus
        .iter()
        .map(|gpu| match (&gpu.model, &gpu.uuid) {
            (Some(model), Some(uuid)) => format!("{} = {model} {uuid}", gpu.index),
            (_, Some(uuid)) => format!("{} = {uuid}", gpu.index),
            _ => gpu.index.to_string(),
        })
        .collect();
    let list = list.join(", ");
    match inventory.source {
        InventorySource::Driver => good("gpus", format!("the driver lists {list}")),
        InventorySource::Configuration => good("gpus", format!("the configuration lists {list}")),
        InventorySource::Assumed => warning(
            "gpus",
            "no NVIDIA driver was found, so one card 0 is assumed",
            "install the driver, or list the GPUs in config.yml (`gpus: [0, 1]`)",
        ),
    }
}

async fn draining(client: &gpulock::Client) -> Check {
    let status = match client.status().await {
        Ok(status) => status,
        Err(error) => return bad("leases", &error.into()),
    };
    let stuck = status.gpus.iter().find(|gpu| gpu.state == GpuState::Draining);
    let lease =
        stuck.and_then(|gpu| status.leases.iter().find(|l| Some(l.lease_id) == gpu.lease_id));
    match (stuck, lease) {
        (Some(gpu), Some(lease)) => warning(
            "leases",
            format!(
                "GPU {} waits for the processes of {} (pid {}), whose lease is over",
                gpu.id,
                lease.task,
                lease.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
            ),
            format!(
                "end them; if they cannot end, `gpulock release {} --force --ignore-processes --reason TEXT`",
                gpu.lock_key
            ),
        ),
        _ => {
            good("leases", format!("{} held, {} waiting", status.leases.len(), status.queue.len()))
        }
    }
}
