//! What is remembered of rejected credentials, so that accounts don't lock and registries don't ban addresses.
//!
//! - [`table`]: when credentials may be sent to a host, and what is said instead. Pure.
//! - [`gate`]: the table as validations meet it: one [`CredentialSession`] for each.
//! - [`records`]: the table's rejections as bytes. Pure.
//!
//! Owns no credentials: they are known by a keyed digest only.

pub mod gate;
pub mod records;
pub mod table;

pub use gate::{CredentialSession, Rejections};
