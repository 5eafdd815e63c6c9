//! Messages as people see them.

use gpulock::core::alert::Labels;
use jiff::tz::TimeZone;

use super::*;
use crate::notification::Status;

const ALL: [Markup; 4] = [Markup::Plain, Markup::Markdown, Markup::Slack, Markup::Html];

fn template(language: Language, markup: Markup) -> Template {
    let mut template = Template::built_in(language, markup);
    template.voice.zone = TimeZone::UTC;
    template
}

fn told(template: &Template, notification: &Notification) -> Text {
    template.text(notification, samples::NOW)
}

#[test]
fn the_templates_of_gpulock_tell_every_sample() {
    for language in [Language::En, Language::Zh] {
        for markup in ALL {
            let template = template(language, markup);
            for sample in samples::all() {
                for part in [Part::Title, Part::Body] {
                    let rendered = template.rendered(part.built_in(), &sample, samples::NOW);
                    assert!(!rendered.unwrap().text.trim().is_empty());
                }
                let text = told(&template, &sample);
                assert!(!text.title.contains('\n') && !text.body.contains("\n\n\n"), "{text:?}");
                for alert in sample.firing().filter(|_| sample.reason != "test") {
                    let command = format!("gpulock alerts ack {}", alert.fingerprint);
                    assert!(text.body.contains(&command), "{text:?}");
                }
            }
        }
    }
}

#[test]
fn a_plain_message_says_what_happened_where_since_when_and_what_to_do() {
    let text = told(&template(Language::En, Markup::Plain), &samples::all()[0]);
    assert_eq!(text.title, "[P2] A task died. (Pool default, GPU 0)");
    assert_eq!(
        text.body,
        "[P2] A task died.

  Pool: default
  GPU: 0
  Task: train-7
  Host: gpu1
  Process: 4242
  Lease: 0123456789abcdef0123456789abcdef
  Held for: 12m 34s
  Cause: its process died
  Since: 2026-11-21 13:00:00 UTC (12m 34s), 3 times
  What that means, and what to do.
  What to do: https://example.org/runbook#lost
  Acknowledge: gpulock alerts ack 0e0dd1a65aad8442

https://gpu1.example.org:8788/"
    );
}

#[test]
fn a_chinese_markdown_message_says_the_same() {
    let mut sample = samples::all().swap_remove(0);
    sample.alerts[0].annotations.remove("summary");
    sample.alerts[0].annotations.remove("description");
    let text = told(&template(Language::Zh, Markup::Markdown), &sample);
    assert_eq!(text.title, "[P2] 任务在占用 GPU 期间崩溃或失去响应。 (资源池 default, GPU 0)");
    for part in [
        "**[P2] 任务在占用 GPU 期间崩溃或失去响应。**",
        "- 任务: train-7",
        "- 已占用: 12 分 34 秒",
        "- 开始时间: 2026-11-21 13:00:00 UTC (12 分 34 秒), 共 3 次",
        "- 其进程未归还 GPU 就已结束",
        "- 处理办法: [https://example.org/runbook＃lost](https://example.org/runbook#lost)",
        "- 确认: `gpulock alerts ack 0e0dd1a65aad8442`",
    ] {
        assert!(text.body.contains(part), "{part}\n{}", text.body);
    }
}

#[test]
fn many_alerts_are_named_once_and_the_rest_is_counted() {
    let sample = &samples::all()[2];
    let text = told(&template(Language::En, Markup::Slack), sample);
    assert_eq!(text.title, "[P2] 36 alerts: GPU_LOCK_ZOMBIE, GPU_LOCK_HOLDER_LOST (Pool default)");
    let description = gpulock::core::alert::rule("GPU_LOCK_ZOMBIE").unwrap().description;
    let start = escape::escaped(&description[..40], Markup::Slack);
    assert_eq!(text.body.matches(&start).count(), 1, "{}", text.body);
    assert!(text.body.ends_with("and 10 more"), "{}", text.body);
    assert!(text.body.contains("*[resolved] A task died.*"), "{}", text.body);
}

#[test]
fn what_is_over_is_told_as_over() {
    let sample = &samples::all()[1];
    assert_eq!(sample.status, Status::Resolved);
    for markup in ALL {
        let text = told(&template(Language::En, markup), sample);
        assert!(text.title.starts_with("[resolved] A task died."), "{text:?}");
        assert!(!text.body.contains("alerts ack") && text.body.contains("12m 34s"), "{text:?}");
    }
    let text = told(&template(Language::Zh, Markup::Plain), sample);
    assert!(text.title.starts_with("[已恢复] "), "{text:?}");
}

