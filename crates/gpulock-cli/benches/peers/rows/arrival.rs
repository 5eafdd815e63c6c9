//! A thousand requests at the same moment.

use std::time::Duration;

use crate::crew::Crew;
use crate::part::{KEY, Part};
use crate::peer::Peer;
use crate::servers::Server;
use crate::table::{each, of, row, row_of_gpulock, shown};

const PROCESSES: usize = 8;
const EACH: usize = 125;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn measure() {
    let all = PROCESSES * EACH;
    row_of_gpulock(&format!("{all} ask at once: all are in the queue after"), &shown(queued()));
    let served = each(served);
    row(&format!("{all} ask at once, each holds for no time: all were served after"), |peer| {
        match *of(&served, peer) {
            Ok(time) => shown(time),
            Err(count) => format!("{count} after {} s", PATIENCE.as_secs()),
        }
    });
}

/// While somebody holds the GPU, so that all have to wait.
fn queued() -> Duration {
    let server = Server::start(Peer::Gpulock);
    let url = server.url(Peer::Gpulock);
    let _holder = Crew::start(Peer::Gpulock, &url, 1, &Part::new("keep"));
    let mut crew = Crew::start(Peer::Gpulock, &url, PROCESSES, &Part::new("once").each(EACH));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, pool) = (gpulock::connect(&url).unwrap(), KEY.parse().unwrap());
        let waiting = async || store.read(&pool, None).await.unwrap().pool.queue_len;
        waiting().await;
        let start = crew.open_gate();
        while waiting().await < (PROCESSES * EACH) as u64 {
            assert!(start.elapsed() < PATIENCE, "some never got into the queue");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        start.elapsed()
    })
}

/// How long it took, or how many had their turn before patience ended.
fn served(peer: Peer) -> Result<Duration, usize> {
    let server = Server::start(peer);
    let mut crew = Crew::start(peer, &server.url(peer), PROCESSES, &Part::new("once").each(EACH));
    let start = crew.open_gate();
    let mut served = 0;
    while let Some(report) = crew.report(start + PATIENCE) {
        served += usize::from(report.word == "held");
        if served == PROCESSES * EACH {
            return Ok(start.elapsed());
        }
    }
    Err(served)
}
