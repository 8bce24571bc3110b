//! A grid of runs over config keys, seeds and label draws, carried out by one process or by several that share the directory. What runs share is made
//! once: `OUT/shared` holds encoders and features, named after what decides them, so that a curve over label counts
//! pretrains once per seed.

mod claim;
mod execute;
mod piece;
mod plan;
mod results;
mod shared;
mod task;

pub use execute::execute;
pub use plan::{Planned, SweepFile, plan, read};
pub use results::{Group, Row, Spread, SweepSummary};
pub use task::{Sweep, SweepPart, Tested};
