//! Many who want the lock all the time: who gets it?

use std::time::Duration;

use crate::crew::Crew;
use crate::part::Part;
use crate::peer::Peer;
use crate::servers::Server;
use crate::table::{each, median_and_p99, of, row};
use crate::turns::Turns;

const WORKERS: usize = 64;
const RUN: Duration = Duration::from_secs(10);

pub(crate) fn measure() {
    let runs = each(of_one);
    let seconds = RUN.as_secs();
    row(
        &format!("{WORKERS} without pause for {seconds} s: turns of the least / most served"),
        |peer| {
            let (least, most) = of(&runs, peer).least_and_most(WORKERS as u64);
            format!("{least} / {most}")
        },
    );
    row("the same: turns in all", |peer| of(&runs, peer).count().to_string());
    row("the same: hand-over to another one, median / p99", |peer| {
        median_and_p99(of(&runs, peer).hand_overs(0))
    });
}

fn of_one(peer: Peer) -> Turns {
    let server = Server::start(peer);
    let mut crew = Crew::start(peer, &server.url(peer), WORKERS, &Part::new("cycle"));
    let start = crew.open_gate();
    let mut turns = Turns::default();
    turns.listen(&crew, usize::MAX, start + RUN);
    turns
}
