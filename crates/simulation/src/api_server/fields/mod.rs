//! Which field manager owns which fields, and server-side apply: the algorithm of structured-merge-diff, which the real API
//! server uses.

mod compare;
mod field_set;
mod field_type;
mod kinds;
mod managers;
mod merge;
mod remove;

pub(super) use self::{
    kinds::field_type,
    managers::{FieldWrite, applied, differ_in_times_only, updated},
};
