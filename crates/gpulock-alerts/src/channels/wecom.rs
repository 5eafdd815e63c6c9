//! Group robots of WeCom.
