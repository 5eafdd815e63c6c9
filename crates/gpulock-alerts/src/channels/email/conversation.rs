//! What is said to an SMTP server, and whether its answers mean yes.
//!
//! Every step wants the one code that RFC 5321 (<https://www.rfc-editor.org/rfc/rfc5321>, section
//! 4.3.2) has for its success. So answers that were slipped in before TLS began cannot pass for later
//! ones. lettre writes the commands, doubles leading dots and reads answers; its feature `tracing`,
//! which would log passwords, must stay off.

use std::error::Error as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{self, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Quit, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;

use crate::channel::{Failure, Reason};

/// For each address of the server.
const TO_CONNECT: Duration = Duration::from_secs(10);

/// How long to wait for the answer to QUIT, which changes nothing any more.
const TO_PART: Duration = Duration::from_secs(1);

/// The most that a failure quotes, in characters.
const QUOTED: usize = 300;

/// The server, and how to speak with it.
pub(super) struct Peer {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) starts_in_tls: bool,
    /// `None`: in the clear.
    pub(super) tls: Option<TlsParameters>,
    /// `None`: it does not want to know who sends.
    pub(super) credentials: Option<Credentials>,
}

pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// Who does not get the mail.
pub(super) struct Refused {
    pub(super) address: Address,
    /// For now only.
    pub(super) is_put_off: bool,
    pub(super) said: String,
}

impl Peer {
    /// Connects, secures the connection and logs in.
    pub(super) async fn begin(&self) -> Result<Conversation, Failure> {
        let own_name = ClientId::default();
        let tls_at_once = self.tls.clone().filter(|_| self.starts_in_tls);
        let place = (self.host.as_str(), self.port);
        let connected = AsyncSmtpConnection::connect_tokio1(
            place,
            Some(TO_CONNECT),
            &own_name,
            tls_at_once,
            None,
        );
        let mut connection = connected.await.map_err(|error| self.unreachable(&error))?;
        if let Some(tls) = self.tls.clone().filter(|_| !self.starts_in_tls) {
            if !connection.can_starttls() {
                let text = format!("{} offers no TLS (STARTTLS); nothing was sent", self.shown());
                return Err(Failure::new(Reason::Unreachable, text));
            }
            let secured = connection.starttls(tls, &own_name).await;
            secured.map_err(|error| self.unreachable(&error))?;
        }
        let mut conversation = Conversation { connection, secrets: Vec::new() };
        if let Some(credentials) = &self.credentials {
            conversation.log_in(credentials).await?;
        }
        Ok(conversation)
    }

    fn unreachable(&self, error: &Error) -> Failure {
        let failure = failed(error, Reason::Unreachable, &[]);
        Failure::new(failure.reason, format!("{}: {}", self.shown(), failure.detail))
    }

    fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A connection to a server that listens.
pub(super) struct Conversation {
    connection: AsyncSmtpConnection,
    /// What must not be repeated, should the server do so.
    secrets: Vec<String>,
}

impl Conversation {
    async fn log_in(&mut self, credentials: &Credentials) -> Result<(), Failure> {
        let Credentials { user, password } = credentials;
        self.secrets = vec![
            password.clone(),
            STANDARD.encode(password),
            STANDARD.encode(format!("\0{user}\0{password}")),
        ];
        if self.connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            let text = "the server lets nobody log in by AUTH PLAIN or LOGIN".to_owned();
            return Err(Failure::new(Reason::AuthError, text));
        }
        let credentials = authentication::Credentials::new(user.clone(), password.clone());
        let answer = self.connection.auth(DEFAULT_MECHANISMS, &credentials).await;
        self.expect(235, answer)
    }

    /// Sends the mail to all whom the server takes it for. Back come the others.
    pub(super) async fn deliver(
        &mut self,
        from: &Address,
        recipients: &[Address],
        letter: &[u8],
    ) -> Result<Vec<Refused>, Failure> {
        let answer = self.connection.command(Mail::new(Some(from.clone()), Vec::new())).await;
        self.expect(250, answer)?;
        let mut refused = Vec::new();
        for address in recipients {
            match self.connection.command(Rcpt::new(address.clone(), Vec::new())).await {
                Err(error) if error.status().is_some() && !is_parting(&error) => {
                    let said = failed(&error, Reason::ClientError, &self.secrets).detail;
                    let (address, is_put_off) = (address.clone(), error.is_transient());
                    refused.push(Refused { address, is_put_off, said });
                }
                // 251: it will pass the mail on.
                Ok(answer) if answer.has_code(251) => {}
                answer => self.expect(250, answer)?,
            }
        }
        if refused.len() < recipients.len() {
            let answer = self.connection.command(Data).await;
            self.expect(354, answer)?;
            let answer = self.connection.message(letter).await;
            self.expect(250, answer)?;
        }
        Ok(refused)
    }

    /// Says goodbye. What the server thinks of that is nobody's business.
    pub(super) async fn end(mut self) {
        let _ = tokio::time::timeout(TO_PART, self.connection.command(Quit)).await;
    }

    fn expect(&self, code: u16, answer: Result<Response, Error>) -> Result<(), Failure> {
        match answer {
            Ok(answer) if answer.has_code(code) => Ok(()),
            Ok(answer) => {
                let said = answer.message().collect::<Vec<_>>().join(" ");
                let said = quoted(&format!("{} {said}", answer.code()), &self.secrets);
                let text = format!("the server was expected to say {code}, but said: {said}");
                Err(Failure::new(Reason::ServerError, text))
            }
            Err(error) => Err(failed(&error, Reason::ServerError, &self.secrets)),
        }
    }
}

/// 421: it closes the connection.
fn is_parting(error: &Error) -> bool {
    error.status().is_some_and(|code| u16::from(code) == 421)
}

/// What a failed step means; `otherwise` if the server has not said.
fn failed(error: &Error, otherwise: Reason, secrets: &[String]) -> Failure {
    let source = error.source().map(ToString::to_string);
    let Some(code) = error.status() else {
        let reason = if error.is_timeout() { Reason::ContextDeadlineExceeded } else { otherwise };
        return Failure::new(reason, quoted(&error.to_string(), secrets));
    };
    let reason = match u16::from(code) {
        // RFC 4954, section 6: log in first, too weak, wrong, only with TLS.
        530 | 534 | 535 | 538 => Reason::AuthError,
        _ if error.is_transient() => Reason::ServerError,
        _ => Reason::ClientError,
    };
    let said = format!("{code} {}", source.unwrap_or_default());
    Failure::new(reason, quoted(said.trim_end(), secrets))
}

/// What the other side said, on one line, not too long, and without what we told it in confidence.
fn quoted(text: &str, secrets: &[String]) -> String {
    let hidden = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
    let line = hidden.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(QUOTED).collect()
}
