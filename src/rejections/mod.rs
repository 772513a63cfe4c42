//! What is remembered of rejected credentials, so that accounts don't lock and registries don't ban addresses.
//!
//! - [`table`]: when credentials may be sent to a host, and what is said instead. Pure.
//! - [`gate`]: the table as validations meet it: one [`Session`] for each.
//! - [`records`]: the table's rejections as bytes. Pure.
//! - [`store`]: those bytes in a Secret, so that a restart forgets nothing.
//!
//! Owns no credentials: they are known by a keyed digest only.

pub mod gate;
pub mod records;
pub mod store;
pub mod table;

pub use gate::{Rejections, Session};
