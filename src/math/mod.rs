//! Mathematics that knows nothing of images and networks: pure functions of numbers.

pub(crate) mod cholesky;
pub(crate) mod functions;
pub mod logits;
pub(crate) mod principal_components;
pub mod random;
pub(crate) mod units;
