//! Addresses that are secrets.

use reqwest::Url;

use crate::channel::{Failure, Reason};
use crate::secret::Secret;

/// The longest quotation of another side, in characters.
const LONGEST_QUOTATION: usize = 300;
/// Shorter parts of an address give nothing away; hiding them would garble what is quoted.
const SHORTEST_SECRET: usize = 6;

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

/// An address as it stood when it was read, and what must not be shown of it.
#[derive(Clone)]
pub(crate) struct Target {
    url: Url,
    hidden: Vec<String>,
}

impl Address {
    /// Reads the address.
    ///
    /// # Errors
    /// One sentence and how to mend it, without the address.
    pub(crate) fn read(&self) -> Result<Target, String> {
        let url = match self {
            Self::Whole(secret) => parse(&secret.reveal()?)?,
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
                url
            }
        };
        Ok(Target::new(url))
    }

    /// Reads the address in order to send.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        self.read().map_err(|trouble| Failure::new(Reason::Local, trouble))
    }
}

impl Target {
    fn new(url: Url) -> Self {
        let mut hidden = vec![url.as_str().to_owned(), url.path().to_owned()];
        hidden.extend(url.query().map(str::to_owned));
        hidden.extend(url.path_segments().into_iter().flatten().last().map(str::to_owned));
        hidden.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        let encoded = url.query().unwrap_or_default().split('&').filter_map(|p| p.split_once('='));
        hidden.extend(encoded.map(|(_, value)| value.to_owned()));
        let mut target = Self { url, hidden };
        target.arrange();
        target
    }

    /// The address.
    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    /// With further parameters in the query, encoded once, and hidden as well.
    #[must_use]
    pub(crate) fn with(mut self, parameters: &[(&str, &str)]) -> Self {
        self.url.query_pairs_mut().extend_pairs(parameters);
        let mut all = Self::new(self.url);
        all.hidden.append(&mut self.hidden);
        all.arrange();
        all
    }

    /// Nothing that is quoted may show this either.
    #[must_use]
    pub(crate) fn hiding(mut self, secret: &str) -> Self {
        self.hidden.push(secret.to_owned());
        self.arrange();
        self
    }

    /// What the other side said: one line, not too long, without anything that is secret here.
    pub(crate) fn quoted(&self, said: &str) -> String {
        let hidden = self.hidden.iter();
        let said = hidden.fold(said.to_owned(), |said, secret| said.replace(secret, "***"));
        let line: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = line.trim();
        match line.char_indices().nth(LONGEST_QUOTATION) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None if line.is_empty() => "nothing".to_owned(),
            None => line.to_owned(),
        }
    }

    /// The longest first: what is left of one that is partly hidden gives it away.
    fn arrange(&mut self) {
        self.hidden.retain(|secret| secret.len() >= SHORTEST_SECRET);
        self.hidden.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
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
    fn no_secret_of_an_address_is_quoted_in_any_form() {
        let address = whole("https://chat.example/services/T0/B0/Xy%2Bz0123?key=a%2Bb%3Dcdefgh");
        let target = address.read().unwrap().with(&[("sign", "q+r/s=t0")]).hiding("SECret");
        let url = target.url().as_str();
        assert!(url.ends_with("&sign=q%2Br%2Fs%3Dt0"), "{url}");
        for said in [url, target.url().path(), "a+b=cdefgh", "a%2Bb%3Dcdefgh", "q+r/s=t0", "SECret"]
        {
            assert_eq!(target.quoted(&format!("no {said}!")), "no ***!", "{said}");
        }
        assert_eq!(target.quoted("Xy%2Bz0123"), "***");
    }

    #[test]
    fn quotations_are_one_short_line() {
        let target = whole("https://chat.example/hook").read().unwrap();
        assert_eq!(target.quoted(" a\r\nb\u{1b}[31m "), "a  b [31m");
        assert_eq!(target.quoted("\n"), "nothing");
        let long = target.quoted(&"限".repeat(5000));
        assert_eq!(long.chars().count(), 301);
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for wrong in
            ["B9sEcReT", "ftp://h/B9sEcReT", "https://u:B9sEcReT@h/", "https:///B9sEcReT:x"]
        {
            let trouble = whole(wrong).read().map(|target| target.url).unwrap_err();
            assert!(trouble.contains("https://") && !trouble.contains("B9sEcReT"), "{trouble}");
        }
        let secret = Secret::try_from("https://h/?key=B9sEcReT".to_owned()).unwrap();
        let part = Address::Part { base: "https://h/send", parameter: "key", secret };
        let trouble = part.read().map(|target| target.url).unwrap_err();
        assert!(trouble.contains("`key=`") && !trouble.contains("B9sEcReT"), "{trouble}");
    }
}
