//! Who may ask what: one check in front of every route, also of those that do not exist.
//!
//! In this order: the name in `Host`; the origin of a changing request; the token and its
//! role; the content type of a changing request. What handlers need of it is the
//! [`Caller`](super::audit::Caller).

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::body::HttpBody;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use gpulock::config::{Role, Server};

use super::audit::{self, Caller, CallerName};
use super::auth::Tokens;
use super::failures::Failures;
use super::hosts::Place;
use super::input::not_json;
use super::problem::{Kind, Problem};
use crate::exit::Failure;

/// Paths that are read without a token.
const FREE: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Free too, unless `server.protect_metrics` is set.
const METRICS: &str = "/metrics";

/// The guard of a running server. Its policy can be replaced at any time.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    policy: Arc<RwLock<Arc<Policy>>>,
    failures: Arc<Failures>,
}

/// What the configuration says about who may ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    tokens: Tokens,
    hosts: Vec<Place>,
    protect_metrics: bool,
}

impl Policy {
    /// Reads it, with the files of tokens. Beside it comes what its owner should know.
    ///
    /// # Errors
    /// A token that cannot be read.
    pub(crate) fn load(server: &Server) -> Result<(Self, Vec<String>), Failure> {
        let (tokens, mut warnings) = Tokens::load(&server.tokens)?;
        let mut hosts = Vec::new();
        for host in &server.allowed_hosts {
            match Place::read(host) {
                Some(place) => hosts.push(place),
                None => warnings.push(format!(
                    "{host:?} in server.allowed_hosts is no host name and is passed over\n\
                     hint: write it as it stands in a Host header, such as gpu1.example.org"
                )),
            }
        }
        Ok((Self { tokens, hosts, protect_metrics: server.protect_metrics }, warnings))
    }

    /// Whether `path` can be read without a token.
    pub(crate) fn is_free(&self, path: &str) -> bool {
        is_always_free(path) || path == METRICS && !self.protect_metrics
    }
}

/// Whether `path` can be read without a token in every configuration.
pub(crate) fn is_always_free(path: &str) -> bool {
    FREE.contains(&path)
}

impl Guard {
    /// A guard with this policy.
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy: Arc::new(RwLock::new(Arc::new(policy))),
            failures: Arc::new(Failures::default()),
        }
    }

    /// Puts another policy in force, from the next request on.
    pub(crate) fn replace(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn admit(&self, request: &Request) -> Result<Caller, Problem> {
        let policy = self.policy();
        let place = policy.place(request)?;
        let changes = changes(request.method());
        if changes {
            own_page(request.headers(), place.as_ref())?;
        }
        let caller = self.caller(&policy, request)?;
        if changes {
            if caller.role != Role::Operate {
                return Err(read_only(&caller, request));
            }
            json_alone(request)?;
        }
        Ok(caller)
    }

    fn caller(&self, policy: &Policy, request: &Request) -> Result<Caller, Problem> {
        let peer = peer(request);
        if policy.tokens.is_empty() {
            return Ok(Caller { role: Role::Operate, name: CallerName::Anybody, peer });
        }
        if !changes(request.method()) && policy.is_free(request.uri().path()) {
            return Ok(Caller { role: Role::Read, name: CallerName::Anybody, peer });
        }
        let Some(shown) = request.headers().get(header::AUTHORIZATION) else {
            let problem = Problem::new(Kind::NotAuthenticated, "the request has no token");
            return Err(problem.hint("send the header `Authorization: Bearer TOKEN`"));
        };
        let bearer = shown.to_str().ok().and_then(secret);
        match bearer.and_then(|secret| policy.tokens.bearer(secret)) {
            Some((role, name)) => Ok(Caller { role, name, peer }),
            None => Err(self.wrong_token(peer)),
        }
    }

    fn wrong_token(&self, peer: SocketAddr) -> Problem {
        match self.failures.count(peer.ip(), Instant::now()) {
            None => {
                tracing::warn!(target: audit::TARGET, %peer, "refused: wrong token");
                Problem::new(Kind::NotAuthenticated, "the server does not know this token")
                    .hint("send one of server.tokens as `Authorization: Bearer TOKEN`")
            }
            Some(seconds) => {
                Problem::new(Kind::TooManyRequests, "too many wrong tokens came from this address")
                    .hint("correct the token, then try again")
                    .retry_after(seconds)
            }
        }
    }
}

/// The check, as a layer around all routes: `from_fn_with_state(guard, check)`.
pub(crate) async fn check(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response {
    match guard.admit(&request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Whether requests of this method may change something. Unknown ones may.
pub(crate) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

impl Policy {
    /// Under which name the server is asked; `None` only from a client of HTTP/1.0.
    fn place(&self, request: &Request) -> Result<Option<Place>, Problem> {
        let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
        let unreadable = || {
            Problem::new(Kind::BadRequest, "the request has no readable Host header")
                .hint("send one header `Host` with the name or address of this server")
        };
        let place = match hosts.as_slice() {
            [] if request.version() < Version::HTTP_11 => None,
            [host] => {
                let place = host.to_str().ok().and_then(Place::read).ok_or_else(unreadable)?;
                Some(self.known(place)?)
            }
            _ => return Err(unreadable()),
        };
        // A target such as `http://name/path` counts more than the header.
        match request.uri().authority() {
            None => Ok(place),
            Some(authority) => Ok(Some(self.known(Place::of(authority).ok_or_else(unreadable)?)?)),
        }
    }

    fn known(&self, place: Place) -> Result<Place, Problem> {
        if place.is_address() || self.hosts.iter().any(|host| host.covers(&place)) {
            return Ok(place);
        }
        let problem = Problem::new(Kind::WrongHost, "this server is not known by that host name");
        Err(problem.hint("ask by address, or add the name to server.allowed_hosts"))
    }
}

/// A browser says which page a request comes from. Other programs say nothing.
fn own_page(headers: &HeaderMap, place: Option<&Place>) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    let is_own_site = matches!(site, None | Some(b"same-origin" | b"none"));
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let is_own_origin = origins.all(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        place.is_some_and(|place| place.is_origin(origin))
    });
    if is_own_site && is_own_origin {
        return Ok(());
    }
    let problem = Problem::new(Kind::ForeignOrigin, "a page of another site sent this request");
    Err(problem.hint("change things from the command line, or from a page of this server"))
}

fn json_alone(request: &Request) -> Result<(), Problem> {
    let is_json = |value: &axum::http::HeaderValue| {
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    };
    let mut types = request.headers().get_all(header::CONTENT_TYPE).iter().peekable();
    let is_untyped = types.peek().is_none();
    // Whether a body is needed at all is the route's to say; its extractor asks for the type.
    let fits = if is_untyped { request.body().is_end_stream() } else { types.all(is_json) };
    if fits { Ok(()) } else { Err(not_json()) }
}

fn read_only(caller: &Caller, request: &Request) -> Problem {
    let (who, peer) = (caller.name, caller.peer);
    let (method, path) = (request.method().as_str(), request.uri().path());
    tracing::warn!(target: audit::TARGET, %who, %peer, ?method, ?path, "refused: may only read");
    Problem::new(Kind::NotAllowed, "this token may read and not change anything")
        .hint("use a token with the role operate")
}

/// The part after `Bearer`.
fn secret(header: &str) -> Option<&str> {
    let (scheme, secret) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

fn peer(request: &Request) -> SocketAddr {
    let known = request.extensions().get::<ConnectInfo<SocketAddr>>();
    known.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |info| info.0)
}
