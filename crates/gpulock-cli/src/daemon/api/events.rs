//! What happens, as it happens: server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use gpulock::core::PoolName;
use gpulock::store::{Cursor, Entry};
use tokio::sync::OwnedSemaphorePermit;

use super::pools::OfPool;
use super::{Api, failed, invalid, named_pool, too_many};
use crate::daemon::input::Query;
use crate::daemon::problem::Problem;

/// How many entries are read at once.
const BATCH: usize = 200;

/// Between two comments that keep the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What happens in a pool, as it happens.
///
/// Each event has the `id` of its place in the journal, the name of what changed as `event`, and
/// as `data` what `gpulock history --json` prints of it. A reader that comes back with
/// `Last-Event-ID` gets what it has missed; if the journal no longer has all of that, a `gap`
/// comes first.
#[utoipa::path(get, path = "/api/v1/events", tag = "pools",
    params(OfPool, ("Last-Event-ID" = Option<String>, Header, description = "Begin after this event.")),
    responses((status = 200, description = "A stream that does not end.", body = String, content_type = "text/event-stream")))]
pub(crate) async fn events(
    State(api): State<Api>,
    Query(of): Query<OfPool>,
    headers: HeaderMap,
) -> Result<
    ([(HeaderName, &'static str); 1], Sse<impl Stream<Item = Result<Event, Infallible>>>),
    Problem,
> {
    let pool = named_pool(&api, of.pool.as_deref())?;
    let after = match headers.get("last-event-id") {
        None => api.journal.end(&pool).await.map_err(failed)?,
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            id.ok_or_else(|| invalid("`Last-Event-ID` is not the id of an event"))?
        }
    };
    let place = api.waits.listen().ok_or_else(too_many)?;
    let reader = Reader { api, pool, after, _place: place };
    let batches = stream::unfold(reader, |mut reader| async {
        let batch = reader.next().await?;
        Some((stream::iter(batch.into_iter().map(Ok)), reader))
    });
    let answer = Sse::new(batches.flatten()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // Proxies that collect answers before they hand them on would hold events back.
    Ok(([(HeaderName::from_static("x-accel-buffering"), "no")], answer))
}

/// One who listens.
struct Reader {
    api: Api,
    pool: PoolName,
    after: Cursor,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// What has happened since the last call, as soon as something has; `None` when the daemon
    /// ends.
    async fn next(&mut self) -> Option<Vec<Event>> {
        let mut ends = self.api.journal.ends();
        loop {
            // A store that does not answer now is asked again with the next news, or a little
            // later.
            if let Ok(followed) = self.api.store.follow(&self.pool, self.after, BATCH).await {
                let gap = (!followed.is_gapless).then(|| Event::default().event("gap").data("{}"));
                match followed.entries.last() {
                    Some(last) => self.after = last.cursor,
                    // The store has lost what it had written, and now writes smaller places.
                    None if gap.is_some() => {
                        self.after = self.api.journal.end(&self.pool).await.unwrap_or(self.after);
                    }
                    None => {}
                }
                if gap.is_some() || !followed.entries.is_empty() {
                    return Some(
                        gap.into_iter().chain(followed.entries.iter().map(sent)).collect(),
                    );
                }
            }
            let pool = &self.pool;
            let after = self.after;
            tokio::select! {
                news = ends.wait_for(|ends| ends.get(pool).is_some_and(|end| *end > after)) => {
                    if news.is_err() { return None; }
                }
                () = tokio::time::sleep(KEEP_ALIVE) => {}
                () = self.api.shutdown.cancelled() => return None,
            }
        }
    }
}

fn sent(entry: &Entry) -> Event {
    let data = serde_json::to_value(&entry.event).unwrap_or_default();
    let name = data["event"].as_str().unwrap_or("event").to_owned();
    Event::default().id(entry.cursor.to_string()).event(name).data(data.to_string())
}
