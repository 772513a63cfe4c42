//! The web console: adds, validates, lists and removes registries in a browser.
//!
//! Owns the pages, the sessions, and the order of what a button does. Has no power of its own: every request to the API server is
//! made by a [`user::UserClient`], and that can only be made of what a user signed in with. What a validation is and what its
//! result is called, is `registry-check`'s.

pub mod add;
pub mod administration;
pub mod api;
pub mod assets;
pub mod bearer_token;
pub mod body_limits;
pub mod browser;
pub mod changes;
pub mod cli;
pub mod complaints;
pub mod confirm;
pub mod connections;
pub mod console;
pub mod console_metrics;
pub mod detail;
pub mod draft;
pub mod edge;
pub mod edit;
pub mod error;
pub mod form;
pub mod guard;
pub mod headers;
pub mod identity;
pub mod limits;
pub mod listing;
pub mod marks;
pub mod membership;
pub mod own_account;
pub mod pages;
pub mod progress;
pub mod public_url;
pub mod registries;
pub mod rights;
pub mod routes;
pub mod scope;
pub mod serve;
pub mod serving_certificate;
pub mod session;
pub mod shown;
pub mod sign_in;
#[cfg(test)]
mod simulated;
pub mod stored;
pub mod tenants;
pub mod token_sign_in;
pub mod transport;
pub mod trial;
pub mod uploaded_ca;
pub mod user;
pub mod validation_limits;
pub mod verdict;
pub mod visible;
