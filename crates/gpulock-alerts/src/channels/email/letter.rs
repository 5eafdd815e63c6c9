//! The mail itself.

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Message as Letter, MultiPart};
use sha2::{Digest as _, Sha256};

use super::{Email, plain};
use crate::channel::{Failure, Message, Reason};
use crate::text::cut;

/// The longest subject, in bytes.
const LONGEST_SUBJECT: usize = 200;

/// The mail as it goes over the wire: headers (RFC 5322, <https://www.rfc-editor.org/rfc/rfc5322>),
/// and the text twice, plain and as HTML.
///
/// All mails about one group of alerts answer one mail that was never sent, so that they make one
/// thread. `Auto-Submitted` (RFC 3834) keeps absent people's programs from answering.
pub(super) fn write(email: &Email, message: &Message<'_>) -> Result<Vec<u8>, Failure> {
    let notification = message.notification;
    let domain = email.from.email.domain();
    let name = |kind: &str, text: &str| {
        let digest = digest(&[kind, &notification.receiver, text]);
        format!("<{kind}.{digest}@{domain}>")
    };
    let thread = name("thread", &notification.group_key);
    let mut letter = Letter::builder()
        .from(email.from.clone())
        .subject(subject(&message.text.title))
        .date_now()
        .message_id(Some(name("message", &notification.id)))
        .in_reply_to(thread.clone())
        .references(thread);
    letter = email.to.iter().fold(letter, |letter, to| letter.to(to.clone()));
    letter = email.cc.iter().fold(letter, |letter, cc| letter.cc(cc.clone()));
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    letter = letter.raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
    let html = &message.text.body;
    let parts = MultiPart::alternative_plain_html(plain::from_html(html), page(html));
    let letter = letter.multipart(parts);
    letter.map(|letter| letter.formatted()).map_err(|error| {
        Failure::new(Reason::ClientError, format!("the mail cannot be written: {error}"))
    })
}

/// One line, so that no header can be slipped in.
fn subject(title: &str) -> String {
    let mut subject: String =
        title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    cut(&mut subject, LONGEST_SUBJECT);
    subject
}

fn page(html: &str) -> String {
    let begin: String = html.trim_start().chars().take(5).collect();
    match begin.to_ascii_lowercase().as_str() {
        "<!doc" | "<html" => html.to_owned(),
        _ => format!("<!DOCTYPE html>\n<html><body>\n{html}\n</body></html>\n"),
    }
}

/// 32 hexadecimal digits that name these texts.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
