//! The dead man's switch: an address that is asked again and again, so that somebody else notices
//! when nobody is left to ask.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::channel::{Failure, Reason};
use crate::http::Poster;
use crate::secret::Secret;

/// An address that is asked again and again, so that somebody else notices when that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadMansSwitch {
    /// The address; it names the receiver and is as good as a password.
    pub url: Secret,
    /// Between two requests.
    pub interval: Duration,
    /// How long the other side has to answer.
    pub timeout: Duration,
    /// Whether the address may be one of a private network.
    pub allow_private: bool,
}

impl DeadMansSwitch {
    /// Asks the address, once.
    ///
    /// # Errors
    /// If it does not answer with success.
    pub async fn ask(&self) -> Result<(), Failure> {
        let wrong = |detail: String| Failure::new(Reason::ClientError, detail);
        let url = self.url.reveal().map_err(wrong)?;
        let url = url.parse().map_err(|_| wrong("its address is not one".to_owned()))?;
        let poster = Poster::new(self.timeout, self.allow_private)?;
        let answer = poster.get(&url, HeaderMap::new()).await?;
        match answer.status {
            200..300 => Ok(()),
            status => Err(wrong(format!("it answered with {status}"))),
        }
    }
}
