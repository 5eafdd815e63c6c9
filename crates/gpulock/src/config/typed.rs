//! A section as a value of any type, by serde. Whatever is wrong has its key and its line, and
//! no value is repeated: whoever reads a section here does not know which of them are secrets.

use std::collections::HashMap;
use std::path::Path;
use std::slice;
use std::sync::Arc;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::environment::Environment;
use super::error::ConfigError;
use super::fault::{self, Fault};
use super::file;
use super::kind;
use super::origin::Origin;
use super::outline::nearest;
use super::unexamined::{Written, line_of};
use super::walk::visible;
use super::yaml::{Content, Node};

/// A value of the section on its way to a type.
pub(super) struct Typed<'n> {
    file: &'n Path,
    environment: &'n Environment,
    node: &'n Node,
    /// Names from the top, with dots between.
    path: String,
    /// Where it stands; of a list or a mapping, its key.
    line: usize,
}

impl<'n> Typed<'n> {
    pub(super) fn of(section: &'n Written) -> Self {
        let Written { name, file, node, environment } = section;
        Self { file, environment, node, path: name.clone(), line: node.line }
    }

    /// The error for the user.
    pub(super) fn error(&self, fault: Fault) -> ConfigError {
        let (key, place) = (self.path.clone(), self.place());
        match fault {
            Fault::Placed(error) => *error,
            Fault::Wrong(wrong) => {
                ConfigError::WrongValue { key, place, reason: wrong.reason, hint: wrong.hint }
            }
            Fault::Said(wrong) => {
                let value = self.found().ok();
                let mask = |words: String| match &value {
                    Some(Found::Text(text, _)) => fault::masked(&words, text),
                    _ => words,
                };
                let (reason, hint) = (mask(wrong.reason), mask(wrong.hint));
                ConfigError::WrongValue { key, place, reason, hint }
            }
            Fault::UnknownKey { known } => unknown(key, place, known),
        }
    }

    fn place(&self) -> Origin {
        Origin::File { path: self.file.to_owned(), line: self.line }
    }

    fn placed(&self, fault: Fault) -> Fault {
        Fault::Placed(Box::new(self.error(fault)))
    }

    fn wrong<T>(&self, reason: &str, hint: &str) -> Result<T, Fault> {
        Err(self.placed(Fault::wrong(reason, hint)))
    }

    /// A value inside this one.
    fn inner(&self, path: String, node: &'n Node, line: usize) -> Self {
        Self { file: self.file, environment: self.environment, node, path, line }
    }

    /// What is written, variables replaced.
    fn found(&self) -> Result<Found<'n>, Fault> {
        if self.node.tagged {
            let hint = "write the value itself, or ${NAME} to take it from the environment";
            return self.wrong("has a tag, which has no meaning here", hint);
        }
        let (text, plain) = match &self.node.content {
            Content::List(items) => return Ok(Found::List(items)),
            Content::Mapping(entries) => return Ok(Found::Mapping(entries)),
            Content::Scalar { .. } if self.node.is_null() => return Ok(Found::Nothing),
            Content::Scalar { text, plain } => (text, *plain),
        };
        let text = file::completed(text, self.environment, &self.path, self.place())
            .map_err(|error| Fault::Placed(Box::new(error)))?;
        let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        if text.contains(odd) || text.contains(char::REPLACEMENT_CHARACTER) {
            return self.wrong(
                "holds a control character or text that is not UTF-8",
                "write it with visible characters",
            );
        }
        Ok(if plain && text.trim().is_empty() { Found::Nothing } else { Found::Text(text, plain) })
    }

    /// The text of a single value.
    fn text(&self) -> Result<String, Fault> {
        match self.found()? {
            Found::Text(text, _) => Ok(text),
            Found::Nothing => {
                self.wrong("has no value", "write one, or remove the key to have its default")
            }
            Found::List(_) => self.wrong("is a list", "write a single value"),
            Found::Mapping(_) => self.wrong("is a mapping", "write a single value"),
        }
    }

    /// Reads the text of a single value.
    fn parsed<T>(
        &self,
        read: impl FnOnce(&str) -> Option<T>,
        reason: &str,
        hint: &str,
    ) -> Result<T, Fault> {
        let text = self.text()?;
        read(text.trim()).map_or_else(|| self.wrong(reason, hint), Ok)
    }

    fn visit_text<'de, V: Visitor<'de>>(
        &self,
        text: String,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_string(text).map_err(|fault| self.placed(fault))
    }

    fn visit_entries<'de, V: Visitor<'de>>(
        &self,
        entries: &'n [(Arc<Node>, Arc<Node>)],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let keys = Keys { of: self, left: entries.iter(), value: None, seen: HashMap::new() };
        visitor.visit_map(keys).map_err(|fault| self.placed(fault))
    }

    fn visit_items<'de, V: Visitor<'de>>(
        &self,
        items: &'n [Arc<Node>],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let items = Items { of: self, left: items.iter().enumerate() };
        visitor.visit_seq(items).map_err(|fault| self.placed(fault))
    }
}

