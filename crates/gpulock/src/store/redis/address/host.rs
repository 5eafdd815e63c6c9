//! A host and its port.

use super::options::number;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// An address in brackets is without them.
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Host {
    /// Hosts with commas between.
    pub(super) fn read_list(text: &str, default_port: u16) -> Result<Vec<Self>, String> {
        text.split(',').map(|host| Self::read(host, default_port)).collect()
    }

    pub(super) fn read(text: &str, default_port: u16) -> Result<Self, String> {
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, "")) => (name, None),
            Some((name, rest)) => (name, Some(rest.strip_prefix(':').unwrap_or("none"))),
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("an address with colons stands in brackets: [::1]:6379".to_owned());
                }
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        if name.is_empty() {
            return Err("it names no host".to_owned());
        }
        if name.contains(['[', ']', '%', ',', '=']) {
            return Err("a host's name has a sign that cannot be in it".to_owned());
        }
        let port = match port.map(|port| number("the port", port)).transpose()? {
            Some(0) => return Err("the port is 0".to_owned()),
            Some(port) => port,
            None => default_port,
        };
        Ok(Self { name: name.to_owned(), port })
    }
}
