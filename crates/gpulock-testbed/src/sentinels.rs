//! A master with replicas, watched by three sentinels.

use crate::redis_server::Setting;
use crate::{RedisServer, wait_until};

const SENTINELS: usize = 3;

/// A master, its replicas, and three sentinels of which two must agree.
///
/// A master that does not answer for 500 ms counts as dead. Servers keep their index when they
/// change their role.
pub struct Sentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// The name under which the sentinels know the master.
    pub const SERVICE: &str = "locks";

    /// Starts everything, and returns when the replicas are in step and the sentinels know them
    /// and each other. The first master is server 0.
    ///
    /// # Panics
    ///
    /// If a server does not start.
    #[must_use]
    pub fn start(replicas: usize) -> Self {
        let arguments = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let servers: Vec<_> = (0..=replicas).map(|_| RedisServer::with(&arguments)).collect();
        let master = servers[0].port().to_string();
        for replica in &servers[1..] {
            replica.cli(&["REPLICAOF", "127.0.0.1", &master]);
        }
        for replica in &servers[1..] {
            wait_until("a replica has the master's data", || {
                replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
            });
        }
        let sentinels = (0..SENTINELS).map(|_| sentinel(&master)).collect();
        let started = Self { servers, sentinels };
        wait_until("the sentinels know everybody", || {
            started.sentinels.iter().all(|sentinel| {
                let known = sentinel.cli(&["SENTINEL", "MASTER", Self::SERVICE]);
                field(&known, "flags") == Some("master")
                    && field(&known, "num-slaves") == Some(&replicas.to_string())
                    && field(&known, "num-other-sentinels") == Some("2")
            })
        });
        started
    }

    /// `redis+sentinel://127.0.0.1:PORT,127.0.0.1:PORT,127.0.0.1:PORT/SERVICE`, for
    /// [`Sentinels::SERVICE`] or for a name that they do not know.
    #[must_use]
    pub fn url(&self, service: &str) -> String {
        let addresses: Vec<_> =
            self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        format!("redis+sentinel://{}/{service}", addresses.join(","))
    }

    /// The data servers, in an order that never changes.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The server that the first sentinel names as the master.
    ///
    /// # Panics
    ///
    /// If that sentinel was killed.
    #[must_use]
    pub fn master(&self) -> &RedisServer {
        &self.servers[self.named_by(&self.sentinels[0])]
    }

    /// All servers but [`Sentinels::master`], also those that are dead.
    ///
    /// # Panics
    ///
    /// As [`Sentinels::master`].
    #[must_use]
    pub fn replicas(&self) -> Vec<&RedisServer> {
        let master = self.master().port();
        self.servers.iter().filter(|server| server.port() != master).collect()
    }

    /// Kills the master, waits for another, and returns that one's index.
    ///
    /// # Panics
    ///
    /// If there is no other in a minute.
    pub fn fail_over(&self) -> usize {
        let old = self.named_by(&self.sentinels[0]);
        self.servers[old].kill();
        self.wait_for_another_master(old)
    }

    /// Waits until all sentinels name the same master, it is not server `old`, and it takes
    /// writes. Returns its index.
    ///
    /// # Panics
    ///
    /// If that does not come about in a minute.
    pub fn wait_for_another_master(&self, old: usize) -> usize {
        let mut master = old;
        wait_until("the sentinels have made another server the master", || {
            master = self.named_by(&self.sentinels[0]);
            master != old
                && self.sentinels.iter().all(|sentinel| self.named_by(sentinel) == master)
                && has_role(&self.servers[master], "master")
        });
        master
    }

    fn named_by(&self, sentinel: &RedisServer) -> usize {
        let address = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::SERVICE]);
        let port = address.lines().nth(1).and_then(|port| port.parse().ok());
        self.servers
            .iter()
            .position(|server| Some(server.port()) == port)
            .expect("sentinels name a server of this test")
    }
}

fn has_role(server: &RedisServer, role: &str) -> bool {
    server.ask(&["ROLE"]).is_some_and(|reply| reply.starts_with(role))
}

fn sentinel(master: &str) -> RedisServer {
    let service = Sentinels::SERVICE;
    let config = format!(
        "sentinel monitor {service} 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds {service} 500\n\
         sentinel failover-timeout {service} 2000\n"
    );
    let sentinel = RedisServer::of(Setting::new(&["--sentinel"]).configured(&config));
    // By default they ask the servers every 10 s and tell each other every 2 s. The period of pings
    // stays: it also bounds how old the news of a replica may be that becomes the master.
    for period in ["info-period", "ask-period", "publish-period"] {
        sentinel.cli(&["SENTINEL", "DEBUG", period, "100"]);
    }
    sentinel
}

/// The value of a field, in a reply of names and values in turn.
fn field<'reply>(reply: &'reply str, name: &str) -> Option<&'reply str> {
    reply.lines().skip_while(|line| *line != name).nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_master_is_replaced_and_comes_back_as_a_replica() {
        let sentinels = Sentinels::start(2);
        assert_eq!(sentinels.master().port(), sentinels.servers()[0].port());
        sentinels.master().cli(&["SET", "key", "value"]);
        // A WAIT of its own connection would wait for no write at all.
        for replica in sentinels.replicas() {
            wait_until("the replica has it", || replica.cli(&["GET", "key"]) == "value");
        }
        let new = sentinels.fail_over();
        assert_ne!(new, 0);
        assert_eq!(sentinels.servers()[new].cli(&["GET", "key"]), "value");
        assert_eq!(sentinels.replicas().len(), 2);
        sentinels.servers()[0].start_again();
        wait_until("the old master follows the new one", || {
            has_role(&sentinels.servers()[0], "slave")
        });
    }

    #[test]
    fn a_replica_that_lagged_takes_over_without_the_last_write() {
        let sentinels = Sentinels::start(1);
        let (master, replica) = (&sentinels.servers()[0], &sentinels.servers()[1]);
        master.cli(&["SET", "before", "1"]);
        wait_until("the replica has it", || replica.cli(&["GET", "before"]) == "1");
        replica.pause();
        master.cli(&["CLIENT", "KILL", "TYPE", "replica"]);
        assert_eq!(master.cli(&["SET", "after", "1"]), "OK");
        master.kill();
        replica.resume();
        assert_eq!(sentinels.wait_for_another_master(0), 1);
        assert_eq!(replica.cli(&["MGET", "before", "after"]), "1");
    }
}
