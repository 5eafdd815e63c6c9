//! Pictures of pools for readers: taken when somebody asks, and shared by all who ask in the
//! same moment, so that many readers cost the store no more than one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gpulock::PoolStatus;
use gpulock::core::{Event, PoolName, Waiter};
use gpulock::store::{Store, StoreError, View};
use tokio::sync::OnceCell;

use super::metrics::{Histogram, ROUNDTRIP_BOUNDS};

/// For how long a picture is shown.
const FRESH: Duration = Duration::from_millis(100);

/// What a pool looked like a moment ago.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Which pool.
    pub(crate) pool: PoolName,
    /// The record as the rules see it.
    pub(crate) view: View,
    /// Everybody who waits, the next first.
    pub(crate) waiters: Vec<Waiter>,
    /// The same for readers.
    pub(crate) status: PoolStatus,
    /// What happened lately, the latest first; read when somebody asks.
    pub(crate) recent: OnceCell<Vec<Event>>,
    taken_at: Instant,
}

/// The latest picture of each pool.
#[derive(Debug)]
pub(crate) struct Pictures {
    store: Arc<dyn Store>,
    frames: Mutex<HashMap<PoolName, Arc<Frame>>>,
    /// How long the store took to tell.
    roundtrips: Mutex<Histogram>,
}

type Frame = tokio::sync::Mutex<Option<Arc<Picture>>>;

impl Pictures {
    /// None taken yet.
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let roundtrips = Mutex::new(Histogram::new(ROUNDTRIP_BOUNDS));
        Self { store, frames: Mutex::default(), roundtrips }
    }

    /// A picture that is fresh enough to be shown.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(crate) async fn of(&self, pool: &PoolName) -> Result<Arc<Picture>, StoreError> {
        let frame = self.frame(pool);
        let mut latest = frame.lock().await;
        if let Some(picture) = latest.as_ref().filter(|one| one.taken_at.elapsed() < FRESH) {
            return Ok(Arc::clone(picture));
        }
        let taken_at = Instant::now();
        let view = self.store.read(pool, None).await?;
        let took = taken_at.elapsed().as_secs_f64();
        self.roundtrips.lock().unwrap_or_else(PoisonError::into_inner).observe(took);
        let waiters = match view.pool.queue_len {
            0 => Vec::new(),
            _ => self.store.waiters(pool, usize::MAX >> 1).await?,
        };
        let status = PoolStatus::new(pool, &view, &waiters);
        let (pool, recent) = (pool.clone(), OnceCell::new());
        let picture = Arc::new(Picture { pool, view, waiters, status, recent, taken_at });
        *latest = Some(Arc::clone(&picture));
        Ok(picture)
    }

    /// How long the store took to tell, each time.
    pub(crate) fn roundtrips(&self) -> Histogram {
        self.roundtrips.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever asks next sees what has just been changed.
    pub(crate) async fn forget(&self, pool: &PoolName) {
        *self.frame(pool).lock().await = None;
    }

    fn frame(&self, pool: &PoolName) -> Arc<Frame> {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = frames.get(pool) {
            return Arc::clone(frame);
        }
        // Names come from callers: only so many are kept.
        if frames.len() >= 1_000 {
            frames.clear();
        }
        Arc::clone(frames.entry(pool.clone()).or_default())
    }
}
