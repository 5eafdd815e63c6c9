//! HTML as plain text, for readers that show no HTML.

use std::mem::take;

/// The text without its markup. Paragraphs, rows and list items are lines; links show where they lead.
pub(super) fn from_html(html: &str) -> String {
    let mut text = Plain::default();
    let mut rest = html;
    while let Some((before, behind)) = rest.split_once('<') {
        text.say(before);
        let Some((tag, after)) = behind.split_once('>') else {
            rest = "";
            break;
        };
        rest = text.obey(tag, after);
    }
    text.say(rest);
    text.finish()
}

#[derive(Default)]
struct Plain {
    lines: Vec<String>,
    line: String,
    /// Where the link leads that has begun, and what the line was before it.
    link: Option<(String, usize)>,
}

impl Plain {
    /// Text between tags; blanks count once.
    fn say(&mut self, html: &str) {
        for c in unescaped(html).chars() {
            match c {
                // A space that must stay is one like others here.
                c if c.is_whitespace() => {
                    if !self.line.is_empty() && !self.line.ends_with(' ') {
                        self.line.push(' ');
                    }
                }
                c => self.line.push(c),
            }
        }
    }

    /// What a tag does to the text. Back comes what follows, without what nobody is to read.
    fn obey<'h>(&mut self, tag: &str, after: &'h str) -> &'h str {
        let is_end = tag.starts_with('/');
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase();
        match name.as_str() {
            "style" | "script" | "title" if !is_end => {
                let end = format!("</{name}");
                let lower = after.to_ascii_lowercase();
                return lower.find(&end).map_or("", |at| &after[at..]);
            }
            "br" | "p" | "div" | "table" | "ul" | "ol" | "h1" | "h2" | "h3" | "h4" | "pre"
            | "hr" => self.end_line(),
            "li" | "tr" => {
                if !self.line.trim().is_empty() {
                    self.end_line();
                }
                if name == "li" && !is_end {
                    self.line.push_str("- ");
                }
            }
            "td" | "th" => self.say(" "),
            "a" if is_end => self.end_link(),
            "a" => self.link = target(tag).map(|target| (target, self.line.len())),
            _ => {}
        }
        after
    }

    fn end_link(&mut self) {
        if let Some((target, begin)) = self.link.take() {
            let shown = self.line.get(begin..).unwrap_or_default().trim();
            if shown != target {
                self.line.push_str(&format!(" ({target})"));
            }
        }
    }

    fn end_line(&mut self) {
        self.end_link();
        let line = take(&mut self.line);
        let line = line.trim_end();
        let is_gap = line.is_empty() && self.lines.last().is_none_or(String::is_empty);
        if !is_gap {
            self.lines.push(line.to_owned());
        }
    }

    fn finish(mut self) -> String {
        self.end_line();
        self.lines.join("\n").trim().to_owned() + "\n"
    }
}

/// Where `a href="…"` leads.
fn target(tag: &str) -> Option<String> {
    let (_, value) = tag.split_once("href=")?;
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (target, _) = value[1..].split_once(quote)?;
    Some(unescaped(target))
}

/// Replaces what HTML writes with `&` and `;`. What it does not know stays as it is.
fn unescaped(html: &str) -> String {
    // Longer names are none of these.
    const LONGEST: usize = 10;
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find('&') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(LONGEST).position(|byte| byte == b';');
        match end.and_then(|end| Some((character(&rest[1..end])?, end))) {
            Some((c, end)) => {
                text.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                text.push('&');
                rest = &rest[1..];
            }
        }
    }
    text + rest
}

fn character(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code).filter(|c| !c.is_control() || c.is_whitespace())?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_lines_and_links_show_where_they_lead() {
        let html = "<style>b{}</style><h3>GPU 0 &lt;held&gt;</h3><p>since <b>an\n hour</b>,\
            <br>by a &amp; b&#39;s</p><ul><li>one</li><li><a href=\"https://x/?a=1&amp;b\">two</a>\
            </li></ul><table><tr><td>pid</td><td>5</td></tr></table>";
        let text = "GPU 0 <held>\n\nsince an hour,\nby a & b's\n\n- one\n- two (https://x/?a=1&b)\n\npid 5\n";
        assert_eq!(from_html(html), text);
    }

    #[test]
    fn what_is_not_html_stays_readable() {
        assert_eq!(from_html("a & b &unknown; &#x1F4A9;"), "a & b &unknown; \u{1f4a9}\n");
        assert_eq!(from_html("cut <off"), "cut\n");
        assert_eq!(from_html("&lt;script&gt;"), "<script>\n");
        assert_eq!(from_html(""), "\n");
        assert_eq!(from_html("€€€€&€€€;"), "€€€€&€€€;\n");
    }
}
