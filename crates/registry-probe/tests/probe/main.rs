//! The probe against scripted servers on loopback, which record every request. One binary, because each one is compiled and linked with
//! the whole probe.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod certificates;
mod differential;
mod endpoint;
mod hostile;
mod late_answers;
mod names;
mod pem;
mod proxy;
mod support;
mod tls;
mod token;
