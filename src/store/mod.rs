//! What a run leaves on disk, and how: every file is written whole and says its format and version; those that hold
//! numbers are covered by a digest.

pub mod checkpoint;
pub mod encoder_source;
pub mod features;
mod labels;
pub(crate) mod networks;
pub mod predictions;
pub mod replacement;
mod run_config;
pub mod run_directory;
pub mod run_record;
pub mod run_results;
pub mod stage_directory;
pub(crate) mod tensor_file;
pub mod tensorboard;
