//! What the lock costs when nobody else wants it.

use std::time::Duration;

use crate::crew::Crew;
use crate::part::Part;
use crate::peer::Peer;
use crate::servers::Server;
use crate::table::{NOTHING, each, of, row, shown};

const ROUNDS: usize = 2_000;

pub(crate) fn measure() {
    let pairs = each(of_one);
    row("acquire + release, nobody waits, median", |peer| shown(of(&pairs, peer).0));
    row("two bare scripts on one connection in turn with that, median", |peer| {
        let (_, bare) = *of(&pairs, peer);
        if bare.is_zero() { NOTHING.to_owned() } else { shown(bare) }
    });
    row("ratio", |peer| {
        let (pair, bare) = *of(&pairs, peer);
        match bare.is_zero() {
            true => NOTHING.to_owned(),
            false => format!("{:.2}", pair.as_secs_f64() / bare.as_secs_f64()),
        }
    });
}

fn of_one(peer: Peer) -> (Duration, Duration) {
    let server = Server::start(peer);
    let mut crew = Crew::start(peer, &server.url(peer), 1, &Part::new("pair").each(ROUNDS));
    let until = crew.open_gate() + Duration::from_secs(60);
    let report = crew.await_reports("pair", 1, until).unwrap();
    (Duration::from_nanos(report.numbers[0]), Duration::from_nanos(report.numbers[1]))
}
