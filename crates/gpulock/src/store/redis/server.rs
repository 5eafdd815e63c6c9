//! Which server answers, and what it may have forgotten.

use std::time::Duration;

use gpulock_core::Time;
use redis::RedisError;

use super::address::{Address, AfterRestart};
use super::dial::Connection;
use super::info::Info;
use crate::clock::BootTime;
use crate::store::{Incarnation, View};

/// What a server says about itself when a connection to it is made.
#[derive(Debug)]
pub(super) struct Server {
    /// New at every start; `None` where many servers answer.
    run_id: Option<String>,
    /// How long it had run by then.
    uptime: Duration,
    /// It has followed another master before, whose latest writes it may never have got.
    may_lag: bool,
    /// Nothing that was answered is lost, or the user says that this is none of our affairs.
    forgets_nothing: bool,
    /// Whether requests wait for what it may have forgotten.
    waits: bool,
    connected_at: BootTime,
}

impl Server {
    /// Asks the server at the other end. A cluster has no single other end: there, a restart
    /// is not noticed.
    pub(super) async fn ask(
        connection: &mut Connection,
        address: &Address,
    ) -> Result<Self, RedisError> {
        let told = match connection {
            Connection::One(_) => redis::cmd("INFO").query_async(connection).await?,
            Connection::Cluster(_) => String::new(),
        };
        Ok(Self::from_info(&Info::new(told), address))
    }

    fn from_info(info: &Info, address: &Address) -> Self {
        // What was confirmed by replicas is not lost when one of them takes over; only when
        // it is restarted later, as with any other server.
        let may_lag = info.was_promoted() && address.min_replicas == 0;
        let forgets_nothing = info.is_on("aof_enabled") && !may_lag;
        Self {
            run_id: info.text("run_id").map(str::to_owned),
            uptime: Duration::from_secs(info.number("uptime_in_seconds").unwrap_or(0)),
            may_lag,
            forgets_nothing: forgets_nothing || address.after_restart == AfterRestart::Trust,
            waits: address.after_restart != AfterRestart::Refuse,
            connected_at: BootTime::now(),
        }
    }

    /// Whether this is the one that a picture came from.
    pub(super) fn is(&self, id: &str) -> bool {
        self.run_id.as_deref() == Some(id)
    }

    /// What the rules need to know of it, if it may have forgotten anything.
    pub(super) fn incarnation(&self, view: &View) -> Option<Incarnation> {
        let id = self.run_id.clone().filter(|_| !self.forgets_nothing)?;
        // Nobody knows when it was promoted, but it was before we called it.
        let ago = match self.may_lag {
            true => self.connected_at.elapsed(),
            false => self.uptime + self.connected_at.elapsed(),
        };
        let since = Time::from_micros(view.now.as_micros().saturating_sub(micros(ago)));
        Some(Incarnation { id, since, waits: self.waits })
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Versions;

    fn view() -> View {
        View {
            pool: Default::default(),
            versions: Versions::default(),
            now: Time::from_micros(1_000_000_000),
            ahead: None,
            incarnation: None,
        }
    }

    /// How long before now the server may have forgotten what it was told, in seconds.
    fn forgets_after(info: &str, options: &str) -> Option<u64> {
        let address = Address::parse(&format!("redis://h{options}")).unwrap();
        let told = format!("run_id:one\r\nuptime_in_seconds:100\r\n{info}");
        let server = Server::from_info(&Info::new(told), &address);
        let since = server.incarnation(&view())?.since;
        Some(view().now.since(since).as_secs())
    }

    #[test]
    fn what_a_server_may_have_forgotten() {
        let (log, none) = ("aof_enabled:1\r\n", "aof_enabled:0\r\n");
        let promoted = |info: &str| format!("{info}master_replid2:8f1c\r\n");
        for (info, options, forgets) in [
            (log.to_owned(), "", None),
            (none.to_owned(), "", Some(100)),
            (none.to_owned(), "?after_restart=trust", None),
            // It took over, or was restarted from a snapshot: nobody can tell.
            (promoted(log), "", Some(0)),
            (promoted(none), "", Some(0)),
            (promoted(log), "?min_replicas=1", None),
            (promoted(none), "?min_replicas=1", Some(100)),
        ] {
            assert_eq!(forgets_after(&info, options), forgets, "{info:?} {options}");
        }
    }
}
