//! Mails as a server gets them and as people read them, and servers that are not kind.

use std::process::Command;

use gpulock_alerts::channels::email::{Email, Settings};
use gpulock_alerts::{Channel as _, Failure, Markup, Message, Reason, Text};
use serde_json::{Value, json};

use super::smtp::{Answer, Mail, Server, Tls};
use super::{around, notification, send, settings, text};

const USER: Option<(&str, &str)> = Some(("alice", "s3cret wörd"));

/// Settings for a server in the clear, with some changed.
fn plain_settings(server: &Server, more: Value) -> Value {
    let mut all = json!({
        "server": server.address.to_string(),
        "tls": "none",
        "from": "gpulock <gpulock@example.com>",
        "to": ["Ops <ops@example.com>", "second@example.com"],
    });
    let Value::Object(more) = more else { panic!("{more} is no mapping") };
    all.as_object_mut().unwrap().extend(more);
    all
}

fn open(all: Value) -> Result<Email, String> {
    settings::<Settings>(all).open(&around("team"))
}

/// A channel to this server, as it wants it.
fn channel(server: &Server, tls: &str) -> Email {
    let more = json!({
        "tls": tls, "ca": server.ca(), "user": "alice", "password": "s3cret wörd",
        "server": format!("localhost:{}", server.address.port()),
    });
    open(plain_settings(server, more)).unwrap()
}

async fn plain() -> (Server, Email) {
    let server = Server::start(Tls::None, None).await;
    let email = open(plain_settings(&server, json!({}))).unwrap();
    (server, email)
}

async fn send_one(email: &Email) -> Result<(), Failure> {
    send(email, &notification("n1"), &text("title", "<p>body</p>")).await
}

/// What a mail is for Python's parser, which shares no code with the writer.
fn parsed(mail: &Mail) -> Value {
    const PARSER: &str = "
import email, email.policy, json, sys
mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
names = [part.get_content_type() for part in mail.walk()]
body = lambda kind: mail.get_body((kind,)).get_content()
assert not mail.defects, mail.defects
json.dump({'headers': [[n, str(v)] for n, v in mail.items()], 'types': names,
           'plain': body('plain'), 'html': body('html')}, sys.stdout)";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mail");
    std::fs::write(&file, &mail.data).unwrap();
    let mut python = Command::new("python3");
    let output = python.args(["-c", PARSER]).stdin(std::fs::File::open(file).unwrap()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn header(parsed: &Value, name: &str) -> String {
    let headers = parsed["headers"].as_array().unwrap();
    let named: Vec<_> = headers.iter().filter(|header| header[0] == name).collect();
    assert_eq!(named.len(), 1, "{name} in {headers:?}");
    named[0][1].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_mail_is_what_people_read() {
    let (server, email) = plain().await;
    assert_eq!((email.kind(), email.markup()), ("email", Markup::Html));
    let title = "[P0] GPU 0 hängt: 転写が止まった";
    let body = "<p>Der Auftrag <b>läuft</b> &lt;nicht&gt;.</p><p><a href=\"https://x.example/\">mehr</a></p>";
    send(&email, &notification("n1"), &text(title, body)).await.unwrap();
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].from, "gpulock@example.com");
    assert_eq!(mails[0].to, ["ops@example.com", "second@example.com"]);
    let mail = parsed(&mails[0]);
    assert_eq!(header(&mail, "Subject"), title);
    assert_eq!(header(&mail, "From"), "gpulock <gpulock@example.com>");
    assert_eq!(header(&mail, "To"), "Ops <ops@example.com>, second@example.com");
    assert_eq!(header(&mail, "Auto-Submitted"), "auto-generated");
    assert!(header(&mail, "Date").ends_with(" +0000"));
    assert_eq!(mail["types"], json!(["multipart/alternative", "text/plain", "text/html"]));
    let plain = mail["plain"].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(plain.trim(), "Der Auftrag läuft <nicht>.\n\nmehr (https://x.example/)");
    let html = mail["html"].as_str().unwrap();
    assert!(html.contains(body) && html.starts_with("<!DOCTYPE html>"), "{html}");
}

