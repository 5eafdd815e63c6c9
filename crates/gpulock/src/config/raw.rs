//! What a source says about one key, before anybody knows what it means.

use super::origin::Origin;
use super::unexamined::Unexamined;

/// One key as a source gives it.
pub(super) struct Given {
    pub(super) path: String,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

impl Given {
    /// What a flag of the command line says.
    pub(super) fn by_flag((path, text): &(String, String)) -> Self {
        Self { path: path.clone(), raw: Raw::from_text(text), origin: Origin::Flag }
    }
}

/// What was written, before it is understood.
pub(super) enum Raw {
    /// Nothing, or a YAML null.
    Empty,
    /// A text without blanks around it, not empty.
    Text(String),
    /// A list of texts.
    List(Vec<Item>),
    /// A mapping, unexamined.
    Mapping(Unexamined),
}

/// One text of a list.
pub(super) struct Item {
    pub(super) text: String,
    /// The line that it stands on.
    pub(super) line: usize,
}

/// Why a value cannot be understood, and what would be.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Completes a sentence that begins with the key.
    pub(super) reason: String,
    pub(super) hint: String,
    /// The line of the item in a list that is meant.
    pub(super) line: Option<usize>,
}

impl Wrong {
    pub(super) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into(), line: None }
    }

    /// `text` is `not`, for instance "not a rate". Secrets must not come here.
    pub(super) fn value(text: &str, not: &str, hint: impl Into<String>) -> Self {
        const SHOWN: usize = 60;
        let ellipsis = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
        let start: String = text.chars().take(SHOWN).collect();
        Self::new(format!("is `{start}{ellipsis}`, which is {not}"), hint)
    }
}

impl Raw {
    /// A text as the environment or a flag gives it.
    pub(super) fn from_text(text: &str) -> Self {
        match text.trim() {
            "" => Self::Empty,
            text => Self::Text(text.to_owned()),
        }
    }

    /// The text of a value that must be one.
    pub(super) fn text(&self) -> Result<&str, Wrong> {
        self.optional_text()?.ok_or_else(|| {
            Wrong::new("has no value", "write one, or remove the key to have its default")
        })
    }

    /// The text of a value that may be absent.
    pub(super) fn optional_text(&self) -> Result<Option<&str>, Wrong> {
        match self {
            Self::Empty => Ok(None),
            Self::Text(text) => printable(text).map(Some),
            Self::List(_) => Err(Wrong::new("is a list", "write a single value")),
            Self::Mapping(_) => Err(Wrong::new("is a mapping", "write a single value")),
        }
    }

    /// Reads a list: of the file, or a text with commas.
    pub(super) fn each<T>(&self, read: fn(&str) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
        let Self::List(items) = self else {
            let parts = self.text()?.split(',').map(str::trim);
            return parts.filter(|part| !part.is_empty()).map(read).collect();
        };
        let item = |item: &Item| {
            let value = printable(&item.text).and_then(read);
            value.map_err(|wrong| Wrong { line: Some(item.line), ..wrong })
        };
        items.iter().map(item).collect()
    }
}

/// Refuses what a terminal or a log would stumble over. The environment's text that was
/// not UTF-8 arrives with replacement characters.
fn printable(text: &str) -> Result<&str, Wrong> {
    if text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        return Err(Wrong::new(
            "holds a control character or text that is not UTF-8",
            "write it with visible characters",
        ));
    }
    Ok(text)
}
