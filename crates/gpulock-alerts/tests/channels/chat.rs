//! Slack, DingTalk, WeCom, Feishu.
