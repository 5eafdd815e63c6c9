//! The catalogue of rules in Chinese.

/// A rule's name, what has happened, and what that means and what to do.
pub(super) static RULES: [(&str, &str, &str); 19] = [
    (
        "GPU_LOCK_LONG_HELD",
        "某个 GPU 的占用时间超出平常。",
        "租约时长已超过 gpu_lock_monitor.timeout_levels.warning。若任务确实需要这么久，请调高该值；否则请检查任务在做什么。",
    ),
    (
        "GPU_LOCK_SOFT_TIMEOUT",
        "某个 GPU 的占用已超过软超时，已要求占用者停止。",
        "已要求占用者归还 GPU。若仍不归还，到达硬超时后 GPU 将被收回。",
    ),
    (
        "GPU_LOCK_HARD_TIMEOUT",
        "某个 GPU 的占用已超过硬超时。",
        "若启用了 gpu_lock_monitor.auto_recovery，租约会被收回，其进程会被停止；否则需由您处理：用 `gpulock release` 结束租约。请查明任务卡住的原因。",
    ),
    (
        "GPU_LOCK_HOLDER_LOST",
        "任务在占用 GPU 期间崩溃或失去响应。",
        "其进程未归还 GPU 就已结束，或心跳已停止。待该任务的进程全部退出后，GPU 将交给下一个等待者。请查看任务自身的日志：常见原因是内存不足或被系统终止。",
    ),
    (
        "GPU_LOCK_ZOMBIE",
        "租约已结束，但其进程仍在运行。",
        "进程退出之前该 GPU 不会再次借出。经过 gpu_lock_monitor.cleanup.retry_delay 后会再次检查；`gpulock status` 会列出该进程。",
    ),
    (
        "GPU_LOCK_NOT_RECOVERED",
        "某个 GPU 无法收回。",
        "多次尝试后，已结束租约的进程仍在运行。请手动结束它们（对 `gpulock status` 列出的进程执行 `kill -9`；处于 D 状态的进程在等待驱动，只有重置或重启才有效）。若确知这些进程无害，可用 `gpulock release --ignore-processes` 释放该 GPU。",
    ),
    (
        "gpu_lock_emergency_release",
        "首次归还失败后，GPU 经备用方式归还。",
        "首次释放未得到确认，已通过新连接以相同的租约 ID 和令牌重试成功。锁本身没有问题；请检查与存储的连接。",
    ),
    (
        "GPU_LOCK_EMERGENCY_RELEASES_HIGH",
        "GPU 一再经备用方式归还。",
        "任务结束时经常无法访问存储。`gpulock doctor` 会检查存储并指出问题。",
    ),
    (
        "GPU_LOCK_OWNERSHIP_VIOLATIONS_HIGH",
        "大量命令引用了已失效的租约。",
        "这些命令均已被拒绝。可能是任务失去租约后仍在运行，或程序保留了旧的租约 ID。`gpulock history` 会显示哪些租约先于其任务结束。",
    ),
    (
        "gpu_lock_critical_failure",
        "某个 GPU 无法归还，只能等待其租约到期。",
        "其他任务最多等到该租约到期。错误记录在该主机的严重故障日志中。请检查存储，并确认任务的进程是否已退出。",
    ),
    (
        "GPU_LOCK_TIMEOUT_RATE_HIGH",
        "大量请求因等待 GPU 超时而放弃。",
        "可能是任务多于 GPU、任务占用过久，或 max_wait_time 过短。`gpulock status` 会显示谁在占用、谁在等待。",
    ),
    (
        "GPU_LOCK_SUCCESS_RATE_LOW",
        "获得 GPU 的请求过少。",
        "请求放弃等待、被取消，或其进程在等待期间退出。`gpulock history` 会显示每个请求的结局。",
    ),
    (
        "GPU_LOCK_WAIT_TIME_HIGH",
        "有请求等待 GPU 已很久。",
        "可能是任务多于 GPU，或有人占用过久。`gpulock status` 会显示谁在占用、谁在等待。",
    ),
    (
        "HEARTBEAT_FAILURE_RATE_HIGH",
        "大量任务失去响应。",
        "任务尚未完成，心跳就已停止。可能是工作进程被终止、主机过载，或与存储的连接不佳。",
    ),
    (
        "GPU_LOCK_DEADLOCK_DETECTED",
        "有任务在等待的 GPU 被已退出或严重超时的占用者占住。",
        "若启用了 gpu_lock_monitor.auto_recovery 且其进程可以结束，监控程序会收回该 GPU。`gpulock status` 会列出该进程。",
    ),
    (
        "GPU_LOCK_POOL_CLOSED",
        "资源池暂停借出，因为其存储可能丢失了租约。",
        "存储恢复后缺少最近的写入。待所有可能丢失的租约都不再有效后，资源池会自行开放。请检查存储的持久化与复制设置。",
    ),
    (
        "MONITOR_SERVICE_DOWN",
        "当值的监控程序已失联，由另一个接替。",
        "其进程已退出、卡住，或无法访问存储。租约已重新受到监控。请查看该主机上 gpulock serve 的日志。",
    ),
    (
        "GPU_LOCK_STORE_UNREACHABLE",
        "存储没有响应。",
        "现在无人能获得 GPU，且心跳无法送达，租约会陆续到期。`gpulock doctor` 会检查存储并指出问题。",
    ),
    (
        "GPU_LOCK_ALERT_UNDELIVERED",
        "某个渠道放弃了一条消息的发送。",
        "`gpulock alerts list --undelivered` 显示该消息和错误；`gpulock alerts test` 测试该渠道；`gpulock alerts resend` 重新发送。",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_words() {
        let names = |(name, _, _): &(&'static str, &str, &str)| *name;
        let here: std::collections::BTreeSet<_> = RULES.iter().map(names).collect();
        let all = gpulock::core::alert::RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(here, all);
        for (name, summary, description) in RULES {
            let rule = gpulock::core::alert::rule(name).unwrap();
            // What is typed is the same in every language.
            let typed = |text: &str| -> Vec<String> {
                text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
            };
            let (mut english, mut chinese) = (typed(rule.description), typed(description));
            english.sort();
            chinese.sort();
            assert_eq!(chinese, english, "{name}");
            assert!(summary.ends_with('。') && description.ends_with('。'), "{name}");
        }
    }
}
