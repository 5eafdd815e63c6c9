//! How many heartbeats one server carries.

use std::time::Duration;

use crate::crew::Crew;
use crate::part::Part;
use crate::peer::Peer;
use crate::servers::Server;
use crate::table::row_of_gpulock;

const PROCESSES: usize = 4;

/// In each process: a pool with one lease, and a client of its own.
const POOLS: usize = 250;

const RUN: Duration = Duration::from_secs(5);

pub(crate) fn measure() {
    let pools = PROCESSES * POOLS;
    row_of_gpulock(&format!("heartbeats in a second, {pools} pools"), &rate("renew"));
    row_of_gpulock("bare scripts in a second over as many connections", &rate("bare"));
}

fn rate(play: &'static str) -> String {
    let server = Server::start(Peer::Gpulock);
    let part = Part::new(play).each(POOLS).hold(RUN);
    let mut crew = Crew::start(Peer::Gpulock, &server.url(Peer::Gpulock), PROCESSES, &part);
    let until = crew.open_gate() + RUN * 4;
    let counts = (0..PROCESSES).map(|_| crew.await_reports("done", 1, until).unwrap().numbers[0]);
    format!("{:.0}", counts.sum::<u64>() as f64 / RUN.as_secs_f64())
}
