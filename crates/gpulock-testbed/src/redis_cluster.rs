//! A Redis Cluster of three masters.

use std::process::Command;

use crate::process::run;
use crate::{RedisServer, wait_until};

const MASTERS: usize = 3;

/// Three masters that share the slots, with or without a replica each.
///
/// A node that does not answer for a second counts as dead; if it has a replica, that one takes
/// over.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three masters, and returns when each of them says that the cluster is complete.
    ///
    /// # Panics
    ///
    /// If it does not come about.
    #[must_use]
    pub fn start() -> Self {
        Self::of(0)
    }

    /// As [`RedisCluster::start`], with a replica for each master.
    ///
    /// # Panics
    ///
    /// As [`RedisCluster::start`].
    #[must_use]
    pub fn with_replicas() -> Self {
        Self::of(1)
    }

    fn of(replicas: usize) -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let delay = ["--repl-diskless-sync-delay", "0"];
        let nodes: Vec<_> = (0..MASTERS * (1 + replicas))
            .map(|_| RedisServer::with(&[arguments.as_slice(), &delay].concat()))
            .collect();
        let cluster = Self { nodes };
        run(Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(cluster.addresses())
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]));
        wait_until("all nodes find the cluster complete", || {
            cluster.nodes.iter().all(|node| node.knows(cluster.nodes.len()))
        });
        cluster
    }

    /// `redis+cluster://127.0.0.1:PORT,127.0.0.1:PORT,127.0.0.1:PORT`, with the first three nodes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://{}", self.addresses()[..MASTERS].join(","))
    }

    /// All nodes: first the three that were masters at the start.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The master that has the slot of this key, as the nodes that live see it.
    ///
    /// # Panics
    ///
    /// If no node lives.
    #[must_use]
    pub fn master_of(&self, key: &str) -> &RedisServer {
        let (slot, slots) = self
            .nodes
            .iter()
            .find_map(|node| Some((node.ask(&["CLUSTER", "KEYSLOT", key])?, node.slots()?)))
            .expect("a node of the cluster lives");
        let slot = slot.parse().expect("a slot is a number");
        let owner = slots.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        let port = owner.expect("every slot has an owner").2;
        self.nodes.iter().find(|node| node.port() == port).expect("it is a node of this test")
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect()
    }
}

impl RedisServer {
    /// Whether it finds the cluster complete, all nodes linked, and its master's data here.
    fn knows(&self, nodes: usize) -> bool {
        let complete = self.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        let known = self.cli(&["CLUSTER", "NODES"]);
        let linked = known.lines().filter(|line| line.contains(" connected")).count();
        let replicas = known.lines().filter(|line| line.contains("slave")).count();
        let in_step = !self.cli(&["INFO", "replication"]).contains("master_link_status:down");
        complete && in_step && linked == nodes && replicas == nodes - MASTERS
    }

    /// First slot, last slot, port of the master.
    fn slots(&self) -> Option<Vec<(u16, u16, u16)>> {
        let nodes = self.ask(&["CLUSTER", "NODES"])?;
        let mut slots = Vec::new();
        // id 127.0.0.1:PORT@BUS flags master ping pong epoch link FIRST-LAST…
        for line in nodes.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            let port = fields.get(1)?.split_once(':')?.1.split_once('@')?.0.parse().ok()?;
            for range in fields[8..].iter().filter(|range| !range.starts_with('[')) {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                slots.push((first.parse().ok()?, last.parse().ok()?, port));
            }
        }
        Some(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_master() {
        let cluster = RedisCluster::start();
        let key = "{pool}:record";
        let master = cluster.master_of(key);
        assert_eq!(master.cli(&["SET", key, "1"]), "OK");
        let other = cluster.nodes().iter().find(|node| node.port() != master.port());
        assert_eq!(other.map(|node| node.ask(&["GET", key])), Some(None), "it is moved");
        assert_eq!(cluster.url().matches("127.0.0.1:").count(), 3);
    }

    #[test]
    fn a_replica_takes_over_the_slots_of_a_dead_master() {
        let cluster = RedisCluster::with_replicas();
        let master = cluster.master_of("key");
        master.kill();
        wait_until("another node has the slots", || {
            let new = cluster.master_of("key");
            new.port() != master.port() && new.ask(&["SET", "key", "1"]).as_deref() == Some("OK")
        });
    }
}
