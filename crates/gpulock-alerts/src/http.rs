//! Asking servers of others, whose addresses come from a configuration.
//!
//! Whoever may write a configuration must not thereby reach what only this machine can reach. So a
//! name is looked up once for each exchange, and the connection goes to those of its addresses that
//! channels may ask; there is no second look-up in which they could change. Nobody is followed to
//! another address, and no proxy of the environment is asked.

mod addresses;
mod answer;
mod names;
mod trouble;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::Resolve;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Method, Request, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::channel::{Failure, Reason};
use crate::secret::Secret;

use addresses::permits;
pub use answer::{Answer, failure_of};
use names::{Guarded, SystemNames};

/// The most of an answer that is read, in bytes. A longer one is cut.
pub const LONGEST_ANSWER: usize = 64 * 1024;

/// How long an exchange takes at most, if nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What an address in a configuration may lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// How long an exchange takes at most, with everything in it.
    pub timeout: Duration,
    /// Also addresses that only this machine or its network can reach.
    pub allow_private: bool,
    /// A file (PEM) with authorities that are trusted besides those of the system.
    pub ca: Option<PathBuf>,
}

/// Asks servers of others. It follows no redirects, reads no more than [`LONGEST_ANSWER`], bounds the
/// time, and refuses addresses that channels must not ask.
#[derive(Clone, Debug)]
pub struct Poster {
    access: Access,
    names: Arc<Guarded>,
    plain: Client,
    /// With certificates, or why there are none: plain HTTP needs none.
    secure: Result<Client, Failure>,
}

impl Default for Access {
    fn default() -> Self {
        Self { timeout: PATIENCE, allow_private: false, ca: None }
    }
}

impl Poster {
    /// One that gives each exchange this long.
    ///
    /// # Errors
    /// If HTTP cannot be set up.
    pub fn new(timeout: Duration, allow_private: bool) -> Result<Self, Failure> {
        Self::with(Access { timeout, allow_private, ca: None })
    }

    /// One that may do this much.
    ///
    /// # Errors
    /// If the file with authorities cannot be used.
    pub fn with(access: Access) -> Result<Self, Failure> {
        Self::resolving(access, Arc::new(SystemNames))
    }

    /// One that looks names up elsewhere than the system does. What is found is checked all the same.
    ///
    /// # Errors
    /// If the file with authorities cannot be used.
    pub fn resolving(access: Access, names: Arc<dyn Resolve>) -> Result<Self, Failure> {
        let names = Arc::new(Guarded { names, allow_private: access.allow_private });
        Self::guarded(access, names)
    }

    /// The same, which also trusts the authorities in this file (PEM), besides those of the system.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn trusting(&self, ca: &Path) -> Result<Self, Failure> {
        let access = Access { ca: Some(ca.to_owned()), ..self.access.clone() };
        Self::guarded(access, Arc::clone(&self.names))
    }

    fn guarded(access: Access, names: Arc<Guarded>) -> Result<Self, Failure> {
        // Fails if a program around us has chosen a provider already: then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let trusted = access.ca.as_deref().map_or(Ok(Vec::new()), authorities)?;
        let client = || builder(&access, &names);
        let failed = |error| Failure::new(Reason::Local, trouble::innermost(&error));
        let plain = client().tls_certs_only([]).build().map_err(failed)?;
        let secure = client().tls_certs_merge(trusted).build().map_err(failed);
        Ok(Self { access, names, plain, secure })
    }

    /// Whether this may be asked, as far as that is known without looking a name up.
    ///
    /// # Errors
    /// If its scheme or its address is refused, or it holds a user or a password.
    pub fn permits(&self, url: &Url) -> Result<(), Failure> {
        permits(url, self.access.allow_private)
    }

    /// Posts a body, with its type and further headers.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::new(Method::POST, url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        self.ask(request).await
    }

    /// Gets what is there.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&self, url: &Url, headers: HeaderMap) -> Result<Answer, Failure> {
        let mut request = Request::new(Method::GET, url.clone());
        *request.headers_mut() = headers;
        self.ask(request).await
    }

    async fn ask(&self, request: Request) -> Result<Answer, Failure> {
        self.permits(request.url())?;
        let client = match request.url().scheme() {
            "https" => self.secure.as_ref().map_err(Failure::clone)?,
            _ => &self.plain,
        };
        let url = request.url().clone();
        let hidden = answer::secrets(&request);
        let failed = |error| trouble::failed(&url, self.access.timeout, &error);
        let mut response = client.execute(request).await.map_err(failed)?;
        let (mut body, mut cut) = (Vec::new(), None);
        while body.len() < LONGEST_ANSWER {
            match response.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(error) => {
                    cut = Some(failed(error));
                    break;
                }
            }
        }
        body.truncate(LONGEST_ANSWER);
        let body = String::from_utf8_lossy(&body).into_owned();
        let headers = response.headers().clone();
        Ok(Answer { status: response.status().as_u16(), headers, body, cut, hidden })
    }
}

/// Reads an address that may hold a secret; what is wrong is told without it.
///
/// # Errors
/// If the file with it cannot be read, or it is no address.
pub fn secret_url(secret: &Secret) -> Result<Url, Failure> {
    let text = secret.reveal().map_err(|error| Failure::new(Reason::Local, error))?;
    text.parse().map_err(|error| {
        let wrong = format!("the URL cannot be read ({error}); write https://HOST/PATH");
        Failure::new(Reason::ClientError, wrong)
    })
}

fn builder(access: &Access, names: &Arc<Guarded>) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("gpulock/", env!("CARGO_PKG_VERSION")))
        .timeout(access.timeout)
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        // Whoever calls decides about every further try.
        .retry(reqwest::retry::never())
        // Messages are rare. On a kept connection one could meet the server hanging up, and would go
        // to an address that was checked long ago.
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::clone(names))
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let shown = path.display();
    let wrong = |text| Failure::new(Reason::Local, text);
    let pem = fs::read(path).map_err(|error| wrong(format!("{shown} cannot be read: {error}")))?;
    let none = || wrong(format!("{shown} holds no certificate (PEM)"));
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| none())?;
    let trusted: Result<Vec<_>, _> = found.iter().map(|der| Certificate::from_der(der)).collect();
    trusted.ok().filter(|trusted| !trusted.is_empty()).ok_or_else(none)
}
