//! The HTTP API: its routes, and what they have in common.

mod alerts;
mod events;
mod heartbeats;
mod leases;
mod metrics;
mod monitor;
mod monitoring;
mod pools;
mod release;
mod silences;
mod store;
mod undelivered;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use gpulock::Error;
use gpulock::core::{PoolName, Refusal};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Daemon;
use super::problem::{Kind, Problem};

pub(crate) use waits::Waits;

/// What every route works with.
pub(crate) type Api = Arc<Daemon>;

/// All routes that need the daemon.
pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(monitoring::health))
        .routes(routes!(monitoring::status))
        .routes(routes!(monitoring::statistics))
        .routes(routes!(heartbeats::all))
        .routes(routes!(heartbeats::task, heartbeats::update, heartbeats::forget))
        .routes(routes!(heartbeats::start))
        .routes(routes!(heartbeats::cleanup))
        .routes(routes!(monitor::status))
        .routes(routes!(monitor::health))
        .routes(routes!(monitor::start))
        .routes(routes!(monitor::stop))
        .routes(routes!(monitor::timeout_status))
        .routes(routes!(monitor::timeout_config))
        .routes(routes!(monitor::timeout_check))
        .routes(routes!(release::release_lock))
        .routes(routes!(release::lock_release))
        .routes(routes!(pools::pools))
        .routes(routes!(pools::queue))
        .routes(routes!(pools::history))
        .routes(routes!(leases::leases, leases::acquire))
        .routes(routes!(leases::lease, leases::release))
        .routes(routes!(leases::renew))
        .routes(routes!(events::events))
        .routes(routes!(alerts::alerts))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(silences::silences, silences::silence))
        .routes(routes!(silences::end))
        .routes(routes!(undelivered::undelivered))
        .routes(routes!(undelivered::resend))
        .routes(routes!(metrics::metrics))
        .merge(store::routes())
}

/// The pool that a caller means.
fn named_pool(api: &Api, name: Option<&str>) -> Result<PoolName, Problem> {
    match name {
        None => Ok(api.pool.clone()),
        Some(name) => name
            .parse()
            .map_err(|error| invalid(format!("{error}")).hint("GET /api/v1/pools lists the pools")),
    }
}

/// Why something was not done.
fn failed(error: impl Into<Error>) -> Problem {
    let error = error.into();
    let detail = error.to_string();
    let hint = match &error {
        Error::NotAcquired(_) => {
            let hint = "GET /api/v1/queue shows who waits; wait longer with `max_wait_time`";
            Some(hint.to_owned())
        }
        error => error.hint(),
    };
    let problem = match error {
        Error::Refused(Refusal::Closed { left }) => {
            Problem::new(Kind::Unavailable, detail).retry_after(left.as_secs() + 1)
        }
        Error::NotAcquired(not) => conflict(detail)
            .with("waited_seconds", not.waited.unwrap_or_default().as_secs_f64())
            .with("ahead", not.ahead),
        Error::Refused(_) | Error::Name(_) => invalid(detail),
        Error::Duplicate(_) | Error::Lost(_) => conflict(detail),
        Error::Store(_) | Error::CalledOff | Error::Driver(_) => {
            Problem::new(Kind::Unavailable, detail)
        }
        Error::NoLockKeys | Error::Start(_) => Problem::new(Kind::Internal, detail),
    };
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::Invalid, detail)
}

fn conflict(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::Conflict, detail)
}

fn too_many() -> Problem {
    Problem::new(Kind::TooManyRequests, "as many wait here as may").retry_after(1)
}

fn ending() -> Problem {
    Problem::new(Kind::Unavailable, "this daemon is about to end").retry_after(1)
}

/// A span that a caller gives in seconds.
fn span(field: &str, seconds: f64) -> Result<Duration, Problem> {
    // As much as the rules can add to a moment.
    let longest = Duration::from_secs(10 * 365 * 86_400);
    let span = Duration::try_from_secs_f64(seconds).ok().filter(|span| *span <= longest);
    span.ok_or_else(|| invalid(format!("`{field}` is not a number of seconds from 0 to ten years")))
}

/// Percent that a caller gives, as hundredths of them.
fn percent(percentage: f64) -> Result<u16, Problem> {
    match (0.0..=100.0).contains(&percentage) {
        true => Ok((percentage * 100.0).round() as u16),
        false => Err(invalid("`progress` is not a number from 0 to 100")),
    }
}

/// The present moment on this host's clock, in seconds since the Unix epoch: for answers that
/// come without a look at the store.
pub(super) fn timestamp() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
