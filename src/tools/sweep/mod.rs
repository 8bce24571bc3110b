//! A grid of runs over config keys, seeds and label draws, made one after the other, with what they have in common made
//! once: `OUT/shared` holds encoders and features by what decides them, so that a curve over labels pretrains once a
//! seed.

mod execute;
mod plan;
mod results;
mod shared;

pub use execute::{Sweep, Tested, execute};
pub use plan::{Planned, SweepFile, plan, read};
pub use results::{Group, Row, Spread, SweepSummary};