#[tokio::test]
async fn all_mails_about_one_group_are_one_thread() {
    let (server, email) = plain().await;
    let mut other = notification("n3");
    other.group_key = "pool=other".to_owned();
    for notification in [notification("n1"), notification("n2"), notification("n1"), other] {
        send(&email, &notification, &text("title", "body")).await.unwrap();
    }
    let mails: Vec<_> = server.mails().iter().map(parsed).collect();
    let of = |name: &str| mails.iter().map(|mail| header(mail, name)).collect::<Vec<_>>();
    let (ids, threads) = (of("Message-ID"), of("In-Reply-To"));
    assert_eq!(threads, of("References"));
    assert!(threads[0] == threads[1] && threads[0] != threads[3], "{threads:?}");
    assert_eq!(ids[0], ids[2], "a message that is sent again is the same one");
    assert!(ids[0] != ids[1] && ids[1] != ids[3] && !ids.contains(&threads[0]), "{ids:?}");
    assert!(ids[0].starts_with("<message.") && ids[0].ends_with("@example.com>"), "{ids:?}");
}

#[tokio::test]
async fn nobody_can_slip_in_a_header_or_end_a_mail() {
    let (server, email) = plain().await;
    let title = "x\r\nBcc: eve@example.com\r\n\r\nbody";
    let body = ".\n.\r\n.\r\nQUIT\r\n..\r\n.dot<br>.";
    send(&email, &notification("n\r\nX: y"), &text(title, body)).await.unwrap();
    send(&email, &notification("n2"), &text(&"long ".repeat(1_000), &"ä".repeat(50_000)))
        .await
        .unwrap();
    let mails = server.mails();
    assert_eq!(mails.len(), 2);
    let mail = parsed(&mails[0]);
    assert_eq!(header(&mail, "Subject"), "x  Bcc: eve@example.com    body");
    let names: Vec<_> = mail["headers"].as_array().unwrap().iter().map(|h| &h[0]).collect();
    assert!(!names.contains(&&json!("Bcc")) && !names.contains(&&json!("X")), "{names:?}");
    let html = mail["html"].as_str().unwrap().replace("\r\n", "\n");
    assert!(html.contains(&body.replace("\r\n", "\n")), "{html:?}");
    let long = parsed(&mails[1]);
    assert!(header(&long, "Subject").len() <= 200);
    assert!(long["html"].as_str().unwrap().contains(&"ä".repeat(50_000)));
}

#[tokio::test]
async fn with_tls_from_the_beginning_or_begun_later() {
    for (tls, name) in [(Tls::Starttls, "starttls"), (Tls::Implicit, "implicit")] {
        let server = Server::start(tls, USER).await;
        send_one(&channel(&server, name)).await.unwrap();
        let mails = server.mails();
        assert!(mails.len() == 1 && mails[0].was_encrypted, "{mails:?}");
    }
}

#[tokio::test]
async fn a_server_nobody_vouches_for_gets_nothing() {
    let other = Server::start(Tls::Starttls, None).await;
    for (tls, name) in [(Tls::Starttls, "starttls"), (Tls::Implicit, "implicit")] {
        let server = Server::start(tls, USER).await;
        let strangers = json!({
            "tls": name, "ca": other.ca(), "user": "alice", "password": "s3cret wörd",
        });
        let failure =
            send_one(&open(plain_settings(&server, strangers)).unwrap()).await.unwrap_err();
        assert_eq!(failure.reason, Reason::Unreachable, "{failure}");
        assert!(failure.detail.contains("certificate"), "{failure}");
        assert!(
            server.heard().iter().all(|line| !line.starts_with("AUTH")),
            "{:?}",
            server.heard()
        );
    }
}

#[tokio::test]
async fn starttls_never_becomes_plain() {
    // Somebody in between takes the offer away.
    let server = Server::start(Tls::Starttls, None).await;
    server.rule("EHLO", Answer::Say("250-here\r\n250 AUTH PLAIN"));
    let failure = send_one(&channel(&server, "starttls")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unreachable);
    assert!(failure.detail.contains("offers no TLS"), "{failure}");
    server.rule("EHLO", Answer::Say("250-here\r\n250 STARTTLS"));
    server.rule("STARTTLS", Answer::Say("454 not now"));
    let failure = send_one(&channel(&server, "starttls")).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerError);
    let heard = server.heard();
    assert!(heard.iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")));
}

