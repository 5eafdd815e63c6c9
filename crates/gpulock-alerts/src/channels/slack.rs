//! Incoming webhooks of Slack.
