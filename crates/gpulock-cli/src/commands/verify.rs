//! `gpulock verify`: is this still the current lease?

use gpulock::core::{LeaseId, LeaseRef, Token};

use crate::args::Verify;
use crate::exit::{Code, Failure};
use crate::session::Session;

/// Exit code 0 if it is, 76 if it is not.
pub(crate) async fn verify(what: &Verify, session: &Session) -> Result<Code, Failure> {
    let lease = match (what.lease_id, what.token) {
        (Some(lease_id), Some(token)) => LeaseRef { lease_id, token: Token::from_value(token) },
        _ => of_environment().ok_or_else(|| {
            Failure::new(
                Code::Usage,
                "no lease is named: GPULOCK_LEASE_ID and GPULOCK_TOKEN are not set",
            )
            .hint("call it inside `gpulock run`, or `gpulock verify LEASE_ID TOKEN`")
        })?,
    };
    let client = session.client(session.connect()?)?;
    let status = client.status().await?;
    let current = status.leases.iter().any(|held| {
        held.lease_id == lease.lease_id
            && held.token == lease.token.value()
            && held.deadline_in_seconds.is_some_and(|left| left > 0.0)
    });
    match current {
        true => Ok(Code::Ok),
        false => Err(Failure::new(
            Code::Lost,
            format!("lease {} is not the current one", lease.lease_id),
        )),
    }
}

/// The lease inside which this process runs.
pub(crate) fn of_environment() -> Option<LeaseRef> {
    let lease_id: LeaseId = std::env::var("GPULOCK_LEASE_ID").ok()?.parse().ok()?;
    let token = std::env::var("GPULOCK_TOKEN").ok()?.parse().ok()?;
    Some(LeaseRef { lease_id, token: Token::from_value(token) })
}
