//! The locks that are compared.

/// One column of the table. gpulock's Python package becomes one more, beside [`RedisPy`].
///
/// [`RedisPy`]: Peer::RedisPy
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// This library, on Redis.
    Gpulock,
    /// The crate `rslock`.
    Rslock,
    /// `redis.lock.Lock`, part of redis-py.
    RedisPy,
    /// The package `python-redis-lock`.
    PythonRedisLock,
    /// A plain polling lock as people write it themselves, in Python.
    Polling,
    /// etcd's own lock service, from Python.
    Etcd,
}

impl Peer {
    pub(crate) const ALL: [Self; 6] = [
        Self::Gpulock,
        Self::Rslock,
        Self::RedisPy,
        Self::PythonRedisLock,
        Self::Polling,
        Self::Etcd,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Gpulock => "gpulock",
            Self::Rslock => "rslock",
            Self::RedisPy => "redis.lock.Lock",
            Self::PythonRedisLock => "python-redis-lock",
            Self::Polling => "polling lock",
            Self::Etcd => "etcd lock",
        }
    }

    /// Its name among the arguments of a worker.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Gpulock => "gpulock",
            Self::Rslock => "rslock",
            Self::RedisPy => "redis-py",
            Self::PythonRedisLock => "python-redis-lock",
            Self::Polling => "polling",
            Self::Etcd => "etcd",
        }
    }

    pub(crate) fn is_in_rust(self) -> bool {
        matches!(self, Self::Gpulock | Self::Rslock)
    }

    pub(crate) fn is_on_redis(self) -> bool {
        self != Self::Etcd
    }
}