#[tokio::test]
async fn answers_slipped_in_before_tls_deliver_nothing() {
    let server = Server::start(Tls::Starttls, USER).await;
    server.rule("STARTTLS", Answer::Say("220 go ahead\r\n250-here\r\n250 AUTH PLAIN"));
    let failure = send_one(&channel(&server, "starttls")).await.unwrap_err();
    assert!(server.mails().is_empty(), "{failure}");
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_repeated() {
    let server = Server::start(Tls::Starttls, Some(("alice", "another"))).await;
    let failure = send_one(&channel(&server, "starttls")).await.unwrap_err();
    assert_eq!((failure.reason, &*failure.detail), (Reason::AuthError, "535 5.7.8 who are you"));
    // "\0alice\0s3cret wörd" and the password, as the server saw them.
    server.rule("AUTH", Answer::Say("535 no AGFsaWNlAHMzY3JldCB3w7ZyZA== s3cret wörd"));
    let email = channel(&server, "starttls");
    let failure = send_one(&email).await.unwrap_err();
    assert_eq!(failure.detail, "535 no *** ***");
    assert!(!format!("{email:?}").contains("s3cret"), "{email:?}");
    server.rule("EHLO", Answer::Say("250-here\r\n250-STARTTLS\r\n250 AUTH GSSAPI"));
    assert_eq!(send_one(&email).await.unwrap_err().reason, Reason::AuthError);
    let nobody = Server::start(Tls::None, USER).await;
    let email = open(plain_settings(&nobody, json!({}))).unwrap();
    assert_eq!(send_one(&email).await.unwrap_err().reason, Reason::AuthError, "530");
}

#[tokio::test]
async fn a_password_in_a_file_is_read_at_each_send() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let server = Server::start(Tls::None, USER).await;
    let secret = format!("@{}", file.display());
    let more = json!({"user": "alice", "password": secret});
    let email = open(plain_settings(&server, more)).unwrap();
    assert_eq!(send_one(&email).await.unwrap_err().reason, Reason::Local);
    std::fs::write(&file, "wrong\n").unwrap();
    assert_eq!(send_one(&email).await.unwrap_err().reason, Reason::AuthError);
    std::fs::write(&file, "s3cret wörd\n").unwrap();
    send_one(&email).await.unwrap();
}

#[tokio::test]
async fn what_the_server_says_decides_whether_to_try_again() {
    let (server, email) = plain().await;
    let cases = [
        ("GREETING", "421 too busy", Reason::ServerError),
        ("GREETING", "554 not you", Reason::ClientError),
        ("MAIL", "451 later", Reason::ServerError),
        ("MAIL", "550 not from you", Reason::ClientError),
        ("RCPT", "450 greylisted", Reason::ServerError),
        ("RCPT", "550 unknown", Reason::ClientError),
        ("RCPT", "421 closing", Reason::ServerError),
        ("DATA", "451 later", Reason::ServerError),
        ("DATA", "554 no", Reason::ClientError),
        ("DATA", "250 yes", Reason::ServerError),
        (".", "452 disk full", Reason::ServerError),
        (".", "554 spam", Reason::ClientError),
        (".", "354 hm", Reason::ServerError),
        ("MAIL", "not SMTP", Reason::ServerError),
    ];
    for (step, says, reason) in cases {
        server.rule(step, Answer::Say(says));
        let failure = send_one(&email).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{step} {says}: {failure}");
        assert!(says == "not SMTP" || failure.detail.contains(says), "{step} {says}: {failure}");
        server.forget_rules();
    }
    assert!(server.mails().is_empty());
    send_one(&email).await.unwrap();
}

#[tokio::test]
async fn what_the_server_says_is_quoted_on_one_short_line() {
    let (server, email) = plain().await;
    server.rule("MAIL", Answer::Say("550-first\r\n550-\u{1b}[31msecond\u{7}\r\n550 third"));
    let detail = send_one(&email).await.unwrap_err().detail;
    assert!(detail.contains("first") && detail.contains("third"), "{detail}");
    assert!(!detail.contains(char::is_control), "{detail:?}");
    let long: &str = Box::leak(format!("550 {}", "x".repeat(800)).into_boxed_str());
    server.rule("MAIL", Answer::Say(long));
    assert!(send_one(&email).await.unwrap_err().detail.len() <= 300);
}

