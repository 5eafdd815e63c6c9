//! What the daemon's own store complained about.

use serde::{Deserialize, Serialize};

use crate::store::StoreError;

/// A [`StoreError`]. A client passes over what it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "they are those of StoreError")]
pub enum Fault {
    Unavailable { place: String, reason: String },
    Busy { place: String },
    OutOfMemory { place: String },
    NotReplicated { place: String, wanted: u32, reached: u32 },
    Full { place: String },
    TooLarge { name: String, limit: usize, actual: usize },
    Refused { place: String, reason: String },
    NotWritable { place: String, reason: String },
    Damaged { place: String, reason: String },
    Unreadable { place: String, reason: String },
    Foreign { place: String },
    Newer { place: String, found: u32, known: u32 },
    Replaced { place: String },
    BadUrl { place: String, reason: String },
}

impl Fault {
    /// The error as the client of the daemon at `daemon` tells it: which store it was, and
    /// which way it was asked.
    pub fn into_error(self, daemon: &str) -> StoreError {
        let behind = |place: String| format!("{place} behind {daemon}");
        match self {
            Self::Unavailable { place, reason } => {
                StoreError::Unavailable { place: behind(place), reason }
            }
            Self::Busy { place } => StoreError::Busy(behind(place)),
            Self::OutOfMemory { place } => StoreError::OutOfMemory(behind(place)),
            Self::NotReplicated { place, wanted, reached } => {
                StoreError::NotReplicated { place: behind(place), wanted, reached }
            }
            Self::Full { place } => StoreError::Full(behind(place)),
            // Which store it was makes no difference.
            Self::TooLarge { name, limit, actual } => StoreError::TooLarge { name, limit, actual },
            Self::Refused { place, reason } => StoreError::Refused { place: behind(place), reason },
            Self::NotWritable { place, reason } => {
                StoreError::NotWritable { place: behind(place), reason }
            }
            Self::Damaged { place, reason } => StoreError::Damaged { place: behind(place), reason },
            Self::Unreadable { place, reason } => {
                StoreError::Unreadable { place: behind(place), reason }
            }
            Self::Foreign { place } => StoreError::Foreign(behind(place)),
            Self::Newer { place, found, known } => {
                StoreError::Newer { place: behind(place), found, known }
            }
            Self::Replaced { place } => StoreError::Replaced(behind(place).into()),
            Self::BadUrl { place, reason } => StoreError::BadUrl { url: behind(place), reason },
        }
    }
}

impl From<&StoreError> for Fault {
    fn from(error: &StoreError) -> Self {
        let both = |place: &String, reason: &String| (place.clone(), reason.clone());
        match error {
            StoreError::Unavailable { place, reason } => {
                let (place, reason) = both(place, reason);
                Self::Unavailable { place, reason }
            }
            StoreError::Busy(place) => Self::Busy { place: place.clone() },
            StoreError::OutOfMemory(place) => Self::OutOfMemory { place: place.clone() },
            StoreError::NotReplicated { place, wanted, reached } => {
                Self::NotReplicated { place: place.clone(), wanted: *wanted, reached: *reached }
            }
            StoreError::Full(place) => Self::Full { place: place.clone() },
            StoreError::TooLarge { name, limit, actual } => {
                Self::TooLarge { name: name.clone(), limit: *limit, actual: *actual }
            }
            StoreError::Refused { place, reason } => {
                let (place, reason) = both(place, reason);
                Self::Refused { place, reason }
            }
            StoreError::NotWritable { place, reason } => {
                let (place, reason) = both(place, reason);
                Self::NotWritable { place, reason }
            }
            StoreError::Damaged { place, reason } => {
                let (place, reason) = both(place, reason);
                Self::Damaged { place, reason }
            }
            StoreError::Unreadable { place, reason } => {
                let (place, reason) = both(place, reason);
                Self::Unreadable { place, reason }
            }
            StoreError::Foreign(place) => Self::Foreign { place: place.clone() },
            StoreError::Newer { place, found, known } => {
                Self::Newer { place: place.clone(), found: *found, known: *known }
            }
            StoreError::Replaced(path) => Self::Replaced { place: path.display().to_string() },
            StoreError::BadUrl { url, reason } => {
                let (place, reason) = both(url, reason);
                Self::BadUrl { place, reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_stays_what_it_is_and_says_which_way_it_came() {
        let (place, reason) = ("sqlite:///gpu.db".to_owned(), "it is so".to_owned());
        let both = || (place.clone(), reason.clone());
        let (a, b, c, d, e, f) = (both(), both(), both(), both(), both(), both());
        for error in [
            StoreError::Unavailable { place: a.0, reason: a.1 },
            StoreError::Busy(place.clone()),
            StoreError::OutOfMemory(place.clone()),
            StoreError::NotReplicated { place: place.clone(), wanted: 2, reached: 1 },
            StoreError::Full(place.clone()),
            StoreError::TooLarge { name: "alerts".to_owned(), limit: 4, actual: 5 },
            StoreError::Refused { place: b.0, reason: b.1 },
            StoreError::NotWritable { place: c.0, reason: c.1 },
            StoreError::Damaged { place: d.0, reason: d.1 },
            StoreError::Unreadable { place: e.0, reason: e.1 },
            StoreError::Foreign(place.clone()),
            StoreError::Newer { place: place.clone(), found: 3, known: 2 },
            StoreError::Replaced("sqlite:///gpu.db".into()),
            StoreError::BadUrl { url: f.0, reason: f.1 },
        ] {
            let text = serde_json::to_string(&Fault::from(&error)).unwrap();
            let fault: Fault = serde_json::from_str(&text).unwrap();
            let told = fault.into_error("http://gpu1");
            assert_eq!(std::mem::discriminant(&told), std::mem::discriminant(&error));
            let behind = error.to_string().replace(&place, "sqlite:///gpu.db behind http://gpu1");
            assert_eq!(told.to_string(), behind);
        }
    }
}
