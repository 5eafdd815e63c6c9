//! The end of the server.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use super::house::{House, LONG, Reply, wait_until};
use crate::daemon::server::Limits;

fn begin(house: &House, path: &str) -> TcpStream {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", house.address);
    house.connect(request.as_bytes())
}

#[test]
fn running_requests_end_and_nobody_new_comes() {
    let mut house = House::start(Limits { stop_time: LONG, ..Limits::default() }, &[]);
    let mut held = begin(&house, "/held");
    house.wait_for_running(1);
    let mut idle = begin(&house, "/sample/1");
    let mut answer = [0; 4096];
    assert!(idle.read(&mut answer).unwrap() > 0);
    house.shutdown.cancel();
    assert_eq!(idle.read(&mut answer).unwrap(), 0, "an idle connection is closed at once");
    wait_until(|| TcpStream::connect(house.address).is_err());
    house.sample.go_on.notify_waiters();
    let reply = Reply::read(&mut held);
    assert_eq!((reply.status, reply.body.as_str()), (200, "at last"));
    house.wait_for_end();
}

#[test]
fn an_open_stream_ends_with_its_last_words() {
    let mut house = House::start(Limits { stop_time: LONG, ..Limits::default() }, &[]);
    let mut streams: Vec<_> = (0..20).map(|_| begin(&house, "/patient")).collect();
    house.wait_for_running(20);
    house.shutdown.cancel();
    for stream in &mut streams {
        let reply = Reply::read(stream);
        assert!(reply.body.contains("event") && reply.body.contains("bye"), "{reply:?}");
    }
    house.wait_for_end();
}

#[test]
fn what_does_not_end_is_cut() {
    let short = Limits { stop_time: Duration::from_millis(200), ..Limits::default() };
    let mut house = House::start(short, &[]);
    let mut held = begin(&house, "/held");
    let _endless = begin(&house, "/endless");
    house.wait_for_running(2);
    house.shutdown.cancel();
    assert_eq!(Reply::read(&mut held).status, 0);
    house.wait_for_end();
    house.wait_for_running(0);
}
