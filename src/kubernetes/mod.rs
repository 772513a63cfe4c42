//! How the operator talks to the API server.
//!
//! - [`call`]: how long a call may take, and what a refusal means.
//! - [`http2`]: connections that many watches share.
//! - [`watches`]: every watch: list, resume, renew, back off.
//! - [`store`]: whether the API server's store was set back.

pub mod call;
pub mod http2;
pub mod store;
pub mod watches;
