//! Every kind of Redis URL on real servers: it leads to a store that can be written and that
//! wakes, or to a sentence that says why not.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use gpulock::connect;
use gpulock::core::PoolName;
use gpulock::store::StoreError;
use gpulock_testbed::{RedisCluster, RedisServer, Sentinels};

use super::support::{World, block_on, task, until};

const SECRET: &str = "canary";

/// A request waits for another one, and is woken when that is done.
fn works(url: &str) {
    let with = if url.contains('?') { '&' } else { '?' };
    let world = World::at(format!("{url}{with}after_restart=trust"));
    let holder = world.client().request(task("holder")).acquire().unwrap();
    let waiter = world.client().request(task("waiter")).start().unwrap();
    world.until_queued(1);
    block_on(holder.release()).unwrap();
    block_on(block_on(waiter).unwrap().release()).unwrap();
}

/// What is said where a store cannot be used. Trying again must be worth it or not, as
/// `is_transient` says.
#[track_caller]
fn fails(error: &StoreError, is_transient: bool, reason: &str) {
    let said = format!("{error} {error:?}");
    assert!(said.contains(reason), "{said}");
    assert_eq!(error.is_transient(), is_transient, "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[track_caller]
fn calling(url: &str) -> StoreError {
    block_on(connect(url).unwrap().read(&PoolName::default(), None)).unwrap_err()
}

#[track_caller]
fn listening(url: &str) -> StoreError {
    block_on(connect(url).unwrap().open_mailbox()).unwrap_err()
}

#[track_caller]
fn refused(url: &str, reason: &str) {
    fails(&calling(url), false, reason);
    fails(&listening(url), false, reason);
}

/// Listening begins as soon as there is somebody to listen to.
#[track_caller]
fn unreachable(url: &str, reason: &str) {
    fails(&calling(url), true, reason);
    block_on(connect(url).unwrap().open_mailbox()).unwrap();
}

#[test]
fn a_server_by_port_by_socket_and_by_database() {
    let server = RedisServer::start();
    let socket = format!("redis+unix://{}", server.socket().display());
    works(&server.url());
    works(&format!("redis://localhost:{}/3", server.port()));
    works(&format!("{socket}?db=4&prefix=team:"));
    for (database, pools) in
        [("0", "gpulock:pools"), ("3", "gpulock:pools"), ("4", "team:gpulock:pools")]
    {
        assert_eq!(server.cli(&["-n", database, "SMEMBERS", pools]), PoolName::default().as_str());
    }
    refused(&format!("{socket}?db=99"), "DB index is out of range");
}

#[test]
fn nobody_at_the_other_end() {
    let server = RedisServer::start();
    unreachable("redis://host.invalid", "failed to lookup address");
    unreachable("redis+unix:///nowhere/redis.sock", "there is no such socket");
    server.pause();
    unreachable(&server.url(), "it did not answer in time");
    server.kill();
    unreachable(&server.url(), "nobody listens there");
    unreachable(&format!("redis+cluster://127.0.0.1:{}", server.port()), "nobody listens there");
    unreachable(&format!("redis+sentinel://127.0.0.1:{}/s", server.port()), "nobody listens there");
}

#[test]
fn users_passwords_and_rights() {
    let server = RedisServer::start();
    let url = |login: &str, options: &str| {
        format!("redis://{login}@127.0.0.1:{}/0{options}", server.port())
    };
    refused(&url(":canary", ""), "called without any password configured");
    server.cli(&["ACL", "SETUSER", "me", "on", ">canary/@", "~team:*", "&team:*", "+@all"]);
    server.cli(&["ACL", "SETUSER", "open", "on", "nopass", "~*", "&*", "+@all", "-evalsha"]);
    works(&url("me:canary%2F%40", "?prefix=team:"));
    works(&format!(
        "redis+unix://{}?user=me&password=canary/%40&prefix=team:",
        server.socket().display()
    ));
    refused(&url("me:canary", ""), "it knows no user `me` with this password");
    refused(&url("you:canary%2F%40", ""), "it knows no user `you` with this password");

    refused(&url("me:canary%2F%40", ""), "user `me` lacks a right: ");
    let said = calling(&url("open:", ""));
    assert!(said.to_string().contains("evalsha"), "{said}");

    server.cli(&["CONFIG", "SET", "requirepass", "canary"]);
    works(&url(":canary", ""));
    refused(&server.url(), "it wants a password");
    refused(&url(":canary2", ""), "it knows no user `default` with this password");
}

#[test]
fn a_server_with_too_many_clients_is_no_wrong_password() {
    let server = RedisServer::with(&["--requirepass", SECRET, "--maxclients", "1"]);
    let _only_one = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    for url in [server.url(), server.url().replace("://", &format!("://:{SECRET}@"))] {
        let said = calling(&url);
        assert!(said.is_transient(), "{said}");
    }
}

#[test]
fn tls_is_verified() {
    let server = RedisServer::with_tls();
    let url = server.tls_url();
    let ca = server.ca_file();
    works(&format!("{url}?ca={}", ca.display()));
    works(&format!("{}?ca={}", url.replace("localhost", "127.0.0.1"), ca.display()));
    refused(&url, "signed by nobody trusted here; ca=/FILE.pem");
    let another = RedisServer::with_tls();
    refused(&format!("{url}?ca={}", another.ca_file().display()), "signed by nobody trusted here");
}

#[test]
fn a_server_can_want_a_certificate_of_us() {
    let server = RedisServer::with_tls_for_certified_clients();
    let url = format!("{}?ca={}", server.tls_url(), server.ca_file().display());
    let (cert, key) = (server.client_certificate(), server.client_key());
    works(&format!("{url}&cert={}&key={}", cert.display(), key.display()));
    refused(&url, "cert=/FILE.pem and key=/FILE.pem");
    let swapped = connect(&format!("{url}&cert={}&key={}", key.display(), cert.display()));
    assert!(swapped.unwrap_err().to_string().contains("holds no certificate"));
}

#[test]
fn tls_where_there_is_none_and_none_where_there_is() {
    let server = RedisServer::with_tls();
    let ca = server.ca_file();
    let said =
        calling(&format!("{}?ca={}", server.url().replace("redis:", "rediss:"), ca.display()));
    assert!(said.to_string().contains("not speak TLS"), "{said}");
    unreachable(&server.tls_url().replace("rediss:", "redis:"), "it closed the connection");
}

#[test]
fn the_master_that_sentinels_name() {
    let sentinels = Sentinels::start(1);
    let url = sentinels.url(Sentinels::SERVICE);
    works(&url);
    refused(&sentinels.url("other"), "its Sentinels know no service `other`");
    let first = &sentinels.sentinels()[1];
    let server = &sentinels.servers()[0];
    refused(&format!("redis+sentinel://127.0.0.1:{}/x", server.port()), "SENTINEL");
    first.pause();
    let slow_first = format!(
        "redis+sentinel://127.0.0.1:{},127.0.0.1:{}/{}/2",
        first.port(),
        sentinels.sentinels()[0].port(),
        Sentinels::SERVICE
    );
    works(&slow_first);
    assert_eq!(server.cli(&["-n", "2", "SCARD", "gpulock:pools"]), "1");
    first.resume();

    let store = connect(&url).unwrap();
    block_on(store.read(&PoolName::default(), None)).unwrap();
    let new = sentinels.fail_over();
    until("the same store has found the new master", || {
        block_on(store.read(&PoolName::default(), None)).is_ok()
    });
    works(&url);
    assert_eq!(sentinels.servers()[new].cli(&["SCARD", "gpulock:pools"]), "1");
}

#[test]
fn sentinels_and_their_master_have_users_of_their_own() {
    let sentinels = Sentinels::start(0);
    let all = ["on", "~*", "&*", "+@all"];
    let user = |server: &RedisServer, name, password| {
        server.cli(&[&["ACL", "SETUSER", name, password], all.as_slice()].concat());
    };
    user(&sentinels.servers()[0], "me", ">canary1");
    for sentinel in sentinels.sentinels() {
        user(sentinel, "watcher", ">canary2");
        sentinel.cli(&["ACL", "SETUSER", "other", "on", "nopass"]);
    }
    let url = sentinels.url(Sentinels::SERVICE);
    let with = |login: &str| url.replace("://", &format!("://{login}@"));
    works(&format!("{}?sentinel_user=watcher&sentinel_password=canary2", with("me:canary1")));
    works(&with("me:canary1"));
    let wrong = "it or a Sentinel knows no such user with this password";
    refused(&with("me:canary2"), wrong);
    refused(&format!("{url}?sentinel_user=watcher&sentinel_password=canary1"), wrong);
    refused(&format!("{url}?sentinel_user=other&sentinel_password="), "a right is lacking");
}

#[test]
fn sentinels_and_their_master_with_tls() {
    let server = RedisServer::with_tls();
    let sentinel = TlsSentinel::of(&server);
    let url = format!("redis+sentinel://127.0.0.1:{}/locks?tls=true", sentinel.port);
    works(&format!("{url}&ca={}", server.ca_file().display()));
    refused(&url, "signed by nobody trusted here");
}

#[test]
fn a_cluster_by_some_of_its_nodes() {
    let cluster = RedisCluster::start();
    works(&cluster.url());
    let nodes = cluster.nodes();
    let owner = cluster.master_of("gpulock:{default}:head").port();
    let another = nodes.iter().find(|node| node.port() != owner).unwrap();
    let said = calling(&another.url());
    assert!(!said.is_transient() && said.to_string().contains("redis+cluster://"), "{said}");
    let some = format!("redis+cluster://127.0.0.1:1,127.0.0.1:{}", nodes[1].port());
    works(&some);
    for node in nodes {
        node.cli(&["ACL", "SETUSER", "me", "on", ">canary", "~team:*", "&team:*", "+@all"]);
    }
    works(&format!("{}?prefix=team:", some.replace("://", "://me:canary@")));
    refused(&some.replace("://", "://me:canary2@"), "it knows no user `me` with this password");
}

#[test]
fn a_cluster_that_replaces_a_master() {
    let cluster = RedisCluster::with_replicas();
    let store = connect(&cluster.url()).unwrap();
    block_on(store.read(&PoolName::default(), None)).unwrap();
    let old = cluster.master_of("gpulock:{default}:head");
    let port = old.port();
    old.kill();
    until("a replica has its place", || cluster.master_of("gpulock:{default}:head").port() != port);
    until("the same store has found the new master", || {
        block_on(store.read(&PoolName::default(), None)).is_ok()
    });
    works(&cluster.url());
}

#[test]
fn a_single_server_is_no_cluster() {
    let server = RedisServer::start();
    let said = calling(&format!("redis+cluster://127.0.0.1:{}", server.port()));
    assert!(!said.is_transient(), "{said}");
    assert!(said.to_string().contains("cluster support disabled"), "{said}");
}

#[test]
fn a_cluster_with_tls() {
    let certified = RedisServer::with_tls();
    let file = |name| certified.ca_file().with_file_name(name).display().to_string();
    let tls_port = free_port().to_string();
    let node = RedisServer::with(&[
        "--cluster-enabled",
        "yes",
        "--tls-cluster",
        "yes",
        "--tls-replication",
        "yes",
        "--tls-auth-clients",
        "no",
        "--tls-port",
        &tls_port,
        "--cluster-port",
        &free_port().to_string(),
        "--tls-ca-cert-file",
        &file("ca.crt"),
        "--tls-cert-file",
        &file("server.crt"),
        "--tls-key-file",
        &file("server.key"),
    ]);
    node.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until("the cluster is whole", || node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    let url = format!("redis+cluster://127.0.0.1:{tls_port}?tls=true");
    works(&format!("{url}&ca={}", certified.ca_file().display()));
    refused(&url, "signed by nobody trusted here");
}

/// A Sentinel that speaks TLS alone, and watches the TLS port of a server.
struct TlsSentinel {
    port: u16,
    process: Child,
    _folder: tempfile::TempDir,
}

impl TlsSentinel {
    fn of(server: &RedisServer) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| server.ca_file().with_file_name(name).display().to_string();
        let master = server.tls_url();
        let master = master.split([':', '/']).nth(4).unwrap();
        let (ca, cert, key) = (file("ca.crt"), file("server.crt"), file("server.key"));
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "port 0\ntls-port {port}\nbind 127.0.0.1\ntls-auth-clients no\ntls-replication yes\n\
             tls-ca-cert-file {ca}\ntls-cert-file {cert}\ntls-key-file {key}\n\
             sentinel monitor locks 127.0.0.1 {master} 1\n"
        );
        std::fs::write(&config, text).unwrap();
        let process = sentinel(&config);
        until("the Sentinel listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Self { port, process, _folder: folder }
    }
}

impl Drop for TlsSentinel {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ends with the thread of the test, if not before.
fn sentinel(config: &Path) -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "redis-server"])
        .arg(config)
        .arg("--sentinel")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
