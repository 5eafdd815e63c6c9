//! What people read: templates of minijinja over the facts of a notification, those of gpulock or
//! the users' own.

mod context;
mod escape;
mod samples;
mod words;
mod zh;

use std::fmt;
use std::io;

use gpulock::config::Objection;
use gpulock::core::Time;
use jiff::tz::TimeZone;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use crate::config::Language;
use crate::notification::Notification;
use crate::text::{Markup, Text, cut};

pub(crate) use context::catalogued;

use context::Voice;

/// The longest text, in bytes.
const LONGEST: usize = 256 * 1024;

/// The longest title, in bytes.
const LONGEST_TITLE: usize = 512;

/// How many steps a template may take for one message.
const FUEL: u64 = 5_000_000;

/// How a channel tells notifications.
pub struct Template {
    engine: Environment<'static>,
    voice: Voice,
}

/// A text of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// [`Text::title`].
    Title,
    /// [`Text::body`].
    Body,
}

impl Template {
    /// That of gpulock, in this language and dialect.
    pub fn built_in(language: Language, markup: Markup) -> Self {
        let voice = Voice { language, zone: TimeZone::system() };
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_debug(true);
        engine.set_fuel(Some(FUEL));
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            engine.set_syntax(syntax);
        }
        engine.set_auto_escape_callback(move |name| {
            AutoEscape::Custom(
                name_of(if name == BUILT_IN_TITLE || name == OWN_TITLE {
                    Markup::Plain
                } else {
                    markup
                })
                .into(),
            )
        });
        engine.set_formatter(format);
        add_filters(&mut engine);
        let (bullet, strong) = match markup {
            Markup::Plain => ("  ", ""),
            Markup::Markdown => ("- ", "**"),
            Markup::Slack => ("• ", "*"),
            Markup::Html => ("", ""),
        };
        engine.add_global("bullet", Value::from_safe_string(bullet.to_owned()));
        engine.add_global("strong", Value::from_safe_string(strong.to_owned()));
        let body = match markup {
            Markup::Html => include_str!("templates/html.jinja"),
            Markup::Plain | Markup::Markdown | Markup::Slack => {
                include_str!("templates/text.jinja")
            }
        };
        for (name, source) in
            [(BUILT_IN_TITLE, include_str!("templates/title.jinja")), (BUILT_IN_BODY, body)]
        {
            // The tests render every one of them.
            if let Err(error) = engine.add_template(name, source) {
                tracing::error!("a template of gpulock is broken: {error}");
            }
        }
        Self { engine, voice }
    }

    /// With a text of the user's own in place of that of gpulock. It is tried on notifications of
    /// all kinds.
    ///
    /// # Errors
    /// What is wrong with it, in which line.
    pub fn with(mut self, part: Part, source: String) -> Result<Self, Objection> {
        let name = part.own();
        if let Err(error) = self.engine.add_template_owned(name, source) {
            return Err(objection(&error));
        }
        for sample in samples::all() {
            let text =
                self.rendered(name, &sample, samples::NOW).map_err(|error| objection(&error))?;
            if text.is_cut {
                return Err(Objection::new(
                    format!("makes a text of more than {LONGEST} bytes"),
                    "look for a loop that runs too often",
                ));
            }
        }
        Ok(self)
    }

    /// The text of a notification. `now` is the store's time.
    pub fn text(&self, notification: &Notification, now: Time) -> Text {
        let title = self.part(Part::Title, notification, now);
        let mut title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        cut(&mut title, LONGEST_TITLE);
        Text { title, body: self.part(Part::Body, notification, now).trim().to_owned() }
    }

    /// A text of the user's own that fails must not cost the message.
    fn part(&self, part: Part, notification: &Notification, now: Time) -> String {
        if self.engine.get_template(part.own()).is_ok() {
            match self.rendered(part.own(), notification, now) {
                Ok(text) => return text.text,
                Err(error) => {
                    let Objection { reason, .. } = objection(&error);
                    let receiver = &notification.receiver;
                    tracing::warn!("the {part} template of channel {receiver} {reason}");
                }
            }
        }
        match self.rendered(part.built_in(), notification, now) {
            Ok(text) => text.text,
            Err(error) => {
                tracing::error!("a template of gpulock is broken: {error}");
                notification.common_labels.to_string()
            }
        }
    }

    fn rendered(&self, name: &str, of: &Notification, now: Time) -> Result<Rendered, Error> {
        let template = self.engine.get_template(name)?;
        let mut paper = Paper::default();
        let context = Value::from(Serde(self.voice.context(of, now)));
        let end = template.render_captured_to(context, &mut paper).map(|_| ());
        let Paper { written, is_full } = paper;
        let mut text = String::from_utf8_lossy(&written).into_owned();
        match end {
            Err(_) if is_full => cut(&mut text, LONGEST - 1),
            end => end?,
        }
        Ok(Rendered { text, is_cut: is_full })
    }
}

