//! Custom robots of DingTalk.
