//! Documents, as they are sent.

use gpulock_core::Time;
use serde::{Deserialize, Serialize};

use crate::store::{Document, DocumentNews, DocumentSwap};

type NotANumber = std::num::ParseIntError;

/// [`Document`]. The version is text: it need not fit the numbers of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireDocument {
    text: String,
    version: String,
    now: Time,
}

/// [`DocumentNews`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireDocumentNews {
    /// See [`DocumentNews::Unchanged`].
    Unchanged {
        /// The store's time at which this was so.
        now: Time,
    },
    /// See [`DocumentNews::Changed`].
    Changed(WireDocument),
}

/// A text to be written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireDocumentWrite {
    /// The version that the document must still have, in digits.
    pub expected: String,
    /// The whole text.
    pub text: String,
}

/// [`DocumentSwap`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireDocumentSwap {
    /// See [`DocumentSwap::Written`].
    Written {
        /// The version that it has now, in digits.
        version: String,
        /// The store's time at which it was written.
        now: Time,
    },
    /// See [`DocumentSwap::Conflict`].
    Conflict(WireDocument),
}

impl From<Document> for WireDocument {
    fn from(Document { text, version, now }: Document) -> Self {
        Self { text, version: version.to_string(), now }
    }
}

impl TryFrom<WireDocument> for Document {
    type Error = NotANumber;

    fn try_from(WireDocument { text, version, now }: WireDocument) -> Result<Self, NotANumber> {
        Ok(Self { text, version: version.parse()?, now })
    }
}

impl From<DocumentNews> for WireDocumentNews {
    fn from(news: DocumentNews) -> Self {
        match news {
            DocumentNews::Unchanged { now } => Self::Unchanged { now },
            DocumentNews::Changed(document) => Self::Changed(document.into()),
        }
    }
}

impl TryFrom<WireDocumentNews> for DocumentNews {
    type Error = NotANumber;

    fn try_from(wire: WireDocumentNews) -> Result<Self, NotANumber> {
        Ok(match wire {
            WireDocumentNews::Unchanged { now } => Self::Unchanged { now },
            WireDocumentNews::Changed(document) => Self::Changed(document.try_into()?),
        })
    }
}

impl From<DocumentSwap> for WireDocumentSwap {
    fn from(swap: DocumentSwap) -> Self {
        match swap {
            DocumentSwap::Written { version, now } => {
                Self::Written { version: version.to_string(), now }
            }
            DocumentSwap::Conflict(document) => Self::Conflict(document.into()),
        }
    }
}

impl TryFrom<WireDocumentSwap> for DocumentSwap {
    type Error = NotANumber;

    fn try_from(wire: WireDocumentSwap) -> Result<Self, NotANumber> {
        Ok(match wire {
            WireDocumentSwap::Written { version, now } => {
                Self::Written { version: version.parse()?, now }
            }
            WireDocumentSwap::Conflict(document) => Self::Conflict(document.try_into()?),
        })
    }
}
