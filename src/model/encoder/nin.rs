//! `rotnet-nin`, Network in Network as in the paper (Gidaris, Singh, Komodakis 2018).

use std::ops::RangeInclusive;

use super::{Architecture, EncoderConfig};
use crate::error::{Error, Result};
use crate::kernels::OverlappingPool;
use crate::model::Scheme;
use crate::model::conv::BlockShape;

/// Blocks of the paper's networks.
pub(super) const BLOCKS: RangeInclusive<usize> = 3..=5;

/// Its keys with their defaults.
pub(super) struct NetworkInNetwork {
    blocks: usize,
}

impl NetworkInNetwork {
    pub(super) fn of(config: &EncoderConfig) -> Self {
        Self { blocks: config.blocks.unwrap_or(4) }
    }
}

impl Architecture for NetworkInNetwork {
    fn validate(&self) -> Result<()> {
        match BLOCKS.contains(&self.blocks) {
            true => Ok(()),
            false => Err(Error::config("encoder.blocks", format!("must be 3, 4 or 5, got {}", self.blocks))),
        }
    }

    fn write_keys(&self, config: &mut EncoderConfig) {
        config.blocks = Some(self.blocks);
    }

    fn scheme(&self) -> Scheme {
        Scheme::RotNet
    }

    /// `architectures/NetworkInNetwork.py` of <https://github.com/gidariss/FeatureLearningRotNet>, with
    /// `use_avg_on_conv3` false, as its CIFAR-10 configs have it: no pooling behind the third block.
    fn layers(&self, channels: usize) -> Vec<Vec<BlockShape>> {
        let block = |inputs, kernel, widths: [usize; 3], overlapping| {
            let [one, two, three] = widths;
            vec![
                BlockShape::same(kernel, [inputs, one]),
                BlockShape::same(1, [one, two]),
                BlockShape { overlapping, ..BlockShape::same(1, [two, three]) },
            ]
        };
        let mut layers = vec![
            block(channels, 5, [192, 160, 96], Some(OverlappingPool::Max)),
            block(96, 5, [192; 3], Some(OverlappingPool::Average)),
        ];
        layers.extend((2..self.blocks).map(|_| block(192, 3, [192; 3], None)));
        layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_papers_network() {
        let first = 25 * 3 * 192 + 192 * 160 + 160 * 96;
        let second = 25 * 96 * 192 + 2 * 192 * 192;
        let third = 9 * 192 * 192 + 2 * 192 * 192;
        assert_eq!(NetworkInNetwork { blocks: 3 }.weights(3), first + second + third);
        assert_eq!(NetworkInNetwork { blocks: 5 }.weights(3), first + second + 3 * third);
    }
}
