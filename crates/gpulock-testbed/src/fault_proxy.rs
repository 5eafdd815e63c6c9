//! A TCP proxy that delays, cuts up, swallows and breaks what passes through it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ports::listen;

/// Stands in front of a server. Every fault can be switched on and off at any moment.
///
/// A connection that has lost a byte in one direction carries nothing any more in that direction,
/// even after the fault is over: TCP has no gaps.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    faults: Mutex<Faults>,
    connections: Mutex<Vec<Weak<Connection>>>,
    counted: Counted,
    closed: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct Faults {
    delay: Duration,
    chunk: Option<usize>,
    blocked: bool,
    replies_swallowed: bool,
    refusing: bool,
}

#[derive(Default)]
struct Counted {
    connections: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    swallowed: AtomicU64,
}

impl FaultProxy {
    /// Starts a proxy without faults.
    ///
    /// # Panics
    ///
    /// If `server` is not an address.
    #[must_use]
    pub fn to(server: impl ToSocketAddrs) -> Self {
        let mut addresses = server.to_socket_addrs().expect("the server has an address");
        let shared = Arc::new(Shared {
            server: addresses.next().expect("the server has an address"),
            faults: Mutex::default(),
            connections: Mutex::default(),
            counted: Counted::default(),
            closed: AtomicBool::new(false),
        });
        let listener = listen();
        let address = listener.local_addr().expect("a listener has an address");
        let listening = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self { address, shared, listening: Some(listening) }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of 127.0.0.1 that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `redis://127.0.0.1:PORT/0`
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Everything arrives at least this much later, in each direction. Zero ends it.
    pub fn delay(&self, delay: Duration) {
        lock(&self.shared.faults).delay = delay;
    }

    /// Everything arrives in pieces of at most so many bytes. Zero ends it.
    pub fn chunk(&self, bytes: usize) {
        lock(&self.shared.faults).chunk = (bytes > 0).then_some(bytes);
    }

    /// Closes all present connections. New ones work.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// A partition: nothing arrives any more, and no end of a connection hears of it. New
    /// connections are accepted and get no answer.
    pub fn block(&self) {
        lock(&self.shared.faults).blocked = true;
    }

    /// Ends [`FaultProxy::block`]. Connections that lost a byte meanwhile stay silent.
    pub fn unblock(&self) {
        lock(&self.shared.faults).blocked = false;
    }

    /// Requests arrive, replies do not: the client cannot know whether it was done.
    pub fn swallow_replies(&self, on: bool) {
        lock(&self.shared.faults).replies_swallowed = on;
    }

    /// New connections are closed at once.
    pub fn refuse(&self, on: bool) {
        lock(&self.shared.faults).refusing = on;
    }

    /// How many connections were made so far, without those that were refused.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.counted.connections.load(Ordering::SeqCst)
    }

