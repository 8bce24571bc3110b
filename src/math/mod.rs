//! Mathematics that knows nothing of images and networks: pure functions of numbers.

pub(crate) mod cholesky;
pub mod random;
