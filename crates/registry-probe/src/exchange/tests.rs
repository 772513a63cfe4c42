//! The exchange against simulated registries and token services: no sockets, every request counted.

mod controls;
mod decisions;
mod simulation;
mod soundness;
mod verdicts;
