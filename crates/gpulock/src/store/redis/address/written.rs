//! A URL in its parts, as they are written.

use percent_encoding::percent_decode_str;

use super::options::Options;

/// What stands where in `SCHEME://[USER[:PASSWORD]@]HOSTS[/PATH][?OPTIONS]`.
///
/// No reason that is given here or further on repeats what stands before the options: where
/// a sign is missing, that may be a password.
pub(super) struct Written<'u> {
    pub(super) scheme: &'u str,
    /// User and password.
    pub(super) login: Option<&'u str>,
    pub(super) hosts: &'u str,
    /// Without its first `/`.
    pub(super) path: &'u str,
    pub(super) options: Options,
}

impl<'u> Written<'u> {
    pub(super) fn read(url: &'u str) -> Result<Self, String> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '#';
        let (scheme, rest) = url.split_once("://").ok_or("`://` is missing after its scheme")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        if rest.contains(odd) || path.contains('@') || query.contains('@') {
            return Err("a sign stands where it cannot; \
                        write `@`, `/`, `?`, `#`, `%` and blanks in a name or password as \
                        %40, %2F, %3F, %23, %25 and %20"
                .to_owned());
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        Ok(Self { scheme, login, hosts, path, options: Options::read(query)? })
    }
}

/// The text with its percent signs resolved.
pub(super) fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| "a part of it is not UTF-8 after its percent signs".to_owned())
}
