//! E-mail over SMTP.
//!
//! One message is one mail to all recipients: plain text and HTML. It is delivered when the server has
//! answered the whole of it with 250 (RFC 5321, section 4.2.5,
//! <https://www.rfc-editor.org/rfc/rfc5321>). Whom the server took the mail for does not get it again
//! when it is tried again for the others.

mod conversation;
mod letter;
mod plain;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use serde::Deserialize;

use self::conversation::{Credentials, Peer, Refused};
use super::Around;
use crate::channel::{Channel, Failure, Message, Reason};
use crate::secret::Secret;
use crate::text::Markup;

/// Of how many messages it is remembered who has them already.
const REMEMBERED: usize = 64;

/// Who sends what to whom by which server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The server, as HOST or HOST:PORT. The port is 587 with `starttls`, 465 with `implicit`, else 25.
    server: String,
    /// How the connection is kept secret.
    #[serde(default)]
    tls: Tls,
    /// Certificates (PEM) of the authorities that may vouch for the server; not set: those of this
    /// machine.
    #[serde(default)]
    ca: Option<PathBuf>,
    /// Who sends, for a server that wants to know.
    #[serde(default)]
    user: Option<String>,
    /// The user's password.
    #[serde(default)]
    password: Option<Secret>,
    /// The sender: `gpulock <gpulock@example.com>`.
    from: String,
    /// Those who get it.
    to: Vec<String>,
    /// Those who get a copy.
    #[serde(default)]
    cc: Vec<String>,
}

/// How a connection is kept secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tls {
    /// It begins in the clear and must then become TLS (RFC 3207); nothing is sent before.
    #[default]
    Starttls,
    /// It is TLS from the beginning (RFC 8314).
    Implicit,
    /// It stays in the clear; no password is sent that way to another machine.
    None,
}

impl Settings {
    /// Checks addresses, and that TLS can be set up. Nobody is asked.
    ///
    /// # Errors
    /// What is wrong.
    pub fn open(&self, _around: &Around) -> Result<Email, String> {
        let (host, port) = self.place()?;
        if self.user.is_some() != self.password.is_some() {
            return Err("`user` and `password` belong together; set both, or none".to_owned());
        }
        if self.password.is_some() && self.tls == Tls::None && !is_loopback(&host) {
            return Err(format!(
                "`tls: none` would send the password to {host} in the clear; use starttls or implicit"
            ));
        }
        if self.tls == Tls::None && self.ca.is_some() {
            return Err(
                "`ca` without TLS checks nothing; remove one of `ca` and `tls: none`".into()
            );
        }
        if self.to.is_empty() {
            return Err("`to` names nobody; list at least one address".to_owned());
        }
        let mailboxes = |names: &[String]| -> Result<Vec<_>, _> {
            names.iter().map(|name| mailbox(name)).collect()
        };
        let (to, cc) = (mailboxes(&self.to)?, mailboxes(&self.cc)?);
        let from = mailbox(&self.from)?;
        let opened =
            Email { settings: self.clone(), host, port, from, to, cc, served: Mutex::default() };
        opened.tls().map_err(|failure| failure.detail)?;
        Ok(opened)
    }

    fn place(&self) -> Result<(String, u16), String> {
        let server = self.server.trim();
        let standard = match self.tls {
            Tls::Starttls => 587,
            Tls::Implicit => 465,
            Tls::None => 25,
        };
        let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None if server.parse::<Ipv6Addr>().is_ok() => (server, None),
            None => server.split_once(':').map_or((server, None), |(h, port)| (h, Some(port))),
        };
        let wrong = || {
            format!(
                "`server: {server}` is none; write a host, or HOST:PORT such as mail.example.com:587"
            )
        };
        let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && c != '/');
        let port = port.map_or(Ok(standard), |port| port.parse().map_err(|_| wrong()))?;
        if is_host && port > 0 { Ok((host.to_owned(), port)) } else { Err(wrong()) }
    }
}

/// E-mail over SMTP.
#[derive(Debug)]
pub struct Email {
    settings: Settings,
    host: String,
    port: u16,
    from: Mailbox,
    to: Vec<Mailbox>,
    cc: Vec<Mailbox>,
    /// Who has which message already, although others do not have it yet.
    served: Mutex<VecDeque<(String, Vec<Address>)>>,
}

