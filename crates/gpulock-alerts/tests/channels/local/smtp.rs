//! A small SMTP server that keeps to RFC 5321 and says what a test wants it to say.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gpulock_testbed::Certificates;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    None,
    Starttls,
    Implicit,
}

/// What it does instead of what it should.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Say(&'static str),
    HangUp,
    /// Nothing, for ever.
    Sleep,
}

/// A mail that it took.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    /// Without the dots that were doubled.
    pub(super) data: String,
    pub(super) was_encrypted: bool,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    folder: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Tls,
    acceptor: TlsAcceptor,
    /// Who may send; everybody if there is nobody.
    user: Option<(&'static str, &'static str)>,
    rules: Mutex<Vec<(&'static str, Answer)>>,
    mails: Mutex<Vec<Mail>>,
    said: Mutex<Vec<String>>,
}

impl Server {
    pub(super) async fn start(tls: Tls, user: Option<(&'static str, &'static str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let acceptor = acceptor(folder.path());
        let (rules, mails, said) = Default::default();
        let shared = Arc::new(Shared { tls, acceptor, user, rules, mails, said });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).meet(stream));
            }
        });
        Self { address, folder, shared }
    }

    /// From now on it answers so to lines that begin like this; `GREETING` and `.` are the beginning
    /// and the end of a mail.
    pub(super) fn rule(&self, line: &'static str, answer: Answer) {
        self.shared.rules.lock().unwrap().push((line, answer));
    }

    pub(super) fn forget_rules(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    pub(super) fn mails(&self) -> Vec<Mail> {
        self.shared.mails.lock().unwrap().clone()
    }

    /// All that clients said; of mails only the dot at their end.
    pub(super) fn heard(&self) -> Vec<String> {
        self.shared.said.lock().unwrap().clone()
    }

    /// The certificate of the authority that vouches for it.
    pub(super) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let certificates = Certificates::create(folder);
    let chain = CertificateDer::from_pem_file(certificates.certificate("server")).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.key("server")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![chain], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// How a conversation in the clear ended.
enum Over {
    Done,
    ToTls,
}

impl Shared {
    async fn meet(self: Arc<Self>, stream: TcpStream) {
        if self.tls == Tls::Implicit {
            if let Ok(stream) = self.acceptor.accept(stream).await {
                self.talk(&mut BufReader::new(stream), true, true).await;
            }
            return;
        }
        let mut stream = BufReader::new(stream);
        if let Some(Over::ToTls) = self.talk(&mut stream, false, true).await
            && let Ok(stream) = self.acceptor.accept(stream.into_inner()).await
        {
            self.talk(&mut BufReader::new(stream), true, false).await;
        }
    }

    /// `None` when the connection breaks.
    async fn talk<S>(
        &self,
        stream: &mut BufReader<S>,
        is_encrypted: bool,
        greets: bool,
    ) -> Option<Over>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut session = Session { is_encrypted, ..Session::default() };
        if greets {
            self.answer(stream, "GREETING", "220 ready").await?;
        }
        loop {
            let line = read_line(stream).await?;
            self.said.lock().unwrap().push(line.clone());
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let usual = self.usual(&mut session, &verb, &line);
            self.answer(stream, &line, &usual).await?;
            let is_overruled = self.rule_for(&line).is_some();
            match verb.as_str() {
                "QUIT" => return Some(Over::Done),
                "STARTTLS" if usual.starts_with("220") => return Some(Over::ToTls),
                "DATA" if usual.starts_with("354") && !is_overruled => {
                    session.mail.data = self.data(stream).await?;
                    self.said.lock().unwrap().push(".".to_owned());
                    let said = self.answer(stream, ".", "250 taken").await?;
                    if said.starts_with("250") {
                        self.mails.lock().unwrap().push(session.mail.clone());
                    }
                    session.mail.to.clear();
                }
                "RCPT" if usual.starts_with("250") && !is_overruled => {
                    session.mail.to.push(address_in(&line));
                }
                _ => {}
            }
        }
    }

    /// What it says to a line if no rule says otherwise.
    fn usual(&self, session: &mut Session, verb: &str, line: &str) -> String {
        let may_send = self.user.is_none() || session.is_known;
        let is_secret = session.is_encrypted || self.tls == Tls::None;
        let answer = match verb {
            "EHLO" if self.tls == Tls::Starttls && !session.is_encrypted => {
                "250-here\r\n250 STARTTLS"
            }
            "EHLO" if self.user.is_some() => "250-here\r\n250 AUTH LOGIN PLAIN",
            "EHLO" => "250 here",
            "STARTTLS" if self.tls == Tls::Starttls && !session.is_encrypted => "220 go ahead",
            _ if self.tls == Tls::Starttls && !is_secret && verb != "QUIT" => "530 STARTTLS first",
            "AUTH" if self.knows(line) => {
                session.is_known = true;
                "235 welcome"
            }
            "AUTH" => "535 5.7.8 who are you",
            "MAIL" | "RCPT" | "DATA" if !may_send => "530 5.7.0 log in first",
            "MAIL" => {
                session.mail = Mail { from: address_in(line), ..Mail::new(session.is_encrypted) };
                "250 ok"
            }
            "RCPT" if session.mail.from.is_empty() => "503 MAIL first",
            "RCPT" => "250 ok",
            "DATA" if session.mail.to.is_empty() => "503 RCPT first",
            "DATA" => "354 speak",
            "QUIT" => "221 bye",
            _ => "500 what?",
        };
        answer.to_owned()
    }

    fn knows(&self, line: &str) -> bool {
        let Some((user, password)) = self.user else { return false };
        let proof = line.strip_prefix("AUTH PLAIN ").and_then(|proof| STANDARD.decode(proof).ok());
        proof == Some(format!("\0{user}\0{password}").into_bytes())
    }

    fn rule_for(&self, line: &str) -> Option<Answer> {
        let rules = self.rules.lock().unwrap();
        rules
            .iter()
            .rev()
            .find(|(start, _)| line.starts_with(start))
            .map(|(_, answer)| answer.clone())
    }

    async fn answer<S>(&self, stream: &mut BufReader<S>, line: &str, usual: &str) -> Option<String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let text = match self.rule_for(line) {
            None => usual.to_owned(),
            Some(Answer::Say(text)) => text.to_owned(),
            Some(Answer::HangUp) => return None,
            Some(Answer::Sleep) => std::future::pending().await,
        };
        stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        Some(text)
    }

    /// A mail, as far as the dot alone on its line.
    async fn data<S>(&self, stream: &mut BufReader<S>) -> Option<String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut data = String::new();
        loop {
            let line = read_line(stream).await?;
            if matches!(self.rule_for("IN DATA"), Some(Answer::HangUp)) {
                return None;
            }
            assert!(line.len() <= 998 && line.is_ascii(), "{line:?}");
            if line == "." {
                return Some(data);
            }
            data += line.strip_prefix('.').unwrap_or(&line);
            data += "\r\n";
        }
    }
}

#[derive(Default)]
struct Session {
    is_encrypted: bool,
    is_known: bool,
    mail: Mail,
}

impl Default for Mail {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Mail {
    fn new(was_encrypted: bool) -> Self {
        Self { from: String::new(), to: Vec::new(), data: String::new(), was_encrypted }
    }
}

/// A line that ends as it must.
async fn read_line<S>(stream: &mut BufReader<S>) -> Option<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut line = String::new();
    if stream.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    line.strip_suffix("\r\n").map(str::to_owned)
}

fn address_in(line: &str) -> String {
    let address = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    address.unwrap_or_default().0.to_owned()
}
