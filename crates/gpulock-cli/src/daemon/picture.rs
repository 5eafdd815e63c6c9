//! Pictures of pools for readers: taken when somebody asks, and shared by all who ask in the
//! same moment, so that many readers cost the store no more than one. While many ask, the next
//! picture is taken beside them, and nobody waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gpulock::PoolStatus;
use gpulock::core::{Event, PoolName, Waiter};
use gpulock::store::{Store, StoreError, View};
use tokio::sync::OnceCell;

use super::metrics::{Histogram, ROUNDTRIP_BOUNDS};

/// For how long a picture is shown without another thought.
const FRESH: Duration = Duration::from_millis(100);

/// For how long it is shown while the next one is taken.
const SHOWN: Duration = Duration::from_millis(250);

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

/// Where the latest picture of one pool hangs.
#[derive(Debug, Default)]
struct Frame {
    latest: Mutex<Latest>,
    /// Held by whoever takes the next one.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Latest {
    picture: Option<Arc<Picture>>,
    /// How often the pool was changed by this daemon: a picture that was begun before a change
    /// is not hung up after it.
    changes: u64,
}

impl Frame {
    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The picture, if it is no older than this.
    fn shows(&self, longest: Duration) -> Option<Arc<Picture>> {
        self.lock().picture.clone().filter(|one| one.taken_at.elapsed() < longest)
    }
}

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
    pub(crate) async fn of(self: &Arc<Self>, pool: &PoolName) -> Result<Arc<Picture>, StoreError> {
        let frame = self.frame(pool);
        if let Some(picture) = frame.shows(FRESH) {
            return Ok(picture);
        }
        if let Some(picture) = frame.shows(SHOWN) {
            if let Ok(turn) = Arc::clone(&frame.turn).try_lock_owned() {
                let (pictures, pool) = (Arc::clone(self), pool.clone());
                tokio::spawn(async move {
                    // If it fails, whoever asks later hears why.
                    let _ = pictures.take(&pool, &frame).await;
                    drop(turn);
                });
            }
            return Ok(picture);
        }
        let _turn = frame.turn.lock().await;
        match frame.shows(FRESH) {
            Some(picture) => Ok(picture),
            None => self.take(pool, &frame).await,
        }
    }

    async fn take(&self, pool: &PoolName, frame: &Frame) -> Result<Arc<Picture>, StoreError> {
        let (changes, taken_at) = (frame.lock().changes, Instant::now());
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
        let mut latest = frame.lock();
        if latest.changes == changes {
            latest.picture = Some(Arc::clone(&picture));
        }
        Ok(picture)
    }

    /// How long the store took to tell, each time.
    pub(crate) fn roundtrips(&self) -> Histogram {
        self.roundtrips.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whoever asks next sees what has just been changed.
    pub(crate) fn forget(&self, pool: &PoolName) {
        let frame = self.frame(pool);
        let mut latest = frame.lock();
        latest.changes += 1;
        latest.picture = None;
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