/// What is written as a value.
enum Found<'n> {
    Nothing,
    /// A text, and whether it is written without quotes.
    Text(String, bool),
    List(&'n [Arc<Node>]),
    Mapping(&'n [(Arc<Node>, Arc<Node>)]),
}

fn unknown(key: String, place: Origin, known: &[&str]) -> ConfigError {
    let (section, name) = key.rsplit_once('.').unwrap_or(("", &key));
    match nearest(name, known.iter().copied()) {
        Some(nearest) => {
            let nearest = format!("{section}.{nearest}");
            ConfigError::UnknownKey { key, place, nearest }
        }
        None => {
            let (reason, hint) = ("does not exist".to_owned(), "remove it".to_owned());
            ConfigError::WrongValue { key, place, reason, hint }
        }
    }
}

macro_rules! numbers {
    ($($deserialize:ident $visit:ident $type:ty;)+) => { $(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let hint = format!("write a whole number from {} to {}", <$type>::MIN, <$type>::MAX);
            let number = self.parsed(|text| text.parse().ok(), "is not such a number", &hint)?;
            visitor.$visit(number).map_err(|fault| self.placed(fault))
        }
    )+ };
}

impl<'de> Deserializer<'de> for &Typed<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let visited = match self.found()? {
            Found::Nothing => visitor.visit_unit(),
            Found::List(items) => return self.visit_items(items, visitor),
            Found::Mapping(entries) => return self.visit_entries(entries, visitor),
            Found::Text(text, false) => return self.visit_text(text, visitor),
            Found::Text(text, true) => match Scalar::of(&text) {
                Some(Scalar::Switch(on)) => visitor.visit_bool(on),
                Some(Scalar::Natural(number)) => visitor.visit_u64(number),
                Some(Scalar::Whole(number)) => visitor.visit_i64(number),
                Some(Scalar::Number(number)) => visitor.visit_f64(number),
                None => return self.visit_text(text, visitor),
            },
        };
        visited.map_err(|fault| self.placed(fault))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let switch = |text: &str| kind::switch(text).ok();
        let on = self.parsed(switch, "is neither true nor false", "write `true` or `false`")?;
        visitor.visit_bool(on).map_err(|fault| self.placed(fault))
    }

    numbers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let finite = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
        let number = self.parsed(finite, "is not a number", "write a number such as 0.9")?;
        visitor.visit_f64(number).map_err(|fault| self.placed(fault))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let text = self.text()?;
        self.visit_text(text, visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.found()? {
            Found::Nothing => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.found()? {
            Found::Nothing => self.visit_items(&[], visitor),
            Found::List(items) => self.visit_items(items, visitor),
            Found::Text(..) | Found::Mapping(_) => self.wrong(
                "is not a list",
                "write each item on a line of its own after `- `, or all of them in [ ]",
            ),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.found()? {
            Found::Nothing => self.visit_entries(&[], visitor),
            Found::Mapping(entries) => self.visit_entries(entries, visitor),
            Found::Text(..) | Found::List(_) => self.wrong(
                "is a section and needs keys, not a value",
                "write its keys on lines of their own below it, indented",
            ),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let visited = match self.found()? {
            Found::Mapping([(name, value)]) => visitor.visit_enum(Choice { of: self, name, value }),
            Found::Mapping(_) => return self.wrong("is not one choice", "write exactly one key"),
            _ => visitor.visit_enum::<de::value::StringDeserializer<_>>(
                self.text()?.trim().to_owned().into_deserializer(),
            ),
        };
        visited.map_err(|fault| self.placed(fault))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

/// A text without quotes that is more than a text, by YAML's core schema.
#[derive(Debug, PartialEq)]
enum Scalar {
    Switch(bool),
    Natural(u64),
    Whole(i64),
    Number(f64),
}

impl Scalar {
    fn of(text: &str) -> Option<Self> {
        match text {
            "true" | "True" | "TRUE" => return Some(Self::Switch(true)),
            "false" | "False" | "FALSE" => return Some(Self::Switch(false)),
            _ => {}
        }
        // Rust reads words such as `inf` as numbers too.
        let is_number = text.contains(|c: char| c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
        if !is_number {
            return None;
        }
        let natural = text.parse().ok().map(Self::Natural);
        let whole = || text.parse().ok().map(Self::Whole);
        natural.or_else(whole).or_else(|| text.parse().ok().map(Self::Number))
    }
}

/// The keys of a mapping that are still to come.
struct Keys<'t, 'n> {
    of: &'t Typed<'n>,
    left: slice::Iter<'n, (Arc<Node>, Arc<Node>)>,
    /// The value of the latest key.
    value: Option<Typed<'n>>,
    /// The line of every key so far.
    seen: HashMap<&'n str, usize>,
}

impl<'de> MapAccess<'de> for Keys<'_, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.left.next() else {
            return Ok(None);
        };
        let parent = self.of;
        let place = Origin::File { path: parent.file.to_owned(), line: key.line };
        let Some(name) = key.text() else {
            let reason = format!("a key in `{}` is not a text", parent.path);
            let error = ConfigError::Malformed { place, reason, hint: "write the name of a key" };
            return Err(Fault::Placed(Box::new(error)));
        };
        let path = format!("{}.{}", parent.path, visible(name));
        if let Some(first) = self.seen.insert(name, key.line) {
            let error = ConfigError::DuplicateKey { key: path, place, first };
            return Err(Fault::Placed(Box::new(error)));
        }
        let at = parent.inner(path, key, key.line);
        if name == "<<" {
            return at.wrong(
                "is a merge key, which is not followed",
                "write the keys out in this section",
            );
        }
        let name: de::value::StrDeserializer<'_, Fault> = name.into_deserializer();
        let seen = seed.deserialize(name).map_err(|fault| at.placed(fault))?;
        self.value = Some(Typed { node: value, line: line_of(key, value), ..at });
        Ok(Some(seen))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(value) => seed.deserialize(&value).map_err(|fault| value.placed(fault)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}

/// The items of a list that are still to come.
struct Items<'t, 'n> {
    of: &'t Typed<'n>,
    left: std::iter::Enumerate<slice::Iter<'n, Arc<Node>>>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((at, node)) = self.left.next() else {
            return Ok(None);
        };
        let item = self.of.inner(format!("{}[{at}]", self.of.path), node, node.line);
        seed.deserialize(&item).map(Some).map_err(|fault| item.placed(fault))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// One of several things, as a key with a value.
struct Choice<'t, 'n> {
    of: &'t Typed<'n>,
    name: &'n Node,
    value: &'n Node,
}

impl<'de, 'n> EnumAccess<'de> for Choice<'_, 'n> {
    type Error = Fault;
    type Variant = Chosen<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Fault> {
        let name = self.name.text().unwrap_or_default();
        let path = format!("{}.{}", self.of.path, visible(name));
        let at = self.of.inner(path, self.name, self.name.line);
        let name: de::value::StrDeserializer<'_, Fault> = name.into_deserializer();
        let variant = seed.deserialize(name).map_err(|fault| at.placed(fault))?;
        Ok((
            variant,
            Chosen(Typed { node: self.value, line: line_of(self.name, self.value), ..at }),
        ))
    }
}

/// The value under the key of the choice.
struct Chosen<'n>(Typed<'n>);

impl<'de> VariantAccess<'de> for Chosen<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        self.0.wrong("takes no value", "write the name alone")
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(&self.0).map_err(|fault| self.0.placed(fault))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.0.deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests;
