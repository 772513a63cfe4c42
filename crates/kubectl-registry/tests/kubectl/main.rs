//! Runs `kubectl registry` as users do: the program, real registries, a real API server with the operator, the real
//! kubectl, and a terminal.

mod bed;
mod cluster;
mod documentation;
mod kubectl;
mod packaging;
mod registries;
mod terminal;
mod validate;
