//! Webhooks, PagerDuty, Alertmanager, and the addresses that are refused.
