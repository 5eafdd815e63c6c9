//! `gpulock doctor`: looks for trouble, and says how to end it.

use gpulock::config::Severity;
use gpulock::core::InventorySource;
use gpulock::store::{Remark, Verdict};
use gpulock::{GpuState, process};
use serde::Serialize;

use crate::args::Doctor;
use crate::exit::{Code, Failure};
use crate::output;
use crate::session::{Place, Session};

/// A [`Remark`] as `--json` prints it.
#[derive(Debug, Serialize)]
struct Check<'a> {
    name: &'a str,
    state: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Looks at everything, and ends with the code of the worst that it found.
pub(crate) async fn doctor(what: &Doctor, session: &Session) -> Result<Code, Failure> {
    let mut checks = vec![configuration(session), processes()];
    let mut code = Code::Ok;
    match session.connect() {
        Ok(store) => {
            checks.push(sharing(session));
            let remarks = store.examine().await;
            if remarks.iter().any(|remark| remark.verdict == Verdict::Bad) {
                code = Code::Store;
            }
            let answers = remarks.iter().all(|remark| remark.subject != "server");
            checks.extend(remarks);
            if answers {
                let client = session.client(store)?;
                checks.push(gpus(&client).await);
                checks.push(draining(&client).await);
            }
        }
        Err(failure) => {
            code = failure.code;
            checks.push(bad("store", &failure));
        }
    }
    if code == Code::Ok && checks.iter().any(|check| check.verdict == Verdict::Bad) {
        code = Code::Internal;
    }
    match what.json {
        true => output::json(&checks.iter().map(Check::from).collect::<Vec<_>>()),
        false => checks.iter().for_each(print),
    }
    Ok(code)
}

fn print(check: &Remark) {
    output::data(&format!("{:7}  {}: {}", named(check.verdict), check.subject, check.message));
    if let Some(hint) = &check.hint {
        output::data(&format!("         hint: {hint}"));
    }
}

fn named(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Warning => "warning",
        Verdict::Bad => "bad",
    }
}

impl<'a> From<&'a Remark> for Check<'a> {
    fn from(remark: &'a Remark) -> Self {
        let Remark { subject, verdict, message, hint } = remark;
        Self { name: subject, state: named(*verdict), message, hint: hint.as_deref() }
    }
}

fn bad(subject: &'static str, failure: &Failure) -> Remark {
    let hint = failure.hint.clone();
    Remark { hint, ..Remark::bad(subject, failure.message.clone()) }
}

fn configuration(session: &Session) -> Remark {
    let source = match &session.loaded.file {
        Some(path) => path.display().to_string(),
        None => "defaults and environment".to_owned(),
    };
    let contradictions = session.config().contradictions();
    let worst = contradictions.iter().max_by_key(|finding| finding.severity);
    match worst {
        None => Remark::good("configuration", source),
        Some(finding) => {
            let message = format!("{}: {}", finding.place, finding.message);
            let remark = match finding.severity {
                Severity::Error => Remark::bad("configuration", message),
                _ => Remark::warning("configuration", message),
            };
            remark.hint(format!("{}; `gpulock config check` lists them all", finding.hint))
        }
    }
}

/// Whether deaths are seen by the kernel's word or only by missing heartbeats.
fn processes() -> Remark {
    match process::this_sight() {
        Ok(_) => Remark::good("processes", "a dead holder is noticed at once"),
        Err(error) => Remark::warning(
            "processes",
            format!(
                "/proc cannot be used ({error}), so only missing heartbeats tell that a holder died"
            ),
        )
        .hint("in a container, mount its own /proc; on a host, mount /proc without hidepid"),
    }
}

fn sharing(session: &Session) -> Remark {
    match &session.place {
        Place::Chosen(_) => Remark::good("store", session.url_shown()),
        Place::Default(place) => {
            match place.notice().as_deref().and_then(|n| n.split_once("\nhint: ")) {
                None => Remark::good(
                    "store",
                    format!("{}, shared by all users of this host", place.url()),
                ),
                Some((message, hint)) => Remark::warning("store", message).hint(hint),
            }
        }
    }
}

/// Asks the driver, and writes down what it says: the one time that it is asked.
async fn gpus(client: &gpulock::Client) -> Remark {
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
        InventorySource::Driver => Remark::good("gpus", format!("the driver lists {list}")),
        InventorySource::Configuration => {
            Remark::good("gpus", format!("the configuration lists {list}"))
        }
        InventorySource::Assumed => {
            Remark::warning("gpus", "no NVIDIA driver was found, so one card 0 is assumed")
                .hint("install the driver, or list the GPUs in config.yml (`gpus: [0, 1]`)")
        }
    }
}

async fn draining(client: &gpulock::Client) -> Remark {
    let status = match client.status().await {
        Ok(status) => status,
        Err(error) => return bad("leases", &error.into()),
    };
    let stuck = status.gpus.iter().find(|gpu| gpu.state == GpuState::Draining);
    let lease =
        stuck.and_then(|gpu| status.leases.iter().find(|l| Some(l.lease_id) == gpu.lease_id));
    match (stuck, lease) {
        (Some(gpu), Some(lease)) => Remark::warning(
            "leases",
            format!(
                "GPU {} waits for the processes of {} (pid {}), whose lease is over",
                gpu.id,
                lease.task,
                lease.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
            ),
        )
        .hint(format!(
            "end them; if they cannot end, `gpulock release {} --force --ignore-processes --reason TEXT`",
            gpu.lock_key
        )),
        _ => {
            Remark::good("leases", format!("{} held, {} waiting", status.leases.len(), status.queue.len()))
        }
    }
}
