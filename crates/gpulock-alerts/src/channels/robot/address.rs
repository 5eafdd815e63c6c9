//! Addresses that are secrets.

use reqwest::Url;

use crate::channel::{Failure, Reason};
use crate::secret::Secret;

/// Where the webhook is. Whoever knows it can post, so it is a secret.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// The whole address.
    Whole(Secret),
    /// The part of it that is secret.
    Part {
        /// The address without it.
        base: &'static str,
        /// The parameter of the query that holds it.
        parameter: &'static str,
        /// It.
        secret: Secret,
    },
}

impl Address {
    /// Of a service that gives its secret part a name: the whole address, or that part alone.
    ///
    /// # Errors
    /// If it is neither, or both. `service` and `field` are named then.
    pub(crate) fn either(
        (service, field): (&str, &str),
        url: Option<&Secret>,
        part: Option<&Secret>,
        (base, parameter): (&'static str, &'static str),
    ) -> Result<Self, String> {
        match (url, part) {
            (Some(url), None) => Ok(Self::Whole(url.clone())),
            (None, Some(part)) => Ok(Self::Part { base, parameter, secret: part.clone() }),
            _ => Err(format!(
                "{service} wants either `url`, the whole address of the webhook, or `{field}`, \
                 what follows `{parameter}=` in it"
            )),
        }
    }

    /// Reads the address.
    ///
    /// # Errors
    /// One sentence and how to mend it, without the address.
    pub(crate) fn read(&self) -> Result<Url, String> {
        match self {
            Self::Whole(secret) => parse(&secret.reveal()?),
            Self::Part { base, parameter, secret } => {
                let secret = secret.reveal()?;
                if secret.contains(['/', '?', '&', '=']) {
                    return Err(format!(
                        "what should be the secret part of an address is more than that; write \
                         only what follows `{parameter}=`, or the whole address as `url`"
                    ));
                }
                let mut url = parse(base)?;
                url.query_pairs_mut().append_pair(parameter, &secret);
                Ok(url)
            }
        }
    }

    /// Reads the address in order to send.
    pub(crate) fn target(&self) -> Result<Url, Failure> {
        self.read().map_err(|trouble| Failure::new(Reason::Local, trouble))
    }
}

fn parse(address: &str) -> Result<Url, String> {
    const HINT: &str = "write the whole address of the webhook, beginning with https://";
    let url =
        Url::parse(address).map_err(|error| format!("`url` is no address ({error}); {HINT}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("`url` is no address of the web; {HINT}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("`url` names a user before the host; {HINT}"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(url: &str) -> Address {
        Address::Whole(Secret::try_from(url.to_owned()).unwrap())
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for wrong in
            ["B9sEcReT", "ftp://h/B9sEcReT", "https://u:B9sEcReT@h/", "https:///B9sEcReT:x"]
        {
            let trouble = whole(wrong).read().unwrap_err();
            assert!(trouble.contains("https://") && !trouble.contains("B9sEcReT"), "{trouble}");
        }
        let secret = Secret::try_from("https://h/?key=B9sEcReT".to_owned()).unwrap();
        let part = Address::Part { base: "https://h/send", parameter: "key", secret };
        let trouble = part.read().unwrap_err();
        assert!(trouble.contains("`key=`") && !trouble.contains("B9sEcReT"), "{trouble}");
    }
}