#[test]
fn escalations_and_tests_say_so() {
    let samples = samples::all();
    let text = told(&template(Language::En, Markup::Plain), &samples[3]);
    assert!(text.body.starts_with("Nobody has acknowledged this."), "{text:?}");
    assert!(text.body.contains("[info] Something is odd."), "{text:?}");
    let text = told(&template(Language::En, Markup::Plain), &samples[4]);
    assert!(text.title.starts_with("[test] ") && text.body.starts_with("This is a test."));
    assert!(!text.body.contains("alerts ack"), "{text:?}");
}

#[test]
fn no_name_leaves_its_place_in_a_message() {
    let name = "<!channel> [x](https://evil.example) </td><script>`@all`\n# *a* <at id=all></at>";
    let mut sample = samples::all().swap_remove(0);
    let alert = &mut sample.alerts[0];
    alert.labels = alert.labels.clone().with("task", name).with(Labels::RULE, name);
    for key in ["summary", "description", "host", "runbook_url"] {
        alert.annotations.insert(key.to_owned(), name.to_owned());
    }
    for markup in ALL {
        let text = told(&template(Language::En, markup), &sample);
        assert!(!text.title.contains('\n'), "{text:?}");
        let lines = text.body.lines().filter(|line| line.trim_start().starts_with('#')).count();
        assert_eq!(lines, 0, "{text:?}");
        if markup != Markup::Plain {
            for sign in ["<!channel>", "](https://evil", "<script>", "<at ", "https://evil"] {
                assert!(!text.body.contains(sign), "{sign} in {}", text.body);
            }
        }
    }
}

#[test]
fn users_templates_escape_by_themselves_and_have_the_same_filters() {
    let source = "{{ alerts[0].labels.task }}|{{ 'a<b' ~ alerts[0].labels.task }}|{{ 'x'|bold }}|\
                  {{ 'x'|code }}|{{ 'https://h.example/'|link('x') }}|{{ '<b>'|safe }}|{{ 'a<'|e }}";
    let mut sample = samples::all().swap_remove(0);
    sample.alerts[0].labels.set("task", "<i>");
    for (markup, expected) in [
        (Markup::Plain, "<i>|a<b<i>|x|x|x <https://h.example/>|<b>|a<"),
        (Markup::Markdown, "‹i›|a‹b‹i›|**x**|`x`|[x](https://h.example/)|<b>|a‹"),
        (Markup::Slack, "&lt;i&gt;|a&lt;b&lt;i&gt;|*x*|`x`|<https://h.example/|x>|<b>|a&lt;"),
        (
            Markup::Html,
            "&lt;i&gt;|a&lt;b&lt;i&gt;|<b>x</b>|<code>x</code>|<a href=\"https://h.example/\">x</a>|<b>|a&lt;",
        ),
    ] {
        // Not tried on samples: they have alerts without tasks.
        let mut template = template(Language::En, markup);
        template.engine.add_template_owned(OWN_BODY, source.to_owned()).unwrap();
        assert_eq!(told(&template, &sample).body, expected);
    }
}

#[test]
fn a_template_that_fails_some_night_costs_no_message() {
    let mut template = template(Language::En, Markup::Plain);
    template.engine.add_template_owned(OWN_BODY, "{{ nothing.at.all }}".to_owned()).unwrap();
    template.engine.add_template_owned(OWN_TITLE, "mine".to_owned()).unwrap();
    let text = told(&template, &samples::all()[0]);
    assert_eq!(text.title, "mine");
    assert!(text.body.contains("train-7"), "{text:?}");
}

#[test]
fn a_text_has_an_end() {
    let mut sample = samples::all().swap_remove(2);
    let one = sample.alerts[0].clone();
    sample.alerts = (0..3000)
        .map(|n| {
            let labels = one.labels.clone().with("task", format!("task {n} {}", "x".repeat(100)));
            crate::NotifiedAlert { labels, ..one.clone() }
        })
        .collect();
    let text = told(&template(Language::En, Markup::Plain), &sample);
    assert!(text.body.len() <= LONGEST && text.body.ends_with('…'));
}
