//! Who asks for a GPU: the identity of a process that no other process can ever have.

use serde::{Deserialize, Serialize};

/// Where processes can be seen from: one boot of one kernel, one PID namespace.
///
/// Two processes with the same sight can trust each other's process ids. Two containers
/// on one machine share the boot id but not the namespace, so a pid that one of them
/// cannot find proves nothing about the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sight {
    /// `/proc/sys/kernel/random/boot_id`: new at every boot.
    pub boot_id: String,
    /// Inode of `/proc/self/ns/pid`.
    pub pid_namespace: u64,
}

/// One process, told apart from every later process that is given the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Process id inside its PID namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`, see proc(5).
    pub start_time: u64,
}

/// The process group in which `gpulock run` starts its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessGroup {
    /// The first process of the group; its pid is the group's id.
    pub leader: Process,
    /// The session that the group belongs to: field 6 of `/proc/PID/stat`.
    pub session: u32,
}

/// Who asks, and what others can know about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Host name, for people.
    pub host: String,
    /// Name and version of the client program, for people.
    pub client: String,
    /// Login name of the user, for people.
    pub user: String,
    /// The asking process. `None` when nobody can look at it (a caller of the HTTP API):
    /// then only heartbeats tell whether it lives.
    pub process: Option<OwnProcess>,
    /// Tells apart the runs of one task that a task queue has delivered more than once:
    /// they ask with the same lease id. `None`: whoever asks with the id is the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// It reaches the store over a network: that it names another boot of a host with our name
    /// does not say that our host was started anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_remote: bool,
}

impl Owner {
    /// Where this owner's processes can be seen from, if from anywhere.
    pub fn sight(&self) -> Option<&Sight> {
        self.process.as_ref().map(|own| &own.sight)
    }

    /// Whether what this owner asked for is answered to `run`, which names the same lease id.
    pub(crate) fn answers_to(&self, run: Option<u64>) -> bool {
        self.run.is_none() || self.run == run
    }

    /// The same owner while it is not there: nobody can look at it, and whoever comes with
    /// its lease id stands in its place.
    pub(crate) fn away(self) -> Self {
        Self { process: None, run: None, ..self }
    }
}

/// A process together with the place from which it can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnProcess {
    /// Who can look at the process.
    pub sight: Sight,
    /// The process.
    pub process: Process,
}
