//! Free TCP ports.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the range out of which Linux takes the ports of clients (from 32768). Otherwise a client
/// that connects to a killed server could be given that very port, and would talk to itself.
const PORTS: Range<u16> = 12_000..22_000;

/// The other port of a server: it is looked for together with the first. Here a server has its
/// TLS, and a node of a cluster its bus, which is always 10,000 above the port.
pub(crate) fn second(port: u16) -> u16 {
    port + 10_000
}

/// A port of 127.0.0.1 on which nobody listens, nor on its [`second`]. Another process may be quicker to take it.
pub(crate) fn free_port() -> u16 {
    listen().local_addr().expect("a listener has an address").port()
}

/// Listens on a free port of 127.0.0.1, which no client is given while nobody listens there.
///
/// # Panics
///
/// If there is none.
pub fn listen() -> TcpListener {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    for _ in 0..1_000 {
        let port = fastrand::u16(PORTS);
        if let (Ok(listener), Ok(_)) = (bind(port), bind(second(port))) {
            return listener;
        }
    }
    panic!("found no free port of 127.0.0.1 among {PORTS:?}: see which servers run with `ss -tln`");
}
