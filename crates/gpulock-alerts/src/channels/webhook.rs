//! Webhooks of anybody, with the body that Alertmanager sends.
