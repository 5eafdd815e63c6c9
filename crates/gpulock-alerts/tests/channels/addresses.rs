//! Which addresses are asked, and how exchanges fail.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpulock_alerts::http::{Access, Answer, LONGEST_ANSWER, Poster, failure_of};
use gpulock_alerts::{Failure, Reason};
use gpulock_testbed::RedisServer;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::server::{Reply, Server};

/// More than any exchange needs that gets an answer.
const LONG: Duration = Duration::from_secs(60);

/// Knows names by heart. Each look-up takes the next of the answers for a name, the last for ever.
#[derive(Default)]
struct Names {
    answers: Mutex<BTreeMap<&'static str, Vec<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl Names {
    fn of(names: &[(&'static str, &[&[&str]])]) -> Arc<Self> {
        let parsed = |addresses: &&[&str]| addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let answers =
            names.iter().map(|(name, answers)| (*name, answers.iter().map(parsed).collect()));
        Arc::new(Self { answers: Mutex::new(answers.collect()), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let found = answers.get_mut(name.as_str()).map(|answers| match answers.len() {
            1 => answers[0].clone(),
            _ => answers.remove(0),
        });
        Box::pin(async move {
            let found = found.ok_or("there is no such name")?;
            let found = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

fn poster(allow_private: bool) -> Poster {
    Poster::new(LONG, allow_private).unwrap()
}

fn guarded(names: &Arc<Names>, allow_private: bool) -> Poster {
    let access = Access { timeout: LONG, allow_private, ca: None };
    Poster::resolving(access, Arc::clone(names) as Arc<dyn Resolve>).unwrap()
}

async fn post(poster: &Poster, url: &Url) -> Result<Answer, Failure> {
    poster.post(url, HeaderMap::new(), b"{}".to_vec()).await
}

#[track_caller]
fn expect(url: &str, result: Result<Answer, Failure>, reason: Reason, words: &str) {
    let failure = result.expect_err(url);
    assert_eq!(failure.reason, reason, "{url}: {failure}");
    assert!(failure.detail.contains(words), "{url}: {failure}");
}

/// What is refused unless `allow_private`, and the words by which it is named.
const PRIVATE: &[(&str, &str)] = &[
    ("http://127.0.0.1/", "127.0.0.1 is a loopback address"),
    ("http://127.0.0.1:6379/", "127.0.0.1 is a loopback address"),
    ("https://127.255.255.254/", "127.255.255.254 is a loopback address"),
    ("http://0x7f.1/", "127.0.0.1 is a loopback address"),
    ("http://0x7f000001/", "127.0.0.1 is a loopback address"),
    ("http://2130706433/", "127.0.0.1 is a loopback address"),
    ("http://017700000001/", "127.0.0.1 is a loopback address"),
    ("http://127.1/", "127.0.0.1 is a loopback address"),
    ("http://127.0.0.1./", "127.0.0.1 is a loopback address"),
    ("http://%31%32%37.0.0.1/", "127.0.0.1 is a loopback address"),
    ("http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", "127.0.0.1 is a loopback address"),
    ("http:\\\\127.0.0.1\\hook", "127.0.0.1 is a loopback address"),
    ("http://public.example\t@127.0.0.1/", "user@host"),
    ("http://0.0.0.0/", "0.0.0.0 is the unspecified address"),
    ("http://0/", "0.0.0.0 is the unspecified address"),
    ("http://0.1.2.3/", "0.1.2.3 is an address of this network"),
    ("http://10.0.0.1/", "10.0.0.1 is a private address"),
    ("http://172.16.0.1/", "172.16.0.1 is a private address"),
    ("http://172.31.255.255/", "172.31.255.255 is a private address"),
    ("http://192.168.1.1/", "192.168.1.1 is a private address"),
    ("http://100.64.0.1/", "100.64.0.1 is a shared address"),
    ("http://100.127.255.255/", "100.127.255.255 is a shared address"),
    ("http://192.0.0.8/", "IETF"),
    ("http://192.88.99.1/", "6to4"),
    ("http://198.18.0.1/", "198.18.0.1 is an address for benchmarks"),
    ("http://198.19.255.255/", "for benchmarks"),
    ("http://192.0.2.1/", "for documentation"),
    ("http://198.51.100.1/", "for documentation"),
    ("http://203.0.113.1/", "for documentation"),
    ("http://240.0.0.1/", "240.0.0.1 is a reserved address"),
    ("http://[::]/", ":: is the unspecified address"),
    ("http://[::1]/", "::1 is a loopback address"),
    ("http://[0:0:0:0:0:0:0:1]/", "::1 is a loopback address"),
    ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1 is a loopback address"),
    ("http://[::ffff:7f00:1]/", "is a loopback address"),
    ("http://[::ffff:10.1.2.3]/", "is a private address"),
    ("http://[::127.0.0.1]/", "is a loopback address"),
    ("http://[::ffff:0:10.0.0.1]/", "is a private address"),
    ("http://[64:ff9b::10.0.0.1]/", "is a private address"),
    ("http://[64:ff9b::7f00:1]/", "is a loopback address"),
    ("http://[64:ff9b:1::8.8.8.8]/", "local NAT64"),
    ("http://[2002:7f00:1::]/", "is a loopback address"),
    ("http://[2002:c0a8:101::1]/", "is a private address"),
    ("http://[2001:0:0808:0808:0:0:f5ff:fffe]/", "IETF"),
    ("http://[fc00::1]/", "unique local"),
    ("http://[fd12:3456::1]/", "unique local"),
    ("http://[fec0::1]/", "site-local"),
    ("http://[2001:db8::1]/", "for documentation"),
    ("http://[3fff::1]/", "for documentation"),
    ("http://[2001:2::1]/", "for benchmarks"),
    ("http://[2001:20::1]/", "IETF"),
    ("http://[100::1]/", "100::1 is a reserved address"),
    ("http://[4000::1]/", "4000::1 is a reserved address"),
    ("http://localhost/", "is a loopback address"),
    ("http://localhost./", ""),
    ("http://inside.example/", "10.0.0.7 is a private address"),
    ("http://INSIDE.example/", "10.0.0.7 is a private address"),
];

/// What is refused whatever the configuration says.
const NEVER: &[(&str, &str)] = &[
    ("http://169.254.169.254/latest/meta-data/", "169.254.169.254 is the metadata of a cloud"),
    ("http://0xa9fea9fe/", "169.254.169.254 is the metadata of a cloud"),
    ("http://2852039166/", "169.254.169.254 is the metadata of a cloud"),
    ("http://100.100.100.200/", "100.100.100.200 is the metadata of a cloud"),
    ("http://168.63.129.16/", "168.63.129.16 is the metadata of a cloud"),
    ("http://[fd00:ec2::254]/", "fd00:ec2::254 is the metadata of a cloud"),
    ("http://[::ffff:169.254.169.254]/", "is the metadata of a cloud"),
    ("http://[::169.254.169.254]/", "is the metadata of a cloud"),
    ("http://[64:ff9b::169.254.169.254]/", "is the metadata of a cloud"),
    ("http://[64:ff9b:1::169.254.169.254]/", "is the metadata of a cloud"),
    ("http://[64:ff9b:1:a9fe:a9:fe00::]/", "is the metadata of a cloud"),
    ("http://[2002:a9fe:a9fe::]/", "is the metadata of a cloud"),
    ("http://[2001:0:a9fe:a9fe::]/", "is the metadata of a cloud"),
    ("http://[2001::5601:5601]/", "is the metadata of a cloud"),
    ("http://169.254.0.1/", "169.254.0.1 is a link-local address"),
    ("http://[fe80::1]/", "fe80::1 is a link-local address"),
    ("http://[febf::1]/", "febf::1 is a link-local address"),
    ("http://224.0.0.1/", "224.0.0.1 is a multicast address"),
    ("http://239.255.255.255/", "is a multicast address"),
    ("http://255.255.255.255/", "is a broadcast address"),
    ("http://[ff02::1]/", "ff02::1 is a multicast address"),
    ("http://metadata.example/", "169.254.169.254 is the metadata of a cloud"),
    ("http://user@8.8.8.8/", "user@host"),
    ("http://:secret@8.8.8.8/", "user@host"),
    ("http://8.8.8.8@127.0.0.1/", "user@host"),
    ("http://user:@public.example/", "user@host"),
    ("ftp://8.8.8.8/", "only http://"),
    ("file:///etc/passwd", "only http://"),
    ("gopher://127.0.0.1:6379/_", "only http://"),
    ("unix:/run/docker.sock", "only http://"),
    ("data:text/plain,x", "only http://"),
];

fn inside() -> Arc<Names> {
    Names::of(&[
        ("localhost", &[&["127.0.0.1", "::1"]]),
        ("localhost.", &[&["127.0.0.1"]]),
        ("inside.example", &[&["10.0.0.7", "fd00::7"]]),
        ("metadata.example", &[&["169.254.169.254"]]),
        ("public.example", &[&["127.0.0.1"]]),
    ])
}

#[tokio::test]
async fn what_is_not_everybodys_is_refused_before_anybody_is_asked() {
    let poster = guarded(&inside(), false);
    for (url, words) in PRIVATE.iter().chain(NEVER) {
        let result = post(&poster, &url.parse().unwrap()).await;
        expect(url, result, Reason::Forbidden, words);
    }
}

#[tokio::test]
async fn a_refusal_names_the_way_out_where_there_is_one() {
    let poster = guarded(&inside(), false);
    for (urls, is_way_out) in [(PRIVATE, true), (NEVER, false)] {
        for (url, words) in urls.iter().filter(|(_, words)| !words.contains("user@host")) {
            let failure = post(&poster, &url.parse().unwrap()).await.unwrap_err();
            let names_it = failure.detail.contains("`allow_private: true`");
            assert_eq!(names_it, is_way_out, "{url} {words}: {failure}");
        }
    }
}

#[tokio::test]
async fn metadata_and_multicast_stay_refused_where_private_addresses_are_allowed() {
    let poster = guarded(&inside(), true);
    for (url, words) in NEVER {
        let result = post(&poster, &url.parse().unwrap()).await;
        expect(url, result, Reason::Forbidden, words);
    }
    for (url, words) in PRIVATE.iter().filter(|(_, words)| !words.contains("user@host")) {
        assert_eq!(poster.permits(&url.parse().unwrap()), Ok(()), "{url} {words}");
    }
}

#[test]
fn what_is_everybodys_is_permitted() {
    for url in [
        "https://hooks.slack.com/services/T/B/X",
        "http://8.8.8.8/",
        "http://1.1.1.1:8080/",
        "http://172.15.255.255/",
        "http://172.32.0.1/",
        "http://100.63.255.255/",
        "http://100.128.0.1/",
        "http://169.253.255.255/",
        "http://223.255.255.255/",
        "http://198.17.255.255/",
        "http://198.20.0.1/",
        "http://[2606:4700::1111]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[64:ff9b::8.8.8.8]/",
        "http://[2002:808:808::1]/",
        "http://[2001:4860:4860::8888]/",
    ] {
        assert_eq!(poster(false).permits(&url.parse().unwrap()), Ok(()), "{url}");
    }
}

#[test]
fn what_is_no_address_is_no_url() {
    for url in
        ["http://[fe80::1%25eth0]/", "http://256.256.256.256/", "http://1.2.3.4.5/", "http://"]
    {
        assert!(url.parse::<Url>().is_err(), "{url}");
    }
}

#[tokio::test]
async fn nobody_is_connected_to_who_is_refused() {
    let server = Server::start(|_| Reply::new(200, "")).await;
    let poster = guarded(&inside(), false);
    for host in ["127.0.0.1", "0.0.0.0", "localhost", "public.example", "[::ffff:127.0.0.1]"] {
        let url = server.url_by(host, "/");
        expect(host, post(&poster, &url).await, Reason::Forbidden, "`allow_private: true`");
    }
    assert_eq!(server.connections(), 0);
    post(&guarded(&inside(), true), &server.url_by("public.example", "/")).await.unwrap();
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_looked_up_once_and_checked_each_time() {
    let server = Server::start(|_| Reply::new(200, "")).await;
    let names = Names::of(&[("turncoat.example", &[&["127.0.0.1"], &["169.254.169.254"]])]);
    let (poster, url) = (guarded(&names, true), server.url_by("turncoat.example", "/"));
    assert_eq!(post(&poster, &url).await.unwrap().status, 200);
    assert_eq!((names.asked(), server.connections()), (1, 1));
    let result = post(&poster, &url).await;
    expect("turncoat", result, Reason::Forbidden, "169.254.169.254 is the metadata of a cloud");
    assert_eq!((names.asked(), server.connections()), (2, 1));
}

#[tokio::test]
async fn of_several_addresses_only_those_are_asked_that_may_be() {
    let server = Server::start(|_| Reply::new(200, "")).await;
    let names = Names::of(&[("mixed.example", &[&["169.254.169.254", "127.0.0.1", "fe80::1"]])]);
    let url = server.url_by("mixed.example", "/");
    assert_eq!(post(&guarded(&names, true), &url).await.unwrap().status, 200);
    let none = Names::of(&[("mixed.example", &[&[]])]);
    let result = post(&guarded(&none, true), &url).await;
    expect("mixed", result, Reason::Unreachable, "its name cannot be looked up");
}

#[tokio::test]
async fn nobody_is_followed_elsewhere() {
    let target = Server::start(|_| Reply::new(200, "secret")).await;
    let there = target.url("/metadata").to_string();
    for status in [301, 302, 303, 307, 308] {
        let there = there.clone();
        let server =
            Server::start(move |_| Reply::new(status, "").with("location", there.clone())).await;
        let answer = post(&poster(true), &server.url("/hook")).await.unwrap();
        let failure = failure_of(&answer).unwrap();
        assert_eq!(failure.reason, Reason::ClientError);
        assert!(failure.detail.contains("redirects are not followed"), "{failure}");
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn an_answer_is_cut_where_it_becomes_too_long() {
    let server = Server::start(|_| Reply::new(200, "x".repeat(20 * LONGEST_ANSWER))).await;
    let answer = post(&poster(true), &server.url("/")).await.unwrap();
    assert_eq!(answer.body.len(), LONGEST_ANSWER);
    assert_eq!(answer.cut, None);
}

#[tokio::test]
async fn silence_ends_after_the_time_that_is_given() {
    let server = Server::start(|received| match received.path.as_str() {
        "/stuck" => Reply::Stuck { status: 200, body: "0123456789".to_owned() },
        _ => Reply::Silence,
    })
    .await;
    let poster = Poster::new(Duration::from_millis(300), true).unwrap();
    let result = post(&poster, &server.url("/silent")).await;
    expect("silent", result, Reason::ContextDeadlineExceeded, "no answer within 0.3 s");
    let answer = post(&poster, &server.url("/stuck")).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "01234"));
    assert_eq!(answer.cut.unwrap().reason, Reason::ContextDeadlineExceeded);
}

#[tokio::test]
async fn a_broken_answer_is_known_as_one() {
    let server = Server::start(|received| match received.path.as_str() {
        "/cut" => Reply::Cut { status: 200, body: r#"{"errcode":0,"errmsg":"ok"}"#.to_owned() },
        "/form" => Reply::new(200, r#"{"errcode":"none"}"#),
        "/page" => Reply::new(200, "<html>Sign in</html>"),
        "/noise" => Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        _ => Reply::Raw(Vec::new()),
    })
    .await;
    let json = async |path| {
        let answer = post(&poster(true), &server.url(path)).await?;
        answer.json::<BTreeMap<String, u32>>()
    };
    for (path, reason, words) in [
        ("/cut", Reason::Unreachable, "it closed the connection"),
        ("/form", Reason::ServerError, "is not of the form that is documented"),
        ("/page", Reason::ServerError, "is no JSON: \"<html>Sign in</html>\""),
        ("/noise", Reason::Unreachable, "it does not speak HTTP"),
        ("/nothing", Reason::Unreachable, "it closed the connection"),
    ] {
        let failure = json(path).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{path}: {failure}");
        assert!(failure.detail.contains(words), "{path}: {failure}");
    }
}

#[tokio::test]
async fn whoever_cannot_be_reached_is_told_by_name_and_cause() {
    let unused = gpulock_testbed::listen().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{unused}/hook/very-secret-token?key=very-secret-key");
    let failure = post(&poster(true), &url.parse().unwrap()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unreachable);
    assert_eq!(failure.detail, format!("127.0.0.1:{unused}: nobody listens there"));
    let names = Names::of(&[]);
    let url = "https://nowhere.example/hook/very-secret-token".parse().unwrap();
    let failure = post(&guarded(&names, false), &url).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unreachable);
    let said = "nowhere.example: its name cannot be looked up: there is no such name";
    assert_eq!(failure.detail, said);
}

#[tokio::test]
async fn certificates_are_checked_against_the_system_and_one_authority_more() {
    let files = RedisServer::with_tls();
    let server = Server::with_tls(&files.ca_file(), |_| Reply::new(200, "ok")).await;
    let url = server.url_by("localhost", "/hook");
    let failure = post(&poster(true), &url).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unreachable);
    assert!(failure.detail.contains("signed by nobody trusted here"), "{failure}");
    let trusting = poster(true).trusting(&files.ca_file()).unwrap();
    assert_eq!(post(&trusting, &url).await.unwrap().body, "ok");
    // Its certificate is for localhost and 127.0.0.1.
    let names = Names::of(&[("other.example", &[&["127.0.0.1"]])]);
    let trusting = guarded(&names, true).trusting(&files.ca_file()).unwrap();
    let result = post(&trusting, &server.url_by("other.example", "/hook")).await;
    expect("other", result, Reason::Unreachable, "its certificate is for another host");
    let plain = Server::start(|_| Reply::new(200, "")).await;
    let url = format!("https://127.0.0.1:{}/", plain.port()).parse().unwrap();
    expect("plain", post(&trusting, &url).await, Reason::Unreachable, "it does not speak TLS");
}

#[test]
fn a_file_without_authorities_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for (path, words) in [(folder.path().join("none.pem"), "cannot be read"), (empty, "holds no")] {
        let failure = poster(true).trusting(&path).unwrap_err();
        assert_eq!(failure.reason, Reason::Local);
        assert!(failure.detail.contains(words), "{failure}");
        assert!(failure.detail.contains(&*path.to_string_lossy()), "{failure}");
    }
}

#[tokio::test]
async fn a_status_says_what_is_wrong() {
    for (status, reason) in [
        (304, Reason::ClientError),
        (400, Reason::ClientError),
        (401, Reason::AuthError),
        (403, Reason::AuthError),
        (404, Reason::ClientError),
        (408, Reason::ServerError),
        (410, Reason::Gone),
        (413, Reason::ClientError),
        (429, Reason::RateLimited),
        (500, Reason::ServerError),
        (503, Reason::ServerError),
    ] {
        let server = Server::start(move |_| Reply::new(status, "")).await;
        let answer = post(&poster(true), &server.url("/")).await.unwrap();
        assert_eq!(failure_of(&answer).unwrap().reason, reason, "{status}");
    }
    for status in [200, 201, 202, 204] {
        let server = Server::start(move |_| Reply::new(status, "")).await;
        let answer = post(&poster(true), &server.url("/")).await.unwrap();
        assert_eq!(failure_of(&answer), None, "{status}");
    }
}

#[tokio::test]
async fn a_pause_is_seconds_or_a_date() {
    let after = async |text: String| {
        let server =
            Server::start(move |_| Reply::new(429, "").with("retry-after", text.clone())).await;
        let answer = post(&poster(true), &server.url("/")).await.unwrap();
        failure_of(&answer).unwrap().retry_after
    };
    let day = Duration::from_secs(24 * 60 * 60);
    assert_eq!(after("120".to_owned()).await, Some(Duration::from_secs(120)));
    assert_eq!(after("999999999999".to_owned()).await, Some(day));
    assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()).await, Some(Duration::ZERO));
    assert_eq!(after("Fri, 31 Dec 9998 23:59:59 GMT".to_owned()).await, Some(day));
    assert_eq!(after("soon".to_owned()).await, None);
}

#[tokio::test]
async fn what_a_server_repeats_is_shown_without_secrets() {
    let server = Server::start(|received| {
        let said = format!(
            "Cannot {} {}\r\n\u{1b}[31m with {} \u{202e}{}",
            received.method,
            received.path,
            received.header("authorization"),
            "x".repeat(1000)
        );
        Reply::new(404, said)
    })
    .await;
    let mut headers = HeaderMap::new();
    let mut token = HeaderValue::from_static("Bearer hunter2");
    token.set_sensitive(true);
    headers.insert(AUTHORIZATION, token);
    let url = server.url("/services/T024BE7LD0/k9sPqR7tUvWxYz?access_token=abcdefgh%2F123&x=1");
    let answer = poster(true).post(&url, headers, Vec::new()).await.unwrap();
    let failure = failure_of(&answer).unwrap();
    for secret in ["T024BE7LD0", "k9sPqR7tUvWxYz", "abcdefgh", "hunter2"] {
        assert!(!failure.detail.contains(secret), "{failure}");
        assert!(!format!("{failure:?}").contains(secret), "{failure:?}");
    }
    assert!(failure.detail.contains("Cannot POST"), "{failure}");
    assert!(!failure.detail.contains(['\u{1b}', '\u{202e}', '\n', '\r']), "{failure:?}");
    let quote = failure.detail.split('"').nth(1).unwrap();
    assert_eq!(quote.chars().count(), 301, "{quote}");
}

#[tokio::test]
async fn things_can_be_got_as_well() {
    let server = Server::start(|_| Reply::new(200, "OK")).await;
    let answer = poster(true).get(&server.url("/ping/x"), HeaderMap::new()).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "OK"));
    assert_eq!(server.only().method, "GET");
}
