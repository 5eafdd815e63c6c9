//! Each locking rule told as a short story. The name of a test is the rule.

mod alerts;
mod closing;
mod death;
mod deliveries;
mod forestalled;
mod health;
mod incidents;
mod lifetime;
mod order;
mod overdue;
mod ownership;
mod sense;
mod stores;
