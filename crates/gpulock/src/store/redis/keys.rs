//! Names of keys and channels. All keys of a pool are in one hash slot: only what stands in
//! braces counts for it. See <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.

use gpulock_core::{Channel, PoolName};

use crate::store::DocumentName;

/// What stands in front of every key and channel.
#[derive(Debug)]
pub(super) struct Keys {
    /// With the prefix of the URL.
    start: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { start: format!("{prefix}gpulock:") }
    }

    /// What `read.lua` looks at: head, queue and waiters.
    pub(super) fn record(&self, pool: &PoolName) -> [String; 3] {
        ["head", "queue", "waiters"].map(|part| self.key(pool, part))
    }

    /// What `swap.lua` writes: the same and the journal.
    pub(super) fn record_and_journal(&self, pool: &PoolName) -> [String; 4] {
        let [head, queue, waiters] = self.record(pool);
        [head, queue, waiters, self.journal(pool)]
    }

    /// What `beat.lua` and `forget.lua` look at: the record, what is remembered of tasks, and
    /// the order of their last signs of life.
    pub(super) fn record_and_tasks(&self, pool: &PoolName) -> [String; 5] {
        let [head, queue, waiters] = self.record(pool);
        [head, queue, waiters, self.tasks(pool), self.key(pool, "beats")]
    }

    /// A hash of what is remembered of tasks.
    pub(super) fn tasks(&self, pool: &PoolName) -> String {
        self.key(pool, "tasks")
    }

    /// A hash of all waiters.
    pub(super) fn waiters(&self, pool: &PoolName) -> String {
        self.key(pool, "waiters")
    }

    /// A stream of events.
    pub(super) fn journal(&self, pool: &PoolName) -> String {
        self.key(pool, "journal")
    }

    /// A hash: a document, in a slot of its own. No pool has such a name.
    pub(super) fn document(&self, name: &DocumentName) -> String {
        format!("{}{{document:{name}}}", self.start)
    }

    /// A set of the names of all pools.
    pub(super) fn pools(&self) -> String {
        format!("{}pools", self.start)
    }

    /// A channel that nobody else listens to.
    pub(super) fn channel(&self) -> Channel {
        Channel(format!("{}wake:{}-{:016x}", self.start, std::process::id(), fastrand::u64(..)))
    }

    /// Whether this could be such a channel.
    pub(super) fn has_channel(&self, channel: &Channel) -> bool {
        channel.0.strip_prefix(&self.start).is_some_and(|name| name.starts_with("wake:"))
    }

    /// What every key and channel matches, in an access list.
    pub(super) fn pattern(&self) -> String {
        format!("{}*", self.start)
    }

    fn key(&self, pool: &PoolName, part: &str) -> String {
        format!("{}{{{pool}}}:{part}", self.start)
    }
}
