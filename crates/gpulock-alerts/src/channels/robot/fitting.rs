//! Messages that must not be larger than a service takes.

use crate::text::cut;

/// What `write` makes of as much of `text` as leaves it at most `limit` bytes long. A text that does
/// not fit ends at a line if there is one near, else at a character, with `…`.
pub(crate) fn fitting<W: AsRef<[u8]>>(text: &str, limit: usize, write: impl Fn(&str) -> W) -> W {
    let whole = write(text);
    if whole.as_ref().len() <= limit {
        return whole;
    }
    let (mut fits, mut bound) = (0, text.len().min(limit));
    let mut best = write("");
    while fits < bound {
        let middle = usize::midpoint(fits, bound + 1);
        let written = write(&shortened(text, middle));
        if written.as_ref().len() <= limit {
            best = written;
            fits = middle;
        } else {
            bound = middle - 1;
        }
    }
    best
}

/// At most so many bytes of it.
fn shortened(text: &str, bytes: usize) -> String {
    const LINE: &str = "\n…";
    let mut short = text.to_owned();
    cut(&mut short, bytes);
    let room = bytes.saturating_sub(LINE.len());
    let line = short.rfind('\n').filter(|end| (bytes - bytes / 4..=room).contains(end));
    if let Some(end) = line {
        short.truncate(end);
        short.push_str(LINE);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({ "text": text })).unwrap()
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        assert_eq!(fitting("abc", 14, json), b"{\"text\":\"abc\"}");
        assert_eq!(fitting("", 14, json), b"{\"text\":\"\"}");
    }

    #[test]
    fn the_most_that_fits_is_taken_at_the_border_of_a_character_whatever_it_costs_in_json() {
        for unit in ["a", "限", "\u{1}", "\"", "🔥", "é\n", "ab限\\🔥"] {
            let text = unit.repeat(400);
            for limit in 30..120 {
                let written = fitting(&text, limit, json);
                assert!(written.len() <= limit, "{unit:?} {limit}: {}", written.len());
                // One more unit, and the ellipsis, would not have fitted.
                assert!(written.len() + 24 > limit * 3 / 4, "{unit:?} {limit}: {}", written.len());
                let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
                let kept = value["text"].as_str().unwrap().trim_end_matches('…').trim_end();
                assert!(text.starts_with(kept), "{kept:?}");
            }
        }
    }

    #[test]
    fn a_cut_falls_between_lines_if_one_ends_near() {
        let text = format!("{}\n{}", "a".repeat(90), "b".repeat(90));
        assert_eq!(fitting(&text, 100, str::to_owned), format!("{}\n…", "a".repeat(90)));
        let far = format!("a\n{}", "b".repeat(200));
        assert_eq!(fitting(&far, 100, str::to_owned), format!("a\n{}…", "b".repeat(95)));
    }
}
