//! `${NAME}` and `${NAME:default}` in the texts of the file.

use super::environment::Environment;

/// Why a text could not be completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unresolved<'t> {
    /// The variable is not set, and the text gives no default.
    Unset(&'t str),
    /// A reference that does not read `${NAME}` or `${NAME:default}`.
    Malformed,
}

/// Replaces every reference to a variable; `$${` stands for `${`. An empty variable counts
/// as set where there is no default, so that "no password" can be said.
pub(super) fn complete<'t>(
    text: &'t str,
    environment: &Environment,
) -> Result<String, Unresolved<'t>> {
    let mut complete = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = (&rest[..start], &rest[start + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            complete.push_str(before);
            complete.push_str("${");
            rest = reference;
            continue;
        }
        let (reference, after) = reference.split_once('}').ok_or(Unresolved::Malformed)?;
        complete.push_str(before);
        complete.push_str(resolve(reference, environment)?);
        rest = after;
    }
    complete.push_str(rest);
    Ok(complete)
}

/// The names of the variables that a text may need; also some that it does not.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|reference| reference.split([':', '}']).next())
}

fn resolve<'v, 't: 'v>(
    reference: &'t str,
    environment: &'v Environment,
) -> Result<&'v str, Unresolved<'t>> {
    let (name, default) = match reference.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // The shell's `${NAME:-default}` would silently mean the default `-default`.
    let shell = default.is_some_and(|default| default.starts_with('-'));
    if name.is_empty() || !word || name.starts_with(|c: char| c.is_ascii_digit()) || shell {
        return Err(Unresolved::Malformed);
    }
    match default {
        Some(default) => Ok(environment.value(name).unwrap_or(default)),
        None => environment.text(name).ok_or(Unresolved::Unset(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(text: &str) -> Result<String, Unresolved<'_>> {
        let environment = [("HOST", "gpu1"), ("EMPTY", ""), ("NESTED", "${HOST}")];
        complete(text, &environment.into_iter().collect())
    }

    #[test]
    fn references_are_replaced_once() {
        for (text, complete) in [
            ("plain $HOST {HOST} $", "plain $HOST {HOST} $"),
            ("${HOST}", "gpu1"),
            ("a${HOST}b${HOST}c", "agpu1bgpu1c"),
            ("${NONE:}", ""),
            ("${NONE:6379}", "6379"),
            ("${NONE:a:b/c}", "a:b/c"),
            ("${EMPTY}", ""),
            ("${EMPTY:6379}", "6379"),
            ("${HOST:x}", "gpu1"),
            ("${NESTED}", "${HOST}"),
            ("$${HOST}", "${HOST}"),
            ("$${HOST} ${HOST}", "${HOST} gpu1"),
            ("ü${HOST}ü", "ügpu1ü"),
        ] {
            assert_eq!(completed(text).unwrap(), complete, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_an_error() {
        assert_eq!(completed("a ${NONE}"), Err(Unresolved::Unset("NONE")));
        for text in ["${", "${HOST", "${}", "${:x}", "${A B}", "${1A}", "${HOST:-x}"] {
            assert_eq!(completed(text), Err(Unresolved::Malformed), "{text}");
        }
    }
}
