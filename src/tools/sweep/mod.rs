//! A grid of runs over config keys, seeds and label draws, carried out one after the other. What runs share is made
//! once: `OUT/shared` holds encoders and features, named after what decides them, so that a curve over label counts
//! pretrains once per seed.

mod execute;
mod plan;
mod results;
mod shared;

pub use execute::{Sweep, Tested, execute};
pub use plan::{Planned, SweepFile, plan, read};
pub use results::{Group, Row, Spread, SweepSummary};
