//! The gate before which all workers of a crew wait: their common standard input.

use rustix::event::{PollFd, PollFlags, poll};

/// Waits until the benchmark opens it. The byte that does so is left for the others.
pub(crate) async fn wait() {
    tokio::task::spawn_blocking(|| wait_for(PollFlags::IN)).await.unwrap();
}

/// Ends this process when the benchmark ends.
pub(crate) fn end_with_benchmark() {
    std::thread::spawn(|| {
        wait_for(PollFlags::empty());
        std::process::exit(0);
    });
}

/// A hang-up is always waited for.
fn wait_for(what: PollFlags) {
    let stdin = std::io::stdin();
    poll(&mut [PollFd::new(&stdin, what)], None).unwrap();
}
