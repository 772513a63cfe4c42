//! `kubectl registry` as its users run it: a program, real registries, a real API server with the operator at work, the
//! real kubectl, and a terminal.

mod bed;
mod cluster;
mod documentation;
mod kubectl;
mod packaging;
mod registries;
mod terminal;
mod validate;
