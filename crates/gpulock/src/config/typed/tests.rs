//! Sections of all kinds, and what is said about them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::scene::Scene;
use crate::config::{ConfigError, Objection, Unexamined};

use super::Scalar;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Alerts {
    language: Language,
    url: String,
    secret: Word,
    channels: BTreeMap<String, Channel>,
    items: Vec<Item>,
    choice: Option<Choice>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Language {
    #[default]
    En,
    Zh,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    None,
    One(u8),
    Both { left: bool, right: bool },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Channel {
    address: String,
    #[serde(default)]
    budget: Option<u32>,
    #[serde(default)]
    rate: f64,
    #[serde(default)]
    on: bool,
}

/// A text or a number, as the type likes.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Item {
    Switch(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

/// A type that quotes what it refuses.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Word(String);

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_word = text.chars().all(char::is_alphabetic);
        if is_word { Ok(Self(text)) } else { Err(format!("`{text}` is no word; use letters")) }
    }
}

fn section(scene: &Scene) -> Unexamined {
    scene.config().alerts.unwrap()
}

fn examined(file: &str) -> Alerts {
    section(&Scene::with(file)).examine().unwrap()
}

fn error(scene: &Scene) -> (String, String) {
    let error = section(scene).examine::<Alerts>().unwrap_err();
    let folder = format!("{}/", scene.folder.path().display());
    (error.to_string().replace(&folder, ""), error.hint().unwrap())
}

#[test]
fn a_section_becomes_a_value() {
    let channel =
        |address: &str| Channel { address: address.to_owned(), budget: None, rate: 0.0, on: false };
    let alerts = examined(
        "alerts:\n  language: zh\n  url: 30\n  channels:\n    a: {address: 1.50, budget: '7', rate: 1, \
         on: yes}\n    b: {address: true, budget: ~, rate: \"2.5\"}\n  choice: {both: {left: true, \
         right: off}}\n",
    );
    let a = Channel { budget: Some(7), rate: 1.0, on: true, ..channel("1.50") };
    let b = Channel { rate: 2.5, ..channel("true") };
    let channels = [("a".to_owned(), a), ("b".to_owned(), b)].into_iter().collect();
    let choice = Some(Choice::Both { left: true, right: false });
    let (language, url) = (Language::Zh, "30".to_owned());
    assert_eq!(alerts, Alerts { language, url, channels, choice, ..Alerts::default() });
    assert_eq!(examined("alerts: {choice: none}").choice, Some(Choice::None));
    assert_eq!(examined("alerts: {choice: {one: 3}}").choice, Some(Choice::One(3)));
    for nothing in ["alerts: {}", "alerts: {channels: , items: ~, choice: }"] {
        assert_eq!(examined(nothing), Alerts::default());
    }
}

#[test]
fn scalars_without_quotes_have_the_types_of_yaml_where_the_type_asks() {
    let items = examined(
        "alerts:\n  items: [true, False, 1, -2, 1.5, 1e3, '1', \"true\", .inf, inf, 0x10, 1-2, x]",
    );
    let text = |text: &str| Item::Text(text.to_owned());
    assert_eq!(
        items.items,
        [
            Item::Switch(true),
            Item::Switch(false),
            Item::Whole(1),
            Item::Whole(-2),
            Item::Number(1.5),
            Item::Number(1000.0),
            text("1"),
            text("true"),
            text(".inf"),
            text("inf"),
            text("0x10"),
            text("1-2"),
            text("x"),
        ]
    );
    assert_eq!(Scalar::of("18446744073709551615"), Some(Scalar::Natural(u64::MAX)));
    assert_eq!(
        Scalar::of("18446744073709551616"),
        Some(Scalar::Number(18_446_744_073_709_551_616.0))
    );
}

#[test]
fn variables_are_those_of_the_loading_and_may_be_unset_until_then() {
    let file = "alerts:\n  url: a${HOST}\n  channels:\n    a:\n      address: ${PASSWORD}\n      \
                budget: ${BUDGET:}\n      rate: \"${RATE:0.5}\"\n";
    let scene = Scene::with(file).env([("HOST", "b"), ("PASSWORD", "s3cret"), ("OTHER", "x")]);
    let section = section(&scene);
    let alerts: Alerts = section.examine().unwrap();
    let channel = &alerts.channels["a"];
    assert_eq!((alerts.url.as_str(), channel.address.as_str()), ("ab", "s3cret"));
    assert_eq!((channel.budget, channel.rate), (None, 0.5));
    assert_eq!(format!("{:?}", section.0.environment), r#"{"HOST", "PASSWORD"}"#);
    assert_eq!(format!("{section:?}"), "Unexamined(..)");

    let scene = Scene::with(file).env([("HOST", "b")]);
    assert!(scene.config().alerts.is_some());
    let (said, hint) = error(&scene);
    assert_eq!(
        said,
        "understand config.yml:5: `alerts.channels.a.address` uses the environment variable \
         PASSWORD, which is not set"
    );
    assert_eq!(hint, "set it, or write a default as ${PASSWORD:DEFAULT}");
}

/// Sections, what is said about them after `config.yml:`, and the hint.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "\n  chanels: {}",
        "2: there is no key `alerts.chanels`; the nearest is `alerts.channels`",
        "write `alerts.channels` if that is meant, or remove it",
    ),
    (
        "\n  channels:\n    a:\n      address: x\n      adress: s3cret\n",
        "5: there is no key `alerts.channels.a.adress`; the nearest is `alerts.channels.a.address`",
        "write `alerts.channels.a.address` if that is meant, or remove it",
    ),
    (
        "\n  channels:\n    a:\n      budget: 1\n",
        "3: `alerts.channels.a` lacks the key `address`",
        "add `address: …` to it",
    ),
    (
        "\n  channels:\n    a:\n",
        "3: `alerts.channels.a` lacks the key `address`",
        "add `address: …` to it",
    ),
    (
        "\n  channels:\n    a:\n      address: x\n      budget: s3cret\n",
        "5: `alerts.channels.a.budget` is not such a number",
        "write a whole number from 0 to 4294967295",
    ),
    (
        " {channels: {a: {address: x, budget: -1}}}",
        "1: `alerts.channels.a.budget` is not such a number",
        "write a whole number from 0 to 4294967295",
    ),
    (
        " {channels: {a: {address: x, rate: .nan}}}",
        "1: `alerts.channels.a.rate` is not a number",
        "write a number such as 0.9",
    ),
    (
        " {channels: {a: {address: x, on: s3cret}}}",
        "1: `alerts.channels.a.on` is neither true nor false",
        "write `true` or `false`",
    ),
    ("\n  language: s3cret", "2: `alerts.language` is not a choice", "write one of `en`, `zh`"),
    ("\n  secret: s3cret", "2: `alerts.secret` cannot be used: it is no word", "use letters"),
    (
        "\n  choice: {one: s3cret}",
        "2: `alerts.choice.one` is not such a number",
        "write a whole number from 0 to 255",
    ),
    ("\n  choice: {}", "2: `alerts.choice` is not one choice", "write exactly one key"),
    ("\n  choice: {none: 1}", "2: `alerts.choice.none` takes no value", "write the name alone"),
    (
        "\n  channels: s3cret",
        "2: `alerts.channels` is a section and needs keys, not a value",
        "write its keys on lines of their own below it, indented",
    ),
    (
        "\n  items: s3cret",
        "2: `alerts.items` is not a list",
        "write each item on a line of its own after `- `, or all of them in [ ]",
    ),
    ("\n  url:\n  - s3cret", "2: `alerts.url` is a list", "write a single value"),
    ("\n  url: {a: s3cret}", "2: `alerts.url` is a mapping", "write a single value"),
    (
        "\n  url:",
        "2: `alerts.url` has no value",
        "write one, or remove the key to have its default",
    ),
    (
        "\n  url: !vault s3cret",
        "2: `alerts.url` has a tag, which has no meaning here",
        "write the value itself, or ${NAME} to take it from the environment",
    ),
    (
        "\n  url: '${s3cret'",
        "2: `alerts.url` holds a `${` that does not begin a reference",
        "write ${NAME} or ${NAME:default}; $${ stands for the signs themselves",
    ),
    (
        "\n  url: \"s3cret\\e\"",
        "2: `alerts.url` holds a control character or text that is not UTF-8",
        "write it with visible characters",
    ),
    (
        "\n  url: a\n  language: en\n  url: s3cret",
        "4: `alerts.url` stands in line 2 already",
        "keep one of the two",
    ),
    (
        "\n  channels:\n    a: {address: x}\n    a: {address: y}",
        "4: `alerts.channels.a` stands in line 3 already",
        "keep one of the two",
    ),
    (
        "\n  channels:\n    <<: {address: x}",
        "3: `alerts.channels.<<` is a merge key, which is not followed",
        "write the keys out in this section",
    ),
    (
        "\n  channels: {[a]: x}",
        "2: a key in `alerts.channels` is not a text",
        "write the name of a key",
    ),
];