    /// How many bytes went on to the server.
    #[must_use]
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.counted.to_server.load(Ordering::SeqCst)
    }

    /// How many bytes went on to clients.
    #[must_use]
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.counted.to_client.load(Ordering::SeqCst)
    }

    /// How many bytes got lost, in both directions. With [`FaultProxy::swallow_replies`], more
    /// than before means that the server has done what it was asked.
    #[must_use]
    pub fn bytes_swallowed(&self) -> u64 {
        self.shared.counted.swallowed.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that listens. It fails if that thread is gone already.
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
        self.shared.cut();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.closed.load(Ordering::SeqCst) {
                return;
            }
            if lock(&self.faults).refusing {
                continue;
            }
            self.counted.connections.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(self);
            // A slow server must not keep the next client waiting.
            thread::spawn(move || shared.serve(client));
        }
    }

    fn serve(self: Arc<Self>, client: TcpStream) {
        // Nobody hears through a partition that the server is down.
        let server = if lock(&self.faults).blocked {
            None
        } else if let Ok(server) = TcpStream::connect(self.server) {
            Some(server)
        } else {
            return;
        };
        let connection = Arc::new(Connection { client, server, cut: AtomicBool::new(false) });
        {
            let mut connections = lock(&self.connections);
            connections.retain(|known| known.strong_count() > 0);
            connections.push(Arc::downgrade(&connection));
        }
        // A proxy that was dropped meanwhile has not seen this one.
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        let replies = thread::spawn({
            let (shared, connection) = (Arc::clone(&self), Arc::clone(&connection));
            move || shared.pump(&connection, Direction::ToClient)
        });
        self.pump(&connection, Direction::ToServer);
        let _ = replies.join();
    }

    /// Carries bytes in one direction until one end closes, then closes the other.
    fn pump(&self, connection: &Connection, direction: Direction) {
        let mut piece = vec![0; 64 * 1024];
        let mut lost = false;
        while let Ok(length @ 1..) = connection.read(direction, &mut piece) {
            let delay = lock(&self.faults).delay;
            thread::sleep(delay);
            let faults = *lock(&self.faults);
            lost |= faults.blocked || connection.server.is_none();
            lost |= direction == Direction::ToClient && faults.replies_swallowed;
            let counter = if lost { &self.counted.swallowed } else { self.passed(direction) };
            // First: whoever sees an effect of these bytes finds them counted.
            counter.fetch_add(length as u64, Ordering::SeqCst);
            if !lost && connection.write(direction, &piece[..length], faults.chunk).is_err() {
                break;
            }
        }
        // That an end was closed gets no more through a partition than anything else.
        while lock(&self.faults).blocked && !connection.cut.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        connection.cut();
    }

    fn passed(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.counted.to_server,
            Direction::ToClient => &self.counted.to_client,
        }
    }

    fn cut(&self) {
        for connection in lock(&self.connections).drain(..) {
            if let Some(connection) = connection.upgrade() {
                connection.cut();
            }
        }
    }
}

