//! The documentation keeps to the program: generated pages are current, what is written by hand
//! names only codes, variables and commands that exist, and no link leads nowhere.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use gpulock_cli::args::Cli;
use gpulock_cli::reference;

use super::scene::Scene;

const UPDATE: &str = "GPULOCK_UPDATE_REFERENCE";

#[test]
fn the_page_of_the_command_line_is_current() {
    compare("docs/reference/cli.md", &reference::command_line());
}

#[test]
fn the_page_of_the_configuration_is_current() {
    compare("docs/reference/configuration.md", &reference::configuration());
}

#[test]
fn the_page_of_alerts_is_current() {
    compare("docs/reference/alerts.md", &reference::alerts());
}

#[test]
fn the_document_of_the_api_is_current() {
    compare("docs/reference/openapi.json", &reference::api());
}

#[test]
fn the_committed_rules_and_board_are_what_the_program_prints() {
    compare("deploy/prometheus/gpulock-rules.yml", &printed("prometheus-rules"));
    compare("deploy/grafana/gpulock-dashboard.json", &printed("grafana-dashboard"));
}

#[test]
fn the_page_of_exit_codes_names_every_code_and_no_other() {
    let source = read("crates/gpulock-cli/src/exit.rs");
    let arms = source.lines().filter_map(|line| line.split_once("=> "));
    let in_code: BTreeSet<u8> =
        arms.filter_map(|(_, number)| number.trim_end_matches(',').parse().ok()).collect();
    let page = read("docs/reference/exit-codes.md");
    let on_page: BTreeSet<u8> =
        first_cells(&page).iter().filter_map(|cell| cell.parse().ok()).collect();
    assert!(in_code.contains(&75), "exit.rs is no longer understood: {in_code:?}");
    assert_eq!(on_page, in_code);
}

#[test]
fn the_page_of_variables_names_only_variables_that_the_program_uses() {
    let sources = rust_sources();
    let page = read("docs/reference/environment.md");
    let named = first_cells(&page);
    assert!(named.len() > 10, "the page is no longer understood: {named:?}");
    for variable in &named {
        let quoted = format!("\"{variable}\"");
        assert!(sources.contains(&quoted), "{variable} is used nowhere");
    }
}

#[test]
fn every_variable_that_the_program_reads_or_sets_is_on_a_page() {
    let pages = read("docs/reference/environment.md") + &read("docs/reference/configuration.md");
    let files =
        ["session.rs", "commands/verify.rs", "run/supervise.rs", "run/progress.rs", "output.rs"];
    for file in files {
        let source = read(&format!("crates/gpulock-cli/src/{file}"));
        for variable in source.split('"').skip(1).step_by(2).filter(|text| is_variable(text)) {
            assert!(pages.contains(&format!("`{variable}`")), "{variable} of {file}");
        }
    }
}

#[test]
fn the_first_screen_of_the_readme_has_one_command_to_run_and_one_to_test() {
    let readme = read("README.md");
    let first_screen = readme.split("\n## ").next().unwrap_or_default();
    assert_eq!(
        shell_lines(first_screen),
        ["cargo run --release -p gpulock-cli -- run -- echo \"hello from GPU 0\"", "scripts/test",]
    );
    assert!(root().join("scripts/test").is_file());
    assert!(first_screen.lines().count() <= 40, "it is longer than a screen");
}

#[test]
fn every_command_in_the_documentation_is_understood() {
    let mut understood = 0;
    for page in pages() {
        for line in shell_lines(&read(&page)) {
            let Some(words) = gpulock_words(&line) else {
                continue;
            };
            if let Err(error) = Cli::try_parse_from(&words) {
                let is_answer = !error.use_stderr();
                assert!(is_answer, "{page}: {line}\n{error}");
            }
            understood += 1;
        }
    }
    assert!(understood > 20, "only {understood} commands were found");
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    for page in pages() {
        let text = read(&page);
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(&page).parent().unwrap_or(Path::new(""));
            let target = match file {
                "" => PathBuf::from(&page),
                file => folder.join(file),
            };
            assert!(root().join(&target).exists(), "{page} links to {link}");
            if !heading.is_empty() {
                let there = anchors(&read(&target.to_string_lossy()));
                assert!(there.contains(heading), "{page} links to {link}; {there:?}");
            }
        }
    }
}

fn compare(page: &str, current: &str) {
    let path = root().join(page);
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, current).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let first = committed.lines().zip(current.lines()).find(|(old, new)| old != new);
    assert!(
        committed == current,
        "{page} is not current; first difference: {first:#?}\n\
         hint: {UPDATE}=1 scripts/test reference"
    );
}

/// What `gpulock generate` prints.
fn printed(what: &str) -> String {
    let ended = Scene::new().gpulock(&["generate", what]).expect(0);
    assert_eq!(ended.stderr, "");
    ended.stdout
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the repository, by its path from the root.
pub(super) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Markdown file of the repository, by its path from the root.
fn pages() -> Vec<String> {
    let pages = files_below("", "md");
    assert!(pages.iter().any(|page| page == "README.md"), "{pages:?}");
    pages
}

fn rust_sources() -> String {
    let files = files_below("crates", "rs").into_iter();
    let sources = files.filter(|path| path.contains("/src/") && !path.ends_with("tests.rs"));
    let keys = reference::configuration().replace('`', "\"");
    sources.map(|path| read(&path)).collect::<String>() + &keys
}

/// Folders that tools made are passed over.
fn files_below(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let full = root().join(&path);
        let has = |mark| full.join(mark).exists();
        let is_made = name.starts_with('.') || has("CACHEDIR.TAG") || has("pyvenv.cfg");
        if full.is_dir() && !is_made {
            found.extend(files_below(&path, ending));
        } else if full.extension().is_some_and(|it| it == ending) {
            found.push(path);
        }
    }
    found
}

/// What stands in the first column of tables between backticks, or plain.
fn first_cells(page: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" |").next());
    let bare = cells.map(|cell| cell.trim_matches('`').to_owned());
    bare.filter(|cell| is_variable(cell) || cell.parse::<u8>().is_ok()).collect()
}

fn is_variable(text: &str) -> bool {
    let of_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.len() > 3 && text.chars().all(of_name) && text.contains(char::is_alphabetic)
}

/// The lines of the blocks marked `sh`, continued lines as one, without comments.
fn shell_lines(page: &str) -> Vec<String> {
    let blocks = page.split("\n```sh\n").skip(1);
    let texts = blocks.filter_map(|rest| rest.split("\n```").next());
    let lines = texts.flat_map(|text| {
        let whole = text.replace("\\\n", " ");
        whole.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    });
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The words of a call of `gpulock`, up to what the shell does with it; `None` for any other
/// line. Good enough for what a page shows: quotes without escapes, no substitution.
pub(super) fn gpulock_words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(end)) if c == end => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            (';' | '|' | '&' | '>' | '<', None) => break,
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let is_assignment = |word: &String| word.split('=').next().is_some_and(is_variable);
    let call = words.into_iter().skip_while(is_assignment).collect::<Vec<_>>();
    (call.first()? == "gpulock").then_some(call)
}

/// Targets of links that stay in the repository.
fn links(page: &str) -> Vec<&str> {
    let after = page.split("](").skip(1);
    let targets = after.filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains(':')).collect()
}

/// How headings are called in links: lower case, blanks as hyphens, without other signs.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let slug = |heading: &str| heading.to_lowercase().chars().filter(kept).collect::<String>();
    headings.map(|line| slug(line.trim_start_matches('#').trim()).replace(' ', "-")).collect()
}