#[tokio::test]
async fn a_connection_that_breaks_delivers_nothing() {
    let (server, email) = plain().await;
    for step in ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "IN DATA", "."] {
        server.rule(step, Answer::HangUp);
        let large = text("title", &"<p>line</p>\r\n".repeat(20_000));
        let failure = send(&email, &notification("n1"), &large).await.unwrap_err();
        assert!(failure.reason.may_pass(), "{step}: {failure:?}");
        server.forget_rules();
    }
    assert!(server.mails().is_empty());
    send_one(&email).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let all =
        json!({"server": address, "tls": "none", "from": "a@b.example", "to": ["c@d.example"]});
    let failure = send_one(&open(all).unwrap()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::Unreachable);
    assert!(
        failure.detail.starts_with(&address) && failure.detail.contains("refused"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_server_that_is_silent_is_left_to_the_callers_patience() {
    let (server, email) = plain().await;
    server.rule(".", Answer::Sleep);
    let (notification, text) = (notification("n1"), text("t", "b"));
    let message = Message { notification: &notification, text: &text };
    {
        let sending = email.send(&message);
        tokio::pin!(sending);
        while !server.heard().iter().any(|line| line == ".") {
            let moment = std::time::Duration::from_millis(10);
            assert!(tokio::time::timeout(moment, &mut sending).await.is_err());
        }
    }
    assert!(server.mails().is_empty());
    // Once it has said 250, nothing that it says or does not say takes it back.
    server.forget_rules();
    server.rule("QUIT", Answer::Sleep);
    send_one(&email).await.unwrap();
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn some_recipients_are_refused() {
    let (server, email) = plain().await;
    server.rule("RCPT TO:<second@example.com>", Answer::Say("450 4.2.0 greylisted"));
    let failure = send_one(&email).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ServerError);
    let text = "1 of 2 were refused, such as second@example.com: 450 4.2.0 greylisted";
    assert_eq!(failure.detail, text);
    assert_eq!(server.mails()[0].to, ["ops@example.com"]);
    // It is tried again for those who do not have it.
    server.forget_rules();
    send_one(&email).await.unwrap();
    assert_eq!(server.mails()[1].to, ["second@example.com"]);
    // The next message is for all.
    send(&email, &notification("n2"), &Text::default()).await.unwrap();
    assert_eq!(server.mails()[2].to.len(), 2);
    server.rule("RCPT TO:<second@example.com>", Answer::Say("550 5.1.1 unknown"));
    let failure = send(&email, &notification("n3"), &Text::default()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ClientError, "trying again would change nothing");
    assert_eq!(server.mails()[3].to, ["ops@example.com"]);
}

#[tokio::test]
async fn what_is_wrong_is_said_at_load() {
    let server = Server::start(Tls::None, None).await;
    let said = |more: Value| open(plain_settings(&server, more)).unwrap_err();
    assert!(said(json!({"server": "host:none"})).contains("`server: host:none` is none"));
    assert!(said(json!({"server": ""})).contains("write a host"));
    assert!(said(json!({"from": "nobody"})).contains("`nobody` is no e-mail address"));
    assert!(said(json!({"to": ["a@b.example\r\nRCPT TO:<c@d.example>"]})).contains("is no e-mail"));
    assert!(said(json!({"to": ["jürgen@müller.example"]})).contains("is not ASCII"));
    assert!(said(json!({"to": []})).contains("`to` names nobody"));
    assert!(said(json!({"user": "alice"})).contains("belong together"));
    let lost = json!({"tls": "starttls", "ca": "/no/such/file"});
    assert!(said(lost).contains("`ca: /no/such/file` cannot be read"));
    let key = json!({"tls": "starttls", "ca": server.ca().with_file_name("ca.key")});
    assert!(said(key).contains("holds no certificates"));
    let open_secret = json!({"server": "mail.example.com", "user": "a", "password": "s3cret"});
    let text = said(open_secret);
    assert!(text.contains("in the clear") && !text.contains("s3cret"), "{text}");
    for loopback in ["localhost", "127.0.0.1:25", "[::1]:25", "::1"] {
        let more = json!({"server": loopback, "user": "a", "password": "b"});
        open(plain_settings(&server, more)).unwrap();
    }
    let unknown = plain_settings(&server, json!({"port": 25}));
    assert!(serde_json::from_value::<Settings>(unknown).is_err());
}
