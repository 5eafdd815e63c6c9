//! The book in a store: everybody who changes it reads, steps, and writes if nobody else did in
//! between.

use std::sync::Arc;
use std::time::Duration;

use gpulock::core::Time;
use gpulock::store::{DocumentName, DocumentNews, DocumentSwap, Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::book::Book;

/// Where the book is kept.
const BOOK: DocumentName = DocumentName::fixed("alerts");

/// The form in which it is written. A program that knows only older ones leaves it alone.
const FORMAT: u32 = 1;

/// A larger book is made smaller before it is written, in bytes. Stores keep up to
/// [`gpulock::store::DOCUMENT_CAP`].
const LARGE: usize = 3 << 20;

/// How often somebody else may be first.
const MOST_TRIES: u32 = 20;

/// The book of a store.
#[derive(Debug)]
pub struct Desk {
    store: Arc<dyn Store>,
    /// As it was last read or written.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    book: Arc<Book>,
    version: u64,
}

/// The book as it is written.
#[derive(Serialize, Deserialize)]
struct Sheet<B> {
    format: u32,
    book: B,
}

impl Desk {
    /// The book of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The book as it is now, and the store's time.
    ///
    /// # Errors
    /// If the store does not answer, or the book was written by a newer program.
    pub async fn read(&self) -> Result<(Arc<Book>, Time), StoreError> {
        let mut known = self.known.lock().await;
        let now = self.refresh(&mut known).await?;
        Ok((Arc::clone(&known.book), now))
    }

    /// Changes the book in one step, and writes it if that has changed it. `change` is called again
    /// on the present book if somebody else was first.
    ///
    /// # Errors
    /// If the store does not answer; the step may have been made or not.
    pub async fn step<A>(
        &self,
        mut change: impl FnMut(&mut Book, Time) -> A,
    ) -> Result<A, StoreError> {
        let mut known = self.known.lock().await;
        let mut now = self.refresh(&mut known).await?;
        for attempt in 1.. {
            let mut book = (*known.book).clone();
            let answer = change(&mut book, now);
            if book == *known.book {
                return Ok(answer);
            }
            let text = self.written(&mut book)?;
            match self.store.swap_document(&BOOK, known.version, &text).await? {
                DocumentSwap::Written { version, .. } => {
                    *known = Known { book: Arc::new(book), version };
                    return Ok(answer);
                }
                DocumentSwap::Conflict(_) if attempt == MOST_TRIES => break,
                DocumentSwap::Conflict(present) => {
                    now = present.now;
                    *known = self.understood(&present.text, present.version)?;
                }
            }
            tokio::time::sleep(Duration::from_millis(5) * attempt).await;
        }
        Err(StoreError::Busy("the book of alerts".to_owned()))
    }

    async fn refresh(&self, known: &mut Known) -> Result<Time, StoreError> {
        match self.store.document_since(&BOOK, known.version).await? {
            DocumentNews::Unchanged { now } => Ok(now),
            DocumentNews::Changed(present) => {
                *known = self.understood(&present.text, present.version)?;
                Ok(present.now)
            }
        }
    }

    fn understood(&self, text: &str, version: u64) -> Result<Known, StoreError> {
        if text.is_empty() {
            return Ok(Known { book: Arc::default(), version });
        }
        let unreadable = |reason: String| StoreError::Unreadable {
            place: "of the book of alerts".to_owned(),
            reason,
        };
        // What a newer program writes need not be a book to us.
        let sheet: Sheet<serde_json::Value> =
            serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        if sheet.format > FORMAT {
            return Err(StoreError::Newer {
                place: "of the book of alerts".to_owned(),
                found: sheet.format,
                known: FORMAT,
            });
        }
        let book =
            serde_json::from_value(sheet.book).map_err(|error| unreadable(error.to_string()))?;
        Ok(Known { book: Arc::new(book), version })
    }

    fn written(&self, book: &mut Book) -> Result<String, StoreError> {
        let text = |book: &Book| {
            serde_json::to_string(&Sheet { format: FORMAT, book }).map_err(|error| {
                StoreError::Unreadable {
                    place: "of the book of alerts".to_owned(),
                    reason: error.to_string(),
                }
            })
        };
        let whole = text(book)?;
        if whole.len() <= LARGE {
            return Ok(whole);
        }
        book.shed();
        text(book)
    }
}