struct Connection {
    client: TcpStream,
    /// None if the client came during a partition.
    server: Option<TcpStream>,
    cut: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl Connection {
    fn read(&self, direction: Direction, piece: &mut [u8]) -> io::Result<usize> {
        match (direction, &self.server) {
            (Direction::ToServer, _) => (&self.client).read(piece),
            (Direction::ToClient, Some(server)) => (&*server).read(piece),
            // There is nothing to come. The other direction notices when the client goes.
            (Direction::ToClient, None) => {
                while !self.cut.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(2));
                }
                Ok(0)
            }
        }
    }

    fn write(&self, direction: Direction, bytes: &[u8], chunk: Option<usize>) -> io::Result<()> {
        let mut receiver = match (direction, &self.server) {
            (Direction::ToClient, _) => &self.client,
            (Direction::ToServer, Some(server)) => server,
            (Direction::ToServer, None) => return Ok(()),
        };
        let _ = receiver.set_nodelay(true);
        let Some(chunk) = chunk else { return receiver.write_all(bytes) };
        for piece in bytes.chunks(chunk) {
            receiver.write_all(piece)?;
            // Long enough for the receiver to wake up and read just this.
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for stream in std::iter::once(&self.client).chain(&self.server) {
            // Fails if that end has closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RedisServer, wait_until};

    struct Client(TcpStream);

    impl Client {
        fn of(proxy: &FaultProxy) -> Self {
            let stream = TcpStream::connect(proxy.address()).expect("the proxy listens");
            Self(stream)
        }

        /// Sends a command. None: the connection was closed.
        fn send(&mut self, command: &str) -> Option<()> {
            self.0.write_all(format!("{command}\r\n").as_bytes()).ok()
        }

        /// A line of the reply. None: the connection was closed.
        fn reply(&mut self) -> Option<String> {
            let mut line = String::new();
            while !line.ends_with("\r\n") {
                let mut byte = [0];
                self.0.read_exact(&mut byte).ok()?;
                line.push(char::from(byte[0]));
            }
            Some(line.trim_end().to_owned())
        }

        fn ask(&mut self, command: &str) -> Option<String> {
            self.send(command)?;
            self.reply()
        }
    }

    fn server_and_proxy() -> (RedisServer, FaultProxy) {
        let server = RedisServer::start();
        let proxy = FaultProxy::to(("127.0.0.1", server.port()));
        (server, proxy)
    }

    #[test]
    fn small_pieces_and_delays_change_nothing_of_what_arrives() {
        let (_server, proxy) = server_and_proxy();
        let mut client = Client::of(&proxy);
        proxy.chunk(1);
        proxy.delay(Duration::from_millis(1));
        assert_eq!(client.ask("SET key value").as_deref(), Some("+OK"));
        assert_eq!(proxy.connections(), 1);
        assert_eq!(proxy.bytes_to_server(), "SET key value\r\n".len() as u64);
        assert_eq!(proxy.bytes_to_client(), "+OK\r\n".len() as u64);
    }

    #[test]
    fn cut_and_refuse_close_connections() {
        let (_server, proxy) = server_and_proxy();
        let mut client = Client::of(&proxy);
        assert_eq!(client.ask("PING").as_deref(), Some("+PONG"));
        proxy.cut();
        assert_eq!(client.reply(), None);
        proxy.refuse(true);
        assert_eq!(Client::of(&proxy).reply(), None);
        proxy.refuse(false);
        assert_eq!(Client::of(&proxy).ask("PING").as_deref(), Some("+PONG"));
        assert_eq!(proxy.connections(), 2);
    }

    #[test]
    fn a_swallowed_reply_leaves_its_connection_silent_for_good() {
        let (server, proxy) = server_and_proxy();
        let mut client = Client::of(&proxy);
        proxy.swallow_replies(true);
        client.send("SET key value");
        wait_until("the reply is lost", || proxy.bytes_swallowed() > 0);
        assert_eq!(server.cli(&["GET", "key"]), "value");
        proxy.swallow_replies(false);
        client.send("SET key other");
        wait_until("the second is done too", || server.cli(&["GET", "key"]) == "other");
        proxy.cut();
        assert_eq!(client.reply(), None);
        assert_eq!(proxy.bytes_to_client(), 0);
    }

    #[test]
    fn nothing_gets_through_a_partition() {
        let (server, proxy) = server_and_proxy();
        let mut idle = Client::of(&proxy);
        assert_eq!(idle.ask("PING").as_deref(), Some("+PONG"));
        let mut present = Client::of(&proxy);
        assert_eq!(present.ask("PING").as_deref(), Some("+PONG"));
        proxy.block();
        let mut newcomer = Client::of(&proxy);
        wait_until("it is accepted", || proxy.connections() == 3);
        present.send("SET a 1");
        newcomer.send("SET b 1");
        wait_until("both are lost", || proxy.bytes_swallowed() == 18);
        assert_eq!(server.cli(&["DBSIZE"]), "0");
        proxy.unblock();
        assert_eq!(idle.ask("PING").as_deref(), Some("+PONG"));
        assert_eq!(Client::of(&proxy).ask("PING").as_deref(), Some("+PONG"));
        assert_eq!(server.cli(&["DBSIZE"]), "0");
    }

    #[test]
    fn a_partition_hides_that_the_server_is_gone() {
        let (server, proxy) = server_and_proxy();
        let mut client = Client::of(&proxy);
        assert_eq!(client.ask("PING").as_deref(), Some("+PONG"));
        proxy.block();
        server.kill();
        client.send("PING");
        wait_until("that is lost", || proxy.bytes_swallowed() > 0);
        client.0.set_nonblocking(true).expect("a socket can be made so");
        let nothing = client.0.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(nothing, Err(io::ErrorKind::WouldBlock));
    }
}
