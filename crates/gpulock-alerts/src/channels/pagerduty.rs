//! PagerDuty, by its Events API version 2.
