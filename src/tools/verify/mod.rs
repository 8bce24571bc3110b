//! What is promised, tried on this machine: results through kills, results once more, what a device computes.

pub mod device;
pub mod golden;
pub mod resume;
pub mod run;
