//! The console in a real browser: what a person reads, chooses and types, found by its words.

mod bars;
mod sign_in;
mod states;
mod steps;
mod visitor;
