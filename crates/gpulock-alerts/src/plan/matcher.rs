//! What a label must be: `severity=~"P0|P1"`.

use std::fmt;
use std::str::FromStr;

use gpulock::config::Objection;
use gpulock::core::alert::Labels;
use regex_lite::Regex;
use serde::{Deserialize, Serialize};

/// What the value of a label must be, in Alertmanager's notation: `pool="default"`, `pool!="a"`,
/// `severity=~"P0|P1"`, `task!~"nightly-.*"`. A label that an alert lacks is empty. A regular
/// expression must match the whole value.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Matcher {
    name: String,
    value: String,
    test: Test,
}

/// How the value of the label is compared.
#[derive(Clone, Debug)]
enum Test {
    Equal,
    NotEqual,
    Like(Regex),
    NotLike(Regex),
}

/// A text that says nothing about a label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongMatcher {
    /// It does not begin with the name of a label and a comparison.
    #[error("says nothing about a label")]
    Form,
    /// A quotation mark is missing, or something follows the last one.
    #[error("has a value whose quotes do not end, or that goes on after them")]
    Quotes,
    /// The regular expression cannot be understood.
    #[error("has a regular expression that cannot be understood: {0}")]
    Regex(String),
}

impl WrongMatcher {
    /// What would be right.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Form => "write it as 'pool=\"default\"', with one of = != =~ !~ after the name",
            Self::Quotes => "write the value in double quotes, with \\\" and \\\\ for these signs",
            Self::Regex(_) => "look-around and back-references do not exist here",
        }
    }
}

impl Matcher {
    /// The label must have this value.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), test: Test::Equal }
    }

    /// The name of the label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, or the regular expression.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The comparison: `=`, `!=`, `=~` or `!~`.
    pub fn operator(&self) -> &'static str {
        match self.test {
            Test::Equal => "=",
            Test::NotEqual => "!=",
            Test::Like(_) => "=~",
            Test::NotLike(_) => "!~",
        }
    }

    /// Whether it holds for an alert with such labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.value(&self.name);
        match &self.test {
            Test::Equal => value == self.value,
            Test::NotEqual => value != self.value,
            Test::Like(regex) => regex.is_match(value),
            Test::NotLike(regex) => !regex.is_match(value),
        }
    }

    /// Whether all of them hold for an alert with such labels.
    pub fn all_match(all: &[Self], labels: &Labels) -> bool {
        all.iter().all(|matcher| matcher.matches(labels))
    }
}

impl FromStr for Matcher {
    type Err = WrongMatcher;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
        let end = text.find(|c| !is_name(c)).ok_or(WrongMatcher::Form)?;
        let (name, rest) = text.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(WrongMatcher::Form);
        }
        let rest = rest.trim_start();
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|sign| rest.starts_with(sign));
        let operator = operator.ok_or(WrongMatcher::Form)?;
        let value = unquoted(rest[operator.len()..].trim())?;
        let test = match operator {
            "=~" => Test::Like(anchored(&value)?),
            "!~" => Test::NotLike(anchored(&value)?),
            "!=" => Test::NotEqual,
            _ => Test::Equal,
        };
        Ok(Self { name: name.to_owned(), value, test })
    }
}

fn anchored(regex: &str) -> Result<Regex, WrongMatcher> {
    // By itself first: `a)(b` would make sense between the parentheses.
    let compiled = Regex::new(regex).and_then(|_| Regex::new(&format!("^(?:{regex})$")));
    compiled.map_err(|error| WrongMatcher::Regex(error.to_string()))
}

