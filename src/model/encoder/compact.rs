//! `compact`: 3x3 convolutions with batch normalisation, then the mean over all places.

use super::layers::plain;
use super::{Architecture, EncoderConfig, SMALLEST_IMAGE};
use crate::error::{Error, Result};
use crate::model::conv::BlockShape;

/// Most blocks and most channels, so that a mistyped number is noticed.
pub(super) const MAX_BLOCKS: usize = 32;
pub(super) const MAX_WIDTH: usize = 1024;
/// Outputs of the whitening block on images of three channels: 27 components and their negatives.
const WHITENED: usize = 2 * 27;

/// Its keys with their defaults.
pub(super) struct Compact {
    widths: Vec<usize>,
    pools: Vec<bool>,
    whiten: bool,
}

impl Compact {
    pub(super) fn of(config: &EncoderConfig) -> Self {
        let first = if config.whiten { WHITENED } else { 32 };
        Self {
            widths: config.widths.clone().unwrap_or_else(|| vec![first, 64, 128, 128, 128]),
            pools: config.pools.clone().unwrap_or_else(|| vec![true, true, false, true, false]),
            whiten: config.whiten,
        }
    }
}

impl Architecture for Compact {
    fn validate(&self) -> Result<()> {
        let Self { widths, pools, whiten } = self;
        if widths.is_empty() || widths.len() > MAX_BLOCKS {
            let problem = format!("must hold 1 to {MAX_BLOCKS} widths, got {}", widths.len());
            return Err(Error::config("encoder.widths", problem));
        }
        if let Some(width) = widths.iter().find(|&&width| width == 0 || width > MAX_WIDTH) {
            let problem = format!("each must be 1 to {MAX_WIDTH}, got {width}");
            return Err(Error::config("encoder.widths", problem));
        }
        if *whiten && widths[0] != WHITENED {
            let problem = format!(
                "must begin with {WHITENED} where encoder.whiten is true (27 components and their negatives), \
                 got {}",
                widths[0]
            );
            return Err(Error::config("encoder.widths", problem));
        }
        if pools.len() != widths.len() {
            let problem = format!("must hold one value a block ({}), got {}", widths.len(), pools.len());
            return Err(Error::config("encoder.pools", problem));
        }
        let halvings = pools.iter().filter(|&&pool| pool).count() as u32;
        if SMALLEST_IMAGE >> halvings == 0 {
            let problem = format!("{halvings} poolings leave nothing of an image of {SMALLEST_IMAGE}");
            return Err(Error::config("encoder.pools", problem));
        }
        Ok(())
    }

    fn write_keys(&self, config: &mut EncoderConfig) {
        (config.widths, config.pools) = (Some(self.widths.clone()), Some(self.pools.clone()));
    }

    fn is_fitted(&self) -> bool {
        self.whiten
    }

    fn layers(&self, channels: usize) -> Vec<Vec<BlockShape>> {
        let mut layers = plain(channels, &self.widths, &self.pools, true);
        if self.whiten {
            layers[0][0] = BlockShape { norm: false, frozen: true, ..layers[0][0] };
        }
        layers
    }
}
