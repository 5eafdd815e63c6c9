//! Values in a text with markup: whatever a task is called, it stays text. It becomes no link, no
//! mention, no heading and no HTML.
//!
//! HTML and Slack know entities (<https://docs.slack.dev/messaging/formatting-message-text>). The
//! robots of DingTalk, WeCom and Feishu each know another part of Markdown, and none of them a way
//! to escape that the others know too: signs that mean something are replaced there by ones that
//! look like them.

use std::borrow::Cow;

use reqwest::Url;

use crate::text::Markup;

/// Breaks what a program would take for one word, and is not seen.
const BREAK: char = '\u{200b}';

/// `text` as text in that dialect.
pub(crate) fn escaped(text: &str, markup: Markup) -> String {
    let text = visible(text);
    if markup == Markup::Plain {
        return text;
    }
    let text = text.replace("://", &format!(":{BREAK}//"));
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut before = ' ';
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        let is_within_word =
            before.is_alphanumeric() && signs.peek().is_some_and(|next| next.is_alphanumeric());
        match markup {
            Markup::Html => out.push_str(&html(sign)),
            Markup::Slack => push_slack(&mut out, sign, is_within_word),
            Markup::Markdown | Markup::Plain => out.push(harmless(sign, is_within_word)),
        }
        if sign == '@' && !before.is_alphanumeric() {
            out.push(BREAK);
        }
        before = sign;
    }
    if markup == Markup::Markdown { without_list(out) } else { out }
}

/// A text in the hand of a machine.
pub(crate) fn code(text: &str, markup: Markup) -> String {
    match markup {
        Markup::Plain => escaped(text, markup),
        Markup::Html => format!("<code>{}</code>", escaped(text, markup)),
        Markup::Markdown | Markup::Slack => format!("`{}`", escaped(text, markup)),
    }
}

/// An important text.
pub(crate) fn bold(text: &str, markup: Markup) -> String {
    let text = escaped(text.trim(), markup);
    match markup {
        Markup::Plain => text,
        Markup::Html => format!("<b>{text}</b>"),
        Markup::Markdown => format!("**{text}**"),
        Markup::Slack => format!("*{text}*"),
    }
}

/// A link, if the address is one of the web; otherwise the address as text.
pub(crate) fn link(address: &str, text: Option<&str>, markup: Markup) -> String {
    let Some(address) = web_address(address) else {
        return escaped(address, markup);
    };
    let text = text.unwrap_or(&address);
    // A link whose text is its own address must not be broken.
    let shown = escaped(text, markup).replace(&format!(":{BREAK}//"), "://");
    match markup {
        Markup::Plain if text == address => address,
        Markup::Plain => format!("{shown} <{address}>"),
        Markup::Markdown => format!("[{shown}]({address})"),
        Markup::Slack => format!("<{}|{shown}>", address.replace('&', "&amp;")),
        Markup::Html => format!("<a href=\"{}\">{shown}</a>", address.replace('&', "&amp;")),
    }
}

/// The address with everything percent-encoded that means something in any of the dialects.
fn web_address(text: &str) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    let mut address = String::new();
    for sign in url.as_str().chars() {
        match sign {
            '|' | '<' | '>' | '(' | ')' | '"' | '\'' | '`' | '\\' | '*' | ' ' => {
                address.push_str(&format!("%{:02X}", u32::from(sign)));
            }
            sign => address.push(sign),
        }
    }
    Some(address)
}

/// Without what is not seen or turns the direction of writing; line breaks become blanks.
fn visible(text: &str) -> String {
    let is_hidden = |c: char| {
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{00ad}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let signs = text.chars().filter(|c| !is_hidden(*c));
    signs.map(|c| if is_break(c) { ' ' } else { c }).collect()
}

fn html(sign: char) -> Cow<'static, str> {
    match sign {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        '\'' => "&#39;".into(),
        sign => sign.to_string().into(),
    }
}

fn push_slack(out: &mut String, sign: char, is_within_word: bool) {
    match sign {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '*' | '~' | '`' | '_' => out.push(harmless(sign, is_within_word)),
        sign => out.push(sign),
    }
}

/// One that looks like it and means nothing.
fn harmless(sign: char, is_within_word: bool) -> char {
    match sign {
        '_' if is_within_word => '_',
        '_' => '＿',
        '*' => '∗',
        '`' => 'ˋ',
        '~' => '∼',
        '[' => '［',
        ']' => '］',
        '<' => '‹',
        '>' => '›',
        '&' => '＆',
        '#' => '＃',
        '|' => '¦',
        '\\' => '＼',
        '$' => '＄',
        sign => sign,
    }
}

