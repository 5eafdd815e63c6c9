//! The words of messages in each language.

use std::time::Duration;

use serde::Serialize;

use crate::config::Language;

/// The words of messages. `{n}` stands for a number.
#[derive(Debug, Serialize)]
pub(super) struct Words {
    pub(super) acknowledge: &'static str,
    pub(super) alerts: &'static str,
    pub(super) is_test: &'static str,
    pub(super) more: &'static str,
    pub(super) resolved: &'static str,
    pub(super) runbook: &'static str,
    pub(super) since: &'static str,
    pub(super) test: &'static str,
    pub(super) times: &'static str,
    pub(super) unacknowledged: &'static str,
    pub(super) facts: Facts,
    /// Days, hours, minutes, seconds.
    #[serde(skip)]
    units: [&'static str; 4],
}

/// What facts are called; others have the names that they have in English.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    cause: &'static str,
    error: &'static str,
    gpu: &'static str,
    held_seconds: &'static str,
    host: &'static str,
    lease_id: &'static str,
    message: &'static str,
    opens_in_seconds: &'static str,
    pid: &'static str,
    pool: &'static str,
    task: &'static str,
    tries: &'static str,
    value: &'static str,
    waiting_task: &'static str,
}

const ENGLISH: Words = Words {
    acknowledge: "Acknowledge",
    alerts: "{n} alerts",
    is_test: "This is a test. Nothing is wrong, and nobody has to do anything.",
    more: "and {n} more",
    resolved: "resolved",
    runbook: "What to do",
    since: "Since",
    test: "[test]",
    times: "{n} times",
    unacknowledged: "Nobody has acknowledged this.",
    facts: Facts {
        cause: "Cause",
        error: "Error",
        gpu: "GPU",
        held_seconds: "Held for",
        host: "Host",
        lease_id: "Lease",
        message: "Message",
        opens_in_seconds: "Opens in",
        pid: "Process",
        pool: "Pool",
        task: "Task",
        tries: "Tries",
        value: "Figure",
        waiting_task: "Waiting task",
    },
    units: ["d", "h", "m", "s"],
};

const CHINESE: Words = Words {
    acknowledge: "确认",
    alerts: "{n} 条告警",
    is_test: "这是一条测试消息，一切正常，无需处理。",
    more: "另有 {n} 条未列出",
    resolved: "已恢复",
    runbook: "处理办法",
    since: "开始时间",
    test: "[测试]",
    times: "共 {n} 次",
    unacknowledged: "此告警尚无人确认。",
    facts: Facts {
        cause: "原因",
        error: "错误",
        gpu: "GPU",
        held_seconds: "已占用",
        host: "主机",
        lease_id: "租约",
        message: "消息",
        opens_in_seconds: "距开放",
        pid: "进程",
        pool: "资源池",
        task: "任务",
        tries: "尝试次数",
        value: "数值",
        waiting_task: "等待的任务",
    },
    units: [" 天", " 小时", " 分", " 秒"],
};

impl Words {
    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::En => &ENGLISH,
            Language::Zh => &CHINESE,
        }
    }

    /// What a fact is called.
    pub(super) fn fact<'w>(&'w self, name: &'w str) -> &'w str {
        match name {
            "cause" => self.facts.cause,
            "error" => self.facts.error,
            "gpu" => self.facts.gpu,
            "held_seconds" => self.facts.held_seconds,
            "host" => self.facts.host,
            "lease_id" => self.facts.lease_id,
            "message" => self.facts.message,
            "opens_in_seconds" => self.facts.opens_in_seconds,
            "pid" => self.facts.pid,
            "pool" => self.facts.pool,
            "task" => self.facts.task,
            "tries" => self.facts.tries,
            "value" => self.facts.value,
            "waiting_task" => self.facts.waiting_task,
            other => other,
        }
    }

    /// `2h 5m`: the two largest units.
    pub(super) fn span(&self, span: Duration) -> String {
        let seconds = span.as_secs();
        let amounts = [seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60];
        let first = amounts.iter().position(|amount| *amount > 0).unwrap_or(3);
        let shown = (first..amounts.len()).take(2).filter(|at| *at == first || amounts[*at] > 0);
        shown.map(|at| format!("{}{}", amounts[at], self.units[at])).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_their_two_largest_units() {
        for (seconds, english, chinese) in [
            (0, "0s", "0 秒"),
            (59, "59s", "59 秒"),
            (60, "1m", "1 分"),
            (754, "12m 34s", "12 分 34 秒"),
            (3_600, "1h", "1 小时"),
            (3_605, "1h", "1 小时"),
            (93_784, "1d 2h", "1 天 2 小时"),
        ] {
            let span = Duration::from_secs(seconds);
            assert_eq!(Words::of(Language::En).span(span), english);
            assert_eq!(Words::of(Language::Zh).span(span), chinese);
        }
    }
}
