//! What people read.

/// What people read, in the dialect of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// One line without markup.
    pub title: String,
    /// Everything, without the title.
    pub body: String,
}

/// The dialects in which channels want their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markup {
    /// None.
    Plain,
    /// Markdown as DingTalk, WeCom and Feishu know it: bold, links, lists.
    Markdown,
    /// Slack's mrkdwn.
    Slack,
    /// HTML; the plain text goes with it.
    Html,
}

impl Text {
    /// Cuts the body to at most so many bytes, at the border of a character; `…` shows the cut.
    #[must_use]
    pub fn cut(mut self, bytes: usize) -> Self {
        cut(&mut self.body, bytes);
        self
    }
}

/// Cuts `text` to at most so many bytes, at the border of a character; `…` shows the cut.
pub(crate) fn cut(text: &mut String, bytes: usize) {
    const ELLIPSIS: char = '…';
    if text.len() > bytes {
        let most = bytes.saturating_sub(ELLIPSIS.len_utf8());
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        if bytes >= ELLIPSIS.len_utf8() {
            text.push(ELLIPSIS);
        }
    }
}