const BUILT_IN_TITLE: &str = "title of gpulock";
const BUILT_IN_BODY: &str = "body of gpulock";
const OWN_TITLE: &str = "title";
const OWN_BODY: &str = "body";

impl Part {
    const fn own(self) -> &'static str {
        match self {
            Self::Title => OWN_TITLE,
            Self::Body => OWN_BODY,
        }
    }

    const fn built_in(self) -> &'static str {
        match self {
            Self::Title => BUILT_IN_TITLE,
            Self::Body => BUILT_IN_BODY,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.own())
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("voice", &self.voice).finish_non_exhaustive()
    }
}

/// What a template has made.
struct Rendered {
    text: String,
    is_cut: bool,
}

/// Takes so much and no more.
#[derive(Default)]
struct Paper {
    written: Vec<u8>,
    is_full: bool,
}

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LONGEST.saturating_sub(self.written.len());
        self.written.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.is_full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const fn name_of(markup: Markup) -> &'static str {
    match markup {
        Markup::Plain => "plain",
        Markup::Markdown => "markdown",
        Markup::Slack => "slack",
        Markup::Html => "html",
    }
}

/// The dialect of the template that is being rendered.
fn markup_of(state: &State<'_, '_>) -> Markup {
    match state.auto_escape() {
        AutoEscape::Custom(name) => {
            let all = [Markup::Markdown, Markup::Slack, Markup::Html];
            all.into_iter().find(|markup| name_of(*markup) == *name).unwrap_or(Markup::Plain)
        }
        _ => Markup::Plain,
    }
}

/// Writes a value as text, unless it is markup made here.
fn format(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let text = value.to_string();
    let written = match value.is_safe() {
        true => out.write_str(&text),
        false => out.write_str(&escape::escaped(&text, markup_of(state))),
    };
    written.map_err(|_| Error::from(ErrorKind::WriteFailure))
}

fn add_filters(engine: &mut Environment<'static>) {
    let escaped = |state: &State<'_, '_>, value: Value| {
        if value.is_safe() {
            return value;
        }
        Value::from_safe_string(escape::escaped(&value.to_string(), markup_of(state)))
    };
    engine.add_filter("escape", escaped);
    engine.add_filter("e", escaped);
    engine.add_filter("bold", |state: &State<'_, '_>, text: String| {
        Value::from_safe_string(escape::bold(&text, markup_of(state)))
    });
    engine.add_filter("code", |state: &State<'_, '_>, text: String| {
        Value::from_safe_string(escape::code(&text, markup_of(state)))
    });
    engine.add_filter("link", |state: &State<'_, '_>, address: String, text: Option<String>| {
        Value::from_safe_string(escape::link(&address, text.as_deref(), markup_of(state)))
    });
}

/// What is wrong with a template of a user.
fn objection(error: &Error) -> Objection {
    let line = error.line().map_or_else(String::new, |line| format!(" in its line {line}"));
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::UndefinedError => {
            // `alert.host` is undefined
            let piece = detail.split('`').nth(1).unwrap_or("a name");
            Objection::new(format!("uses{line} what is not always there: `{piece}`"), present())
        }
        ErrorKind::OutOfFuel => {
            Objection::new(format!("does not come to an end{line}"), "look for a long loop")
        }
        kind => {
            let colon = if detail.is_empty() { "" } else { ": " };
            let hint = "the guide to alerts shows how templates are written";
            Objection::new(format!("has an error{line}: {kind}{colon}{detail}"), hint)
        }
    }
}

/// What is always there.
fn present() -> String {
    let names = |value: &serde_json::Value, more: &[&str]| {
        let own = value.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        let mut names: Vec<_> = own.chain(more.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    let sample = samples::all().into_iter().next();
    let sample = sample.and_then(|sample| serde_json::to_value(sample).ok()).unwrap_or_default();
    format!(
        "there are {}; of each alert {}; what may be missing is written as \
         `alert.annotations.host|default(\"\")`",
        names(&sample, context::NAMES),
        names(&sample["alerts"][0], context::ALERT_NAMES),
    )
}

#[cfg(test)]
mod tests;