/// The value without its quotes; one without blanks and quotes needs none.
fn unquoted(text: &str) -> Result<String, WrongMatcher> {
    let Some(quoted) = text.strip_prefix('"') else {
        let is_plain = |c: char| !c.is_whitespace() && !"{}!=~,\\\"'`".contains(c);
        // Regular expressions have signs of their own, and stand alone in the text.
        return if text.chars().all(|c| is_plain(c) || "{}\\,".contains(c)) {
            Ok(text.to_owned())
        } else {
            Err(WrongMatcher::Quotes)
        };
    };
    let mut value = String::with_capacity(quoted.len());
    let mut signs = quoted.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '"' if signs.as_str().is_empty() => return Ok(value),
            '"' => return Err(WrongMatcher::Quotes),
            '\\' => match signs.next() {
                Some('n') => value.push('\n'),
                Some(sign @ ('"' | '\\')) => value.push(sign),
                // `\.` and `\d` are for the regular expression.
                Some(sign) => value.extend(['\\', sign]),
                None => return Err(WrongMatcher::Quotes),
            },
            sign => value.push(sign),
        }
    }
    Err(WrongMatcher::Quotes)
}

impl fmt::Display for Matcher {
    /// What it shows can be read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        write!(f, "{}{}\"{value}\"", self.name, self.operator())
    }
}

impl TryFrom<String> for Matcher {
    type Error = Objection;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map_err(|wrong: WrongMatcher| Objection::new(wrong.to_string(), wrong.hint()))
    }
}

impl From<Matcher> for String {
    fn from(matcher: Matcher) -> Self {
        matcher.to_string()
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value && self.operator() == other.operator()
    }
}

impl Eq for Matcher {}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        [("alertname", "A"), ("severity", "P1"), ("task", "a \"b\"\nc\\d")].into_iter().collect()
    }

    #[test]
    fn labels_are_compared_as_alertmanager_compares_them() {
        for (text, holds) in [
            (r#"severity="P1""#, true),
            ("severity=P1", true),
            (r#" severity = "P1" "#, true),
            (r#"severity="p1""#, false),
            (r#"severity!="P1""#, false),
            (r#"severity!="""#, true),
            (r#"severity=~"P0|P1""#, true),
            (r#"severity=~"P""#, false),
            (r#"severity=~".1""#, true),
            (r#"severity!~"P[02]""#, true),
            (r#"severity!~"P0|P1""#, false),
            (r#"severity=~"P\d""#, true),
            (r"severity=~P\d{1,2}", true),
            (r#"pool="""#, true),
            (r#"pool="default""#, false),
            (r#"pool!="default""#, true),
            (r#"pool=~"(default)?""#, true),
            (r#"pool=~".+""#, false),
            (r#"task="a \"b\"\nc\\d""#, true),
            ("alertname=~A|B", true),
        ] {
            let matcher: Matcher = text.parse().unwrap();
            assert_eq!(matcher.matches(&labels()), holds, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for text in [r#"severity="P1""#, r#"a!="""#, r#"a=~"x|\\d+\\.\\\\""#, r#"a!~"é \"q\" \n""#]
        {
            let matcher: Matcher = text.parse().unwrap();
            assert_eq!(matcher.to_string(), text);
            let json = serde_json::to_string(&matcher).unwrap();
            assert_eq!(serde_json::from_str::<Matcher>(&json).unwrap(), matcher);
        }
        assert_ne!(Matcher::equal("a", "b"), "a!=b".parse().unwrap());
        assert_eq!(
            Matcher::equal("a", "b\"c").to_string().parse(),
            Ok(Matcher::equal("a", "b\"c"))
        );
    }

    #[test]
    fn what_says_nothing_about_a_label_is_refused() {
        for text in ["", "severity", "=x", "1a=x", "a b=c", "a-b=c", "é=c", "a>b", "a!b"] {
            assert_eq!(text.parse::<Matcher>(), Err(WrongMatcher::Form), "{text}");
        }
        for text in [r#"a="x"#, r#"a="x"y"#, r#"a=x""#, r#"a="x\"#, "a=x y", "a='x'", "a==b"] {
            assert_eq!(text.parse::<Matcher>(), Err(WrongMatcher::Quotes), "{text}");
        }
        for text in [r#"a=~"(""#, r#"a=~"a)(b""#, r#"a!~"[""#, r#"a=~"(?=x)""#] {
            assert!(matches!(text.parse::<Matcher>(), Err(WrongMatcher::Regex(_))), "{text}");
        }
    }
}
