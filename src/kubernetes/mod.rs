//! How the operator talks to the Kubernetes API server: calls with one deadline, one classification of failures and one
//! back-off, and watches over shared connections. Owns what an answer means; the caller decides what to do.
//!
//! - [`account`] and [`self_subject`]: whether the operator runs as the account that the policies name.
//! - [`call`]: the deadline of a call, and the class of a failure.
//! - [`client`]: clients that only the leader can write with.
//! - [`guard`]: whether the admission policies are in force.
//! - [`http2`]: connections that many watches share.
//! - [`lease`]: which replica is the leader.
//! - [`term`] and [`write_gate`]: how long this replica may write, and what refuses its writes afterwards.
//! - [`watches`]: every watch: list, resume, renew, back off.
//! - [`store`]: whether the API server's store was set back.

pub mod account;
pub mod call;
pub mod client;
pub mod guard;
pub mod http2;
pub mod lease;
pub mod self_subject;
pub mod store;
pub mod term;
pub mod watches;
pub mod write_gate;