/// A value at the beginning of a line would make that an item of a list.
fn without_list(text: String) -> String {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let is_item = match text.as_bytes().get(digits) {
        Some(b'.' | b')') => digits > 0,
        Some(b'-' | b'+' | b'=') => digits == 0,
        _ => false,
    };
    if is_item { format!("{BREAK}{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What somebody may call a task.
    const HOSTILE: &[&str] = &[
        "<!channel> <!here> <!subteam^S1> <@U123> <https://evil.example|log in>",
        "[log in](https://evil.example)",
        "![x](https://evil.example/pixel.png)",
        "<https://evil.example>",
        "<img src=x onerror=alert(1)>",
        "</td><script>alert('x')</script>",
        "\" onmouseover=\"alert(1)",
        "<font color=\"info\">good</font>",
        "<at id=all></at> <at user_id=\"all\">all</at>",
        "<@all> @all @everyone @here @channel @13800000000",
        "# heading\n## heading\r\n- item\n> quote\n1. item",
        "**bold** __bold__ _it_ *it* ~~gone~~ ~gone~ `code` ```block```",
        "| a | b |\n|---|---|",
        "a\u{202e}txt.exe \u{200b}@all \u{2066}x\u{2069}",
        "line\u{2028}break\u{85}\u{b}\u{c}\0\u{1b}[31m",
        "&lt;!channel&gt; &#60;b&#62;",
        "\\[x](https://evil.example) \\<b>",
        "{{ 7 * 7 }} {% raw %}",
        "http://evil.example/?q=<b> javascript:alert(1)",
        "=cmd|' /C calc'!A0",
    ];

    #[test]
    fn nothing_in_a_name_is_markup() {
        for name in HOSTILE {
            let plain = escaped(name, Markup::Plain);
            assert!(!plain.contains(char::is_control), "{plain:?}");
            assert!(!plain.contains(['\u{202e}', '\u{2066}', '\u{2028}', '\u{200b}']), "{plain:?}");

            let markdown = escaped(name, Markup::Markdown);
            for sign in ["<", ">", "[", "]", "`", "*", "~", "#", "|", "\\", "\n", "://", "&", "__"]
            {
                assert!(!markdown.contains(sign), "{sign} in {markdown:?}");
            }
            let slack = escaped(name, Markup::Slack);
            for sign in ["<", ">", "`", "*", "~", "\n", "://"] {
                assert!(!slack.contains(sign), "{sign} in {slack:?}");
            }
            let entities = slack.matches('&').count();
            let known = ["&amp;", "&lt;", "&gt;"].map(|entity| slack.matches(entity).count());
            assert_eq!(entities, known.iter().sum::<usize>(), "{slack:?}");

            let html = escaped(name, Markup::Html);
            for sign in ["<", ">", "\"", "'", "\n", "://"] {
                assert!(!html.contains(sign), "{sign} in {html:?}");
            }
            for text in [markdown, slack, html] {
                for mention in ["@all", "@everyone", "@here", "@channel", "@13800000000"] {
                    assert!(!text.contains(mention), "{mention} in {text:?}");
                }
            }
        }
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for name in [
            "nightly-ocr_v2.3",
            "GPU_LOCK_ZOMBIE",
            "user@gpu1.example.org",
            "训练 任务",
            "a: 1/2 (x), 50 %",
        ] {
            for markup in [Markup::Plain, Markup::Markdown, Markup::Slack, Markup::Html] {
                assert_eq!(escaped(name, markup), name);
            }
        }
        assert_eq!(escaped("a < b & 'c'", Markup::Html), "a &lt; b &amp; &#39;c&#39;");
        assert_eq!(escaped("a < b & c", Markup::Slack), "a &lt; b &amp; c");
        assert_eq!(escaped("- a", Markup::Markdown), "\u{200b}- a");
        assert_eq!(escaped("10. a", Markup::Markdown), "\u{200b}10. a");
        assert_eq!(escaped("10 a", Markup::Markdown), "10 a");
    }

    #[test]
    fn links_are_only_those_of_the_web_and_cannot_be_left() {
        let address = "https://h.example/a?b=1&c=2";
        for (markup, expected) in [
            (Markup::Plain, address.to_owned()),
            (
                Markup::Markdown,
                "[https://h.example/a?b=1＆c=2](https://h.example/a?b=1&c=2)".to_owned(),
            ),
            (
                Markup::Slack,
                "<https://h.example/a?b=1&amp;c=2|https://h.example/a?b=1&amp;c=2>".to_owned(),
            ),
            (
                Markup::Html,
                "<a href=\"https://h.example/a?b=1&amp;c=2\">https://h.example/a?b=1&amp;c=2</a>"
                    .to_owned(),
            ),
        ] {
            assert_eq!(link(address, None, markup), expected);
        }
        let evil = "https://h.example/)|><\"' onclick=`x`*\\";
        assert_eq!(link(evil, Some("a](b)"), Markup::Markdown).matches("](").count(), 1);
        assert_eq!(link(evil, Some("a>b"), Markup::Slack).matches(['<', '>', '|']).count(), 3);
        assert_eq!(link(evil, Some("a\"b"), Markup::Html).matches('"').count(), 2);
        assert_eq!(link(address, Some("here"), Markup::Plain), format!("here <{address}>"));
        for other in ["javascript:alert(1)", "ftp://h/x", "data:text/html,x", "x", ""] {
            for markup in [Markup::Plain, Markup::Markdown, Markup::Slack, Markup::Html] {
                assert_eq!(link(other, Some("text"), markup), escaped(other, markup), "{other}");
            }
        }
    }

    #[test]
    fn strong_and_code_cannot_be_left() {
        assert_eq!(bold("a*b", Markup::Slack), "*a∗b*");
        assert_eq!(bold(" a**b ", Markup::Markdown), "**a∗∗b**");
        assert_eq!(bold("a<b", Markup::Html), "<b>a&lt;b</b>");
        assert_eq!(code("a`b", Markup::Slack), "`aˋb`");
        assert_eq!(code("a`b", Markup::Markdown), "`aˋb`");
        assert_eq!(code("a</code>", Markup::Html), "<code>a&lt;/code&gt;</code>");
        assert_eq!((bold("a", Markup::Plain), code("b", Markup::Plain)), ("a".into(), "b".into()));
    }
}
