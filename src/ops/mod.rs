//! What the ops are, independent of who computes them: configurations, shapes, argument structs and their checks.
//! The backends ([`crate::cpu`]) and the specification ([`crate::reference`]) use the same module names.

pub mod activation;
pub mod router;
