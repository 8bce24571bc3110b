//! The data set: images and labels from files, its splits, and the samples made from it.
//!
//! [`open()`] is the one way to the images: it finds the folder (and generates the scenes if they are asked for and not
//! there yet), checks every training file, and says which data set they are. The test images stay closed until
//! [`Dataset::open_test`]. What kinds of data sets there are is in `kinds`.

mod augment;
mod check;
mod config;
mod dataset;
mod decode;
mod describe;
mod download;
mod images;
mod kinds;
mod mapped;
mod pixels;
mod resize;
mod rotation;
mod split;
mod staging;

pub use augment::{AugmentConfig, Flip, Padding};
pub(crate) use augment::{Augmentation, Changed};
pub use check::{CheckReport, Finding, Measures, check};
pub use config::{DataConfig, DataKind};
pub use dataset::{Dataset, Names, Skipped};
pub use decode::{
    Photo, Tag, decode_safely as decode_photo, is_image, read as read_photo, read_bytes as read_photo_bytes,
};
pub use describe::{DatasetInfo, Description, PartInfo, info};
pub use images::{CHANNELS, Images, PixelBytes};
pub use kinds::{
    FetchReport, FetchRequest, FileFacts, FileReport, Known, SCENES_SEED, SCENES_VERSION, Sizes, Survey,
    SynthReport, detect, detect_other, fetch, generate, is_same, open, open_or_stand_in, survey,
};
pub use pixels::{PixelTable, Pixels};
pub(crate) use resize::Shrink;
pub use rotation::{Rotation, rotate, write_rotated};
pub use split::{Split, labeled_split, split};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {
    decode::decode,
    kinds::{RECORD, TEST_FILE, load_test, unpack},
};
#[cfg(test)]
pub(crate) use {
    decode::tests::{picture, with_orientation},
    kinds::unpack_seed,
};
