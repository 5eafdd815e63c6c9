//! Which addresses channels may ask.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::channel::{Failure, Reason};

/// Why an address is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    address: IpAddr,
    what: &'static str,
    bar: Bar,
}

/// What stands before an address that is not everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bar {
    /// It takes `allow_private`.
    Private,
    /// Nothing opens it: no channel is there, and whoever answers gives secrets away.
    Never,
}

use Bar::{Never, Private};

/// Blocks of addresses that are not everybody's, the narrower ones first
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>).
const V4: &[([u8; 4], u32, &str, Bar)] = &[
    ([169, 254, 169, 254], 32, "the metadata of a cloud", Never),
    // Alibaba Cloud, Oracle Cloud, Azure.
    ([100, 100, 100, 200], 32, "the metadata of a cloud", Never),
    ([192, 0, 0, 192], 32, "the metadata of a cloud", Never),
    ([168, 63, 129, 16], 32, "the metadata of a cloud", Never),
    ([255, 255, 255, 255], 32, "a broadcast address", Never),
    ([169, 254, 0, 0], 16, "a link-local address", Never),
    ([224, 0, 0, 0], 4, "a multicast address", Never),
    ([127, 0, 0, 0], 8, "a loopback address", Private),
    ([0, 0, 0, 0], 32, "the unspecified address", Private),
    ([0, 0, 0, 0], 8, "an address of this network", Private),
    ([10, 0, 0, 0], 8, "a private address", Private),
    ([172, 16, 0, 0], 12, "a private address", Private),
    ([192, 168, 0, 0], 16, "a private address", Private),
    ([100, 64, 0, 0], 10, "a shared address of a provider (CGNAT)", Private),
    ([192, 0, 0, 0], 24, "an address of the IETF's protocols", Private),
    ([192, 88, 99, 0], 24, "an address of 6to4 relays", Private),
    ([198, 18, 0, 0], 15, "an address for benchmarks", Private),
    ([192, 0, 2, 0], 24, "an address for documentation", Private),
    ([198, 51, 100, 0], 24, "an address for documentation", Private),
    ([203, 0, 113, 0], 24, "an address for documentation", Private),
    ([240, 0, 0, 0], 4, "a reserved address", Private),
];

/// The same (<https://www.iana.org/assignments/iana-ipv6-special-registry>). What is in none of them
/// and not in 2000::/3 has been given to nobody.
const V6: &[([u16; 8], u32, &str, Bar)] = &[
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, "the metadata of a cloud", Never),
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, "the metadata of a cloud", Never),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "a link-local address", Never),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "a multicast address", Never),
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, "the unspecified address", Private),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "a loopback address", Private),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "a private address (unique local)", Private),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "a private address (site-local)", Private),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "an address of a local NAT64", Private),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "an address for benchmarks", Private),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "an address for documentation", Private),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "an address for documentation", Private),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "an address of the IETF's protocols", Private),
];

/// Whether this URL may be asked, as far as it says so itself.
pub(super) fn permits(url: &Url, allow_private: bool) -> Result<(), Failure> {
    let forbidden = |why: &str| Err(Failure::new(Reason::Forbidden, why));
    if !matches!(url.scheme(), "http" | "https") {
        return forbidden("only http:// and https:// are asked; write the URL with one of them");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return forbidden(
            "a URL with a user or a password in it (user@host) is not asked; write them into \
             the settings of the channel",
        );
    }
    // In an http URL every way to write an address has become the usual one: 0x7f.1 is 127.0.0.1.
    let host = url.host_str().unwrap_or_default();
    let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Ok(()) };
    match refusal(address, allow_private) {
        Some(refusal) => forbidden(&refusal.to_string()),
        None => Ok(()),
    }
}

/// Why an address is not asked; `None` if it is.
pub(super) fn refusal(address: IpAddr, allow_private: bool) -> Option<Refusal> {
    let (what, bar) = match address {
        IpAddr::V4(address) => barred_v4(address),
        IpAddr::V6(address) => barred_v6(address),
    }?;
    (bar == Never || !allow_private).then_some(Refusal { address, what, bar })
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, what, bar } = self;
        match bar {
            Private => write!(
                f,
                "{address} is {what}, which channels do not ask; if it is meant, write \
                 `allow_private: true` into the channel"
            ),
            Never => write!(f, "{address} is {what}, which no channel may ask"),
        }
    }
}

fn barred_v4(address: Ipv4Addr) -> Option<(&'static str, Bar)> {
    let within = |block: [u8; 4], length: u32| {
        let differ = address.to_bits() ^ Ipv4Addr::from(block).to_bits();
        differ.leading_zeros() >= length
    };
    let found = V4.iter().find(|(block, length, ..)| within(*block, *length));
    found.map(|(_, _, what, bar)| (*what, *bar))
}

/// An address that carries others is barred as the worst of them.
fn barred_v6(address: Ipv6Addr) -> Option<(&'static str, Bar)> {
    let within = |block: [u16; 8], length: u32| {
        let differ = address.to_bits() ^ Ipv6Addr::from(block).to_bits();
        differ.leading_zeros() >= length
    };
    let found = V6.iter().find(|(block, length, ..)| within(*block, *length));
    let own = found.map(|(_, _, what, bar)| (*what, *bar));
    let (carried, carries) = carried(address);
    let worst = carried.into_iter().filter_map(barred_v4).fold(own, |worst, next| match worst {
        Some((_, Never)) => worst,
        Some(_) if next.1 == Private => worst,
        _ => Some(next),
    });
    let is_given = address.segments()[0] & 0xe000 == 0x2000;
    let unknown = (!is_given && !carries).then_some(("a reserved address", Private));
    worst.or(unknown)
}

/// The addresses of version 4 that an address carries, and whether its block is made for that.
fn carried(address: Ipv6Addr) -> (Vec<Ipv4Addr>, bool) {
    let bytes = address.octets();
    let at = |start: usize| {
        let four = [bytes[start], bytes[start + 1], bytes[start + 2], bytes[start + 3]];
        Ipv4Addr::from(four)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => (Vec::new(), false),
        // Compatible (RFC 4291), mapped (the same), translated (RFC 2765), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => (vec![at(12)], true),
        // NAT64 of one's own (RFC 8215), whose prefix may have any length.
        [0x64, 0xff9b, 1, ..] => {
            let split =
                |[a, b, c, d]: [usize; 4]| Ipv4Addr::new(bytes[a], bytes[b], bytes[c], bytes[d]);
            let placed = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
            (placed.map(split).to_vec(), true)
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => (vec![at(2)], true),
        // Teredo (RFC 4380): the server, and the client with all of its bits turned.
        [0x2001, 0, ..] => (vec![at(4), Ipv4Addr::from_bits(!at(12).to_bits())], true),
        _ => (Vec::new(), false),
    }
}