#[async_trait]
impl Channel for Email {
    fn kind(&self) -> &'static str {
        "email"
    }

    fn markup(&self) -> Markup {
        Markup::Html
    }

    async fn send(&self, message: &Message<'_>) -> Result<(), Failure> {
        let letter = letter::write(self, message)?;
        let served = self.served(&message.notification.id);
        let recipients = self.recipients(&served);
        let peer = self.peer()?;
        let mut conversation = peer.begin().await?;
        let delivered = conversation.deliver(&self.from.email, &recipients, &letter).await;
        conversation.end().await;
        let refused = delivered?;
        if refused.is_empty() {
            return Ok(());
        }
        let is_refused = |one: &Address| refused.iter().any(|refused| refused.address == *one);
        let have_it = recipients.iter().filter(|one| !is_refused(one)).cloned().collect();
        self.remember(&message.notification.id, have_it);
        Err(in_part(&refused, self.recipients(&[]).len()))
    }
}

impl Email {
    fn recipients(&self, but: &[Address]) -> Vec<Address> {
        let mut recipients: Vec<Address> = Vec::new();
        for mailbox in self.to.iter().chain(&self.cc) {
            if !recipients.contains(&mailbox.email) && !but.contains(&mailbox.email) {
                recipients.push(mailbox.email.clone());
            }
        }
        recipients
    }

    fn peer(&self) -> Result<Peer, Failure> {
        let local = |detail| Failure::new(Reason::Local, detail);
        let password = self.settings.password.as_ref().map(Secret::reveal).transpose();
        let credentials = self.settings.user.clone().zip(password.map_err(local)?);
        let credentials = credentials.map(|(user, password)| Credentials { user, password });
        Ok(Peer {
            host: self.host.clone(),
            port: self.port,
            starts_in_tls: self.settings.tls == Tls::Implicit,
            tls: self.tls()?,
            credentials,
        })
    }

    fn tls(&self) -> Result<Option<TlsParameters>, Failure> {
        if self.settings.tls == Tls::None {
            return Ok(None);
        }
        let local = |detail| Failure::new(Reason::Local, detail);
        let mut tls = TlsParameters::builder(self.host.clone());
        if let Some(file) = &self.settings.ca {
            let shown = file.display();
            let pem = std::fs::read(file)
                .map_err(|error| local(format!("`ca: {shown}` cannot be read: {error}")))?;
            let begins = pem.windows(27).any(|text| text == b"-----BEGIN CERTIFICATE-----");
            let authorities = Certificate::from_pem(&pem).ok().filter(|_| begins);
            let authorities = authorities
                .ok_or_else(|| local(format!("`ca: {shown}` holds no certificates in PEM form")))?;
            tls = tls.certificate_store(CertificateStore::None).add_root_certificate(authorities);
        }
        tls.build().map(Some).map_err(|error| {
            local(format!("TLS cannot be set up ({error}); install ca-certificates, or set `ca`"))
        })
    }

    fn served(&self, id: &str) -> Vec<Address> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = served.iter().filter(|(known, _)| known == id);
        of_it.flat_map(|(_, addresses)| addresses.iter().cloned()).collect()
    }

    fn remember(&self, id: &str, have_it: Vec<Address>) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.push_back((id.to_owned(), have_it));
        let surplus = served.len().saturating_sub(REMEMBERED);
        served.drain(..surplus);
    }
}

/// Some do not have it. It is tried again for those who were put off.
fn in_part(refused: &[Refused], of: usize) -> Failure {
    let first = refused.iter().find(|one| one.is_put_off).unwrap_or(&refused[0]);
    let reason = if first.is_put_off { Reason::ServerError } else { Reason::ClientError };
    let text = match refused.len() {
        1 if of == 1 => format!("{} was refused: {}", first.address, first.said),
        count => format!("{count} of {of} were refused, such as {}: {}", first.address, first.said),
    };
    Failure::new(reason, text)
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    let mailbox: Mailbox =
        text.parse().ok().filter(|_| !text.contains(char::is_control)).ok_or_else(|| {
            format!("`{shown}` is no e-mail address; write NAME <NAME@example.com>")
        })?;
    if AsRef::<str>::as_ref(&mailbox.email).is_ascii() {
        return Ok(mailbox);
    }
    Err(format!("the address `{shown}` is not ASCII; write its domain as `xn--…`"))
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
