//! YAML as a tree whose every node knows its line, within limits that no file of ours
//! comes near.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// How deep mappings and lists may lie in each other, aliases unfolded. It bounds the stack
/// that walking, comparing and dropping a tree takes.
const DEEPEST: usize = 64;
/// How many values a file may have, aliases unfolded: a few lines of aliases to aliases
/// could stand for billions.
const MOST_VALUES: usize = 1_000_000;

const SYNTAX_HINT: &str = "check indentation, quotes and brackets in and above this line; \
                           inside { } and [ ] a ${NAME} needs quotes";

/// A value of the file.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    /// The line on which it begins; the first is 1.
    pub(super) line: usize,
    /// Whether it has a tag of an application, such as `!vault`.
    pub(super) tagged: bool,
    pub(super) content: Content,
    /// How many values it stands for, aliases unfolded.
    size: usize,
    /// How many mappings and lists lie in each other here.
    depth: usize,
}

/// What a value is made of.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    Scalar { text: String, plain: bool },
    List(Vec<Arc<Node>>),
    Mapping(Entries),
}

/// The keys and values of a mapping, in their order.
pub(super) type Entries = Vec<(Arc<Node>, Arc<Node>)>;

/// Why a text is not such a tree.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) reason: String,
    pub(super) hint: &'static str,
}

impl Malformed {
    pub(super) fn new(line: usize, reason: impl Into<String>, hint: &'static str) -> Self {
        Self { line, reason: reason.into(), hint }
    }
}

impl Node {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            Content::List(_) | Content::Mapping(_) => None,
        }
    }

    /// Whether it says "nothing": the null of YAML's core schema.
    pub(super) fn is_null(&self) -> bool {
        let null = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
        matches!(&self.content, Content::Scalar { text, plain: true } if null(text))
    }
}

/// Parses a text with one document; `None` is an empty one.
pub(super) fn parse(text: &str) -> Result<Option<Arc<Node>>, Malformed> {
    if let Some(at) = text.find(|c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r'))
    {
        return Err(Malformed::new(
            line_of(text, at),
            "it holds a control character",
            "remove it, or write it as \\xNN in double quotes",
        ));
    }
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| Malformed::new(error.marker().line(), error.info(), SYNTAX_HINT))?;
        tree.grow(event, span)?;
    }
    Ok(tree.root.filter(|root| !root.is_null()))
}

/// The line of the byte `at` of a text.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A tree that grows event by event.
#[derive(Default)]
struct Tree {
    root: Option<Arc<Node>>,
    /// Mappings and lists whose end is still to come, the outermost first.
    open: Vec<Open>,
    /// Values with an anchor, by the parser's number for it.
    anchored: HashMap<usize, Arc<Node>>,
}

/// A mapping or a list whose end is still to come.
struct Open {
    line: usize,
    tagged: bool,
    anchor: usize,
    /// The items; of a mapping, each key followed by its value.
    items: Vec<Arc<Node>>,
}

impl Tree {
    fn grow(&mut self, event: Event<'_>, span: Span) -> Result<(), Malformed> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(Malformed::new(
                line,
                "it holds more than one document",
                "keep one, without `---` after it",
            )),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let content = Content::Scalar { text: text.into_owned(), plain };
                let tagged = is_foreign(tag.as_deref());
                self.add(Node { line, tagged, content, size: 1, depth: 0 }, anchor)
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                let tagged = is_foreign(tag.as_deref());
                self.open.push(Open { line, tagged, anchor, items: Vec::new() });
                within(self.open.len(), DEEPEST, line, "levels")
            }
            Event::SequenceEnd => self.close(Content::List),
            Event::MappingEnd => self.close(|items| Content::Mapping(pairs(items))),
            Event::Alias(anchor) => match self.anchored.get(&anchor) {
                Some(node) => self.add_shared(Arc::clone(node)),
                None => Err(Malformed::new(
                    line,
                    "an alias stands inside its own anchor",
                    "write the value out",
                )),
            },
            _ => Ok(()),
        }
    }

    fn close(&mut self, content: impl FnOnce(Vec<Arc<Node>>) -> Content) -> Result<(), Malformed> {
        let Some(Open { line, tagged, anchor, items }) = self.open.pop() else {
            return Ok(());
        };
        let size = items.iter().fold(1, |sum: usize, item| sum.saturating_add(item.size));
        let depth = items.iter().map(|item| item.depth).max().unwrap_or_default() + 1;
        within(size, MOST_VALUES, line, "values")?;
        within(depth, DEEPEST, line, "levels")?;
        self.add(Node { line, tagged, content: content(items), size, depth }, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Malformed> {
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchored.insert(anchor, Arc::clone(&node));
        }
        self.add_shared(node)
    }

    fn add_shared(&mut self, node: Arc<Node>) -> Result<(), Malformed> {
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }
}

fn within(amount: usize, limit: usize, line: usize, what: &str) -> Result<(), Malformed> {
    if amount > limit {
        let reason = format!("it has more than {limit} {what}, aliases unfolded");
        return Err(Malformed::new(line, reason, "write it flatter and with fewer aliases"));
    }
    Ok(())
}

fn is_foreign(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| !tag.is_yaml_core_schema())
}

fn pairs(items: Vec<Arc<Node>>) -> Entries {
    let mut items = items.into_iter();
    let pair = || Some((items.next()?, items.next()?));
    std::iter::from_fn(pair).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::scene::Scene;
    use crate::config::{ConfigError, Origin};

    #[test]
    fn broken_yaml_is_refused_with_its_line() {
        for (file, line) in
            [("pool: a\n  b: c: d", 2), ("pool: [a", 1), ("pool: 'a", 1), ("a: *b", 1)]
        {
            let scene = Scene::with(file);
            let ConfigError::Malformed { place: Origin::File { line: at, .. }, .. } = scene.error()
            else {
                panic!("{file}")
            };
            assert!((line..=line + 1).contains(&at), "{file}: {at}");
        }
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut wide = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            wide.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let mut deep = String::from("a0: &a0 [x]\n");
        for level in 1..10_000 {
            deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        for (bomb, amount) in [(wide, "1000000 values"), (deep, "64 levels")] {
            let message = Scene::with(bomb).said();
            assert!(message.contains(amount), "{message}");
        }
        assert!(matches!(Scene::with("a: &a [*a]").error(), ConfigError::Malformed { .. }));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let flow = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
        let maps = format!("a: {}1{}", "{a: ".repeat(10_000), "}".repeat(10_000));
        let list = "- ".repeat(10_000);
        let block: String = (0..1_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        for file in [flow, maps, list, block] {
            assert!(matches!(Scene::with(file).error(), ConfigError::Malformed { .. }));
        }
    }
}
