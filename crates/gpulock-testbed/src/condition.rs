//! Waiting for a condition instead of for a time.

use std::thread;
use std::time::{Duration, Instant};

/// Far more than anything needs on a busy machine: it ends tests that would hang, and judges none.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until `condition` holds.
///
/// # Panics
///
/// After a minute, with `what` was awaited.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited {} s in vain until {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(5));
    }
}