#[test]
fn wrong_sections_are_refused_with_key_line_and_hint_and_without_values() {
    for (file, message, hint) in WRONG {
        let (said, hinted) = error(&Scene::with(format!("alerts:{file}")));
        assert_eq!(said, format!("understand config.yml:{message}"));
        assert_eq!(hinted, *hint, "{file}");
        assert!(!format!("{said}{hinted}").contains("s3cret"), "{said}");
    }
}

#[test]
fn what_is_wrong_between_values_has_its_key_and_line_too() {
    let scene =
        Scene::with("alerts:\n  route:\n    routes:\n      - a: 1\n      - b:\n        - x\n");
    let section = section(&scene);
    let said = |keys: &[&str]| {
        let error = section.wrong(keys, Objection::new("is odd", "mend it"));
        assert!(matches!(&error, ConfigError::WrongValue { hint, .. } if hint == "mend it"));
        error.to_string().rsplit_once('/').unwrap().1.to_owned()
    };
    for (keys, message) in [
        (&[] as &[&str], "config.yml:2: `alerts` is odd"),
        (&["route"], "config.yml:2: `alerts.route` is odd"),
        (&["route", "routes", "0", "a"], "config.yml:4: `alerts.route.routes[0].a` is odd"),
        (&["route", "routes", "1", "b"], "config.yml:5: `alerts.route.routes[1].b` is odd"),
        (&["route", "routes", "1", "b", "0"], "config.yml:6: `alerts.route.routes[1].b[0]` is odd"),
        (&["route", "routes", "1", "c"], "config.yml:5: `alerts.route.routes[1].c` is odd"),
        (&["none", "at all"], "config.yml:2: `alerts.none.at all` is odd"),
    ] {
        assert_eq!(said(keys), message);
    }
}
