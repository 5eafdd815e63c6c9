//! Clients that are slow, large or many. Limits are short here; what is waited for is always
//! that something happens.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::house::{House, LONG, Reply, wait_until};
use crate::daemon::server::Limits;

const SHORT: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(20);

/// Sends one byte after the other until the server has closed or answered.
fn drip(stream: &mut TcpStream, byte: u8) {
    let begin = Instant::now();
    stream.set_read_timeout(Some(PAUSE)).unwrap();
    while begin.elapsed() < LONG {
        let closed = stream.write_all(&[byte]).is_err();
        let mut first = [0];
        let silent = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
        let answered = match stream.peek(&mut first) {
            Err(error) if silent(error.kind()) => false,
            Ok(_) | Err(_) => true,
        };
        if closed || answered {
            stream.set_read_timeout(Some(LONG)).unwrap();
            return;
        }
    }
    panic!("the server bears it for ever");
}

fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn headers_in_drips_are_cut_off_while_an_idle_connection_stays() {
    let limits = Limits { head_time: SHORT, ..Limits::default() };
    let house = House::start(limits, &[]);
    let request = format!("GET /sample/1 HTTP/1.1\r\nHost: {}\r\n\r\n", house.address);
    let mut idle = house.connect(request.as_bytes());
    let mut answer = vec![0; 4096];
    assert!(idle.read(&mut answer).unwrap() > 0);
    let mut fresh = house.connect(b"");
    let mut slow = house.connect(b"GET /sample/1 HTTP/1.1\r\nX-Slow: ");
    drip(&mut slow, b'x');
    assert!(is_closed(&mut slow));
    // Both have been idle for longer than headers may take.
    for stream in [&mut idle, &mut fresh] {
        stream
            .write_all(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap();
        assert_eq!(Reply::read(stream).status, 200);
    }
}

#[test]
fn an_idle_connection_is_closed_in_the_end() {
    let limits = Limits { idle_time: SHORT, ..Limits::default() };
    let house = House::start(limits, &[]);
    assert!(is_closed(&mut house.connect(b"")));
    let request = format!("GET /sample/1 HTTP/1.1\r\nHost: {}\r\n\r\n", house.address);
    let reply = Reply::read(&mut house.connect(request.as_bytes()));
    assert_eq!(reply.status, 200);
}

#[test]
fn a_request_that_works_for_long_is_not_idle() {
    let limits = Limits { idle_time: SHORT, head_time: SHORT, ..Limits::default() };
    let house = House::start(limits, &[]);
    let request = format!("GET /held HTTP/1.1\r\nHost: {}\r\n\r\n", house.address);
    let mut working = house.connect(request.as_bytes());
    house.wait_for_running(1);
    assert!(is_closed(&mut house.connect(b"")));
    house.sample.go_on.notify_waiters();
    assert_eq!(Reply::read(&mut working).status, 200);
}

#[test]
fn a_body_in_drips_is_refused() {
    let limits = Limits { body_time: SHORT, ..Limits::default() };
    let house = House::start(limits, &[]);
    for length in ["Content-Length: 50000", "Transfer-Encoding: chunked"] {
        let head = format!(
            "POST /sample HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{length}\r\n\r\n",
            house.address
        );
        let mut slow = house.connect(head.as_bytes());
        if length.starts_with("Content") {
            drip(&mut slow, b'[');
        }
        Reply::read(&mut slow).expect_problem(408, "too-slow");
    }
    assert_eq!(house.changes(), 0);
}

#[test]
fn large_headers_are_refused() {
    let house = House::open();
    let ask = |bytes: usize| {
        let large = format!("X-Large: {}", "x".repeat(bytes));
        house.ask("GET", "/sample/1", &[&large], "").status
    };
    assert_eq!(ask(15_000), 200);
    assert_eq!(ask(17_000), 431);
    assert_eq!(ask(1_000_000), 431);
    let many = vec!["X-Many: 1"; 1_000];
    assert_eq!(house.ask("GET", "/sample/1", &many, "").status, 431);
    let path = format!("/sample/{}", "1".repeat(20_000));
    assert_eq!(house.get(&path).status, 431);
}

#[test]
fn large_bodies_are_refused() {
    let house = House::open();
    let json = "Content-Type: application/json";
    let word = |length: usize| format!(r#"{{"text": "{}"}}"#, "x".repeat(length));
    assert_eq!(house.ask("POST", "/sample", &[json], &word(65_000)).status, 200);
    for length in [65_600, 900_000] {
        house.ask("POST", "/sample", &[json], &word(length)).expect_problem(413, "too-large");
    }
    let body = word(100_000);
    let chunked = format!(
        "POST /sample HTTP/1.1\r\nHost: {}\r\n{json}\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        house.address,
        body.len()
    );
    house.raw(&chunked).expect_problem(413, "too-large");
    assert_eq!(house.changes(), 1);
}

#[test]
fn a_body_that_ends_too_early_is_refused() {
    let house = House::open();
    let head = format!(
        "POST /sample HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{",
        house.address
    );
    let mut stream = house.connect(head.as_bytes());
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let reply = Reply::read(&mut stream);
    assert!(matches!(reply.status, 0 | 400), "{reply:?}");
    assert_eq!(house.changes(), 0);
}

#[test]
fn more_connections_than_there_are_places_are_turned_away_until_one_is_free() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let house = House::start(limits, &[]);
    let held: Vec<_> = (0..4).map(|_| house.connect(b"GET /sample/1 HTT")).collect();
    wait_until(|| house.get("/sample/1").status == 503);
    let reply = house.get("/sample/1").expect_problem(503, "unavailable");
    assert!(reply.head.contains("retry-after: 1"), "{reply:?}");
    drop(held);
    wait_until(|| house.get("/sample/1").status == 200);
}

#[test]
fn many_idle_connections_hold_nobody_up() {
    let house = House::open();
    let held: Vec<_> = (0..400).map(|_| house.connect(b"GET / HTTP/1.1\r\nX: ")).collect();
    assert_eq!(house.get("/sample/1").status, 200);
    drop(held);
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let limits = Limits { write_time: SHORT, ..Limits::default() };
    let house = House::start(limits, &[]);
    let request = format!("GET /endless HTTP/1.1\r\nHost: {}\r\n\r\n", house.address);
    let stalled: Vec<_> = (0..8).map(|_| house.connect(request.as_bytes())).collect();
    let mut reading = house.connect(request.as_bytes());
    let mut part = vec![0; 65_536];
    let mut most = 0;
    wait_until(|| {
        assert!(reading.read(&mut part).unwrap() > 0);
        let running = house.sample.running.load(std::sync::atomic::Ordering::SeqCst);
        most = most.max(running);
        most == 9 && running == 1
    });
    assert!(reading.read(&mut part).unwrap() > 0);
    drop(stalled);
}

#[test]
fn a_client_that_goes_away_ends_its_request() {
    let house = House::open();
    let request = format!("GET /held HTTP/1.1\r\nHost: {}\r\n\r\n", house.address);
    let stream = house.connect(request.as_bytes());
    house.wait_for_running(1);
    drop(stream);
    house.wait_for_running(0);
}

#[test]
fn what_is_no_http_is_answered_with_400() {
    let house = House::open();
    for bytes in ["\u{0}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n"] {
        assert_eq!(house.raw(bytes).status, 400, "{bytes:?}");
    }
    let smuggled = format!(
        "POST /sample HTTP/1.1\r\nHost: {}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        house.address
    );
    assert_eq!(house.raw(&smuggled).status, 400);
    assert_eq!(house.get("/sample/1").status, 200);
}
