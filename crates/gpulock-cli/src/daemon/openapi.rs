//! The document of the API (OpenAPI 3.1), made from the routes themselves.
//!
//! For the author of a route:
//!
//! 1. Write `#[utoipa::path(get, path = "/api/v1/leases", tag = "leases", responses((status = 200, body = …)))]`
//!    above `async fn leases(State(api): State<Api>, query: Query<…>) -> Result<Json<…>, Problem>`.
//! 2. Take [`Json`](super::input::Json), [`Path`](super::input::Path) and
//!    [`Query`](super::input::Query) of this crate, name `params(…)` and `request_body = …`, and
//!    take [`Caller`](super::audit::Caller) for the audit line of what changes something.
//! 3. Name only answers of the route's own (200, 201, its 404 and 409); those that the server adds
//!    to every route of its kind are added here ([`shared_answers`]).
//! 4. Register it: `OpenApiRouter::<Api>::default().routes(routes!(leases))`, and extend
//!    [`PARTS`] by the function that gives this router's document.
//! 5. `GPULOCK_UPDATE_REFERENCE=1 scripts/test reference` writes `docs/reference/openapi.json`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::Response as Answer;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::tag::Tag;
use utoipa::openapi::{
    Components, Content, Info, License, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
    SecurityRequirement, Server,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::api;
use super::guard;
use super::health;
use super::problem::{self, Document, Kind};

/// The documents of all routers with routes of the API. A route that is in none of them is a
/// route that nobody finds.
const PARTS: [fn() -> OpenApi; 2] =
    [|| health::routes().into_openapi(), || api::routes().into_openapi()];

const SECURITY: &str = "bearer";

const ABOUT: &str = "\
Asks and steers the leases of GPUs. Times are seconds since the Unix epoch on the store's clock, \
spans are seconds. What others than this server have changed shows within a quarter of a second. \
Errors are problem documents (RFC 9457) with a `hint`. Where the server has \
tokens, asking needs the role `read` and changing the role `operate`; without tokens it answers \
its own host alone and asks for none.";

const TAGS: [(&str, &str); 8] = [
    ("leases", "Leases for callers who do without the library."),
    ("pools", "Who holds, who waits, and what happened."),
    ("monitoring", "How the lock is doing; paths and names of the older system."),
    ("heartbeats", "Signs of life of tasks, with or without a GPU."),
    ("monitor", "The monitor and its levels."),
    ("alerts", "What is wrong, who has it in hand, and who was not told."),
    (
        "store",
        "What the library asks where its store is `http://…`. Other clients use the leases above.",
    ),
    ("server", "The server itself."),
];

/// The page of the documentation: it needs styles beside its elements and pictures in them.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

static AS_JSON: LazyLock<String> = LazyLock::new(as_json);

/// The whole document.
pub(crate) fn document() -> OpenApi {
    let parts = PARTS.iter().map(|part| part());
    finished(parts.fold(OpenApi::default(), OpenApi::merge_from))
}

/// The whole document as it is committed and served.
pub(crate) fn as_json() -> String {
    // Only keys that are no text could make this fail, and there are none.
    document().to_pretty_json().unwrap_or_default()
}

/// `/openapi.json`, and `/docs` which shows it without asking any other server.
pub(crate) fn routes() -> Router {
    let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    let page = Router::from(page).layer(axum::middleware::map_response(as_page));
    page.route("/openapi.json", get(served))
}

async fn served() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], AS_JSON.as_str()).into_response()
}

async fn as_page(mut answer: Response) -> Response {
    if answer.status() == StatusCode::NOT_FOUND {
        return problem::unknown_path().await.into_response();
    }
    let policy = HeaderValue::from_static(PAGE_POLICY);
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}

/// Adds what is the same for every route.
fn finished(parts: OpenApi) -> OpenApi {
    let mut license = License::new("MIT OR Apache-2.0");
    license.identifier = Some("MIT OR Apache-2.0".to_owned());
    let mut info = Info::new("gpulock", env!("CARGO_PKG_VERSION"));
    info.description = Some(ABOUT.to_owned());
    info.license = Some(license);
    let tag = |(name, about): &(&str, &str)| {
        let mut tag = Tag::new(name);
        tag.description = Some((*about).to_owned());
        tag
    };
    let mut whole = OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .tags(Some(TAGS.iter().map(tag).collect::<Vec<_>>()))
        .paths(parts.paths)
        .components(Some(shared(parts.components.unwrap_or_default())))
        .build();
    for (path, item) in &mut whole.paths.paths {
        for (method, operation) in operations(item) {
            complete(path, &method, operation);
        }
    }
    whole
}

/// What answers refer to.
fn shared(mut components: Components) -> Components {
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.security_schemes.insert(SECURITY.to_owned(), scheme.into());
    components.schemas.insert(Document::name().into_owned(), Document::schema());
    let mut below = Vec::new();
    Document::schemas(&mut below);
    components.schemas.extend(below);
    for status in Kind::ALL.iter().map(|kind| kind.status()) {
        components.responses.insert(name(status), RefOr::T(problem(status)));
    }
    components
}

fn problem(status: StatusCode) -> Answer {
    let titles = Kind::ALL.iter().filter(|kind| kind.status() == status).map(|kind| kind.title());
    let about = titles.collect::<Vec<_>>().join(", or: ");
    let schema = Ref::from_schema_name(Document::name());
    let content = Content::new(Some(schema));
    ResponseBuilder::new()
        .description(format!("{about}."))
        .content(problem::MEDIA_TYPE, content)
        .build()
}

fn name(status: StatusCode) -> String {
    format!("problem-{}", status.as_u16())
}

fn complete(path: &str, method: &Method, operation: &mut Operation) {
    if !guard::is_always_free(path) {
        let none = SecurityRequirement::default();
        let token = SecurityRequirement::new::<_, [&str; 0], &str>(SECURITY, []);
        operation.security.get_or_insert_with(|| vec![none, token]);
    }
    for status in shared_answers(path, method, operation) {
        let answer = RefOr::Ref(Ref::new(format!("#/components/responses/{}", name(status))));
        operation.responses.responses.entry(status.as_str().to_owned()).or_insert(answer);
    }
}

/// The problems that the server itself may answer on this route.
fn shared_answers(path: &str, method: &Method, operation: &Operation) -> BTreeSet<StatusCode> {
    let mut answers = BTreeSet::from([
        StatusCode::BAD_REQUEST,
        StatusCode::METHOD_NOT_ALLOWED,
        StatusCode::MISDIRECTED_REQUEST,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
    ]);
    if !guard::is_always_free(path) {
        answers.extend([StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS]);
    }
    if path.contains('{') {
        answers.insert(StatusCode::NOT_FOUND);
    }
    if operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
        answers.insert(StatusCode::UNPROCESSABLE_ENTITY);
    }
    if guard::changes(method) {
        answers.extend([StatusCode::FORBIDDEN, StatusCode::UNSUPPORTED_MEDIA_TYPE]);
    }
    if operation.request_body.is_some() {
        answers.extend([
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ]);
    }
    answers
}

/// The operations of a path with their methods.
pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::PATCH, &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
