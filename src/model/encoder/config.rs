//! Section `encoder` of the config: which architecture, and the layers that follow from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::OverlappingPool;
use crate::model::Scheme;
use crate::model::conv::BlockShape;
use crate::model::patches::{Activation, Dictionary, PATCH_SIDE, PatchShape};

/// Section `encoder` of the config, and the architecture that a checkpoint carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// The architecture.
    pub kind: EncoderKind,
    /// For `compact`: channels of each block; the default is 32, 64, 128, 128, 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_BLOCKS), inner(range(min = 1, max = MAX_WIDTH)))]
    pub widths: Option<Vec<usize>>,
    /// For `compact`: which blocks pool 2x2 after the convolution; the default is the first, second and fourth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<bool>>,
    /// For `compact`: the first block is computed from the images (without their labels) before training and stays as
    /// it is: the principal components of 3x3 patches, whitened, and their negatives. Its width must be 54, which is
    /// the default then.
    #[serde(skip_serializing_if = "is_false")]
    pub whiten: bool,
    /// For `rotnet-nin`: number of blocks; the default is 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *NIN_BLOCKS.start(), max = *NIN_BLOCKS.end()))]
    pub blocks: Option<usize>,
    /// For `patches`: number of patches; the default is 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_PATCHES))]
    pub patches: Option<usize>,
    /// For `patches`: where they come from; the default is `random`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dictionary: Option<Dictionary>,
    /// For `patches`: what becomes of a comparison; the default is `two-sided`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
}

/// The architectures there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// The Keras program's: three 3x3 convolutions (32, 64, 64) and a dense layer of 64.
    #[default]
    #[serde(alias = "seed")]
    Keras,
    /// 3x3 convolutions with batch normalisation, then the mean over all places.
    Compact,
    /// Network in Network of RotNet (Gidaris, Singh, Komodakis 2018): 3 to 5 blocks of a convolution and two of 1x1,
    /// then the mean over all places.
    RotnetNin,
    /// An untrained baseline (Coates and Ng 2011): whitened patches of the images, compared with every place of an
    /// image, averaged over its quadrants. Takes `pretrain.epochs` 0.
    Patches,
}

fn is_false(yes: &bool) -> bool {
    !yes
}

/// Most blocks and most channels of a compact encoder, so that a mistyped number is noticed.
const MAX_BLOCKS: usize = 32;
const MAX_WIDTH: usize = 1024;
/// Most patches to compare with.
const MAX_PATCHES: usize = 4096;
/// Blocks of the paper's networks.
const NIN_BLOCKS: std::ops::RangeInclusive<usize> = 3..=5;
/// Side of the smallest image there is, which pooling must leave something of.
const SMALLEST_IMAGE: usize = 32;
/// Outputs of the whitening block on images of three channels: 27 components and their negatives.
pub(super) const WHITENED: usize = 2 * 27;

impl EncoderConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn validate(&self) -> Result<()> {
        self.check_kind()?;
        match self.kind {
            EncoderKind::Keras => Ok(()),
            EncoderKind::Compact => self.check_compact(),
            EncoderKind::RotnetNin => {
                let blocks = self.nin_blocks();
                let problem = || format!("must be 3, 4 or 5, got {blocks}");
                if NIN_BLOCKS.contains(&blocks) {
                    Ok(())
                } else {
                    Err(Error::config("encoder.blocks", problem()))
                }
            }
            EncoderKind::Patches => match self.patch_shape(3).count {
                1..=MAX_PATCHES => Ok(()),
                count => {
                    let problem = format!("must be 1 to {MAX_PATCHES}, got {count}");
                    Err(Error::config("encoder.patches", problem))
                }
            },
        }
    }

    /// Refuses keys of another kind.
    fn check_kind(&self) -> Result<()> {
        use EncoderKind::{Compact, Patches, RotnetNin};
        let keys = [
            ("widths", self.widths.is_some(), Compact, "compact"),
            ("pools", self.pools.is_some(), Compact, "compact"),
            ("whiten", self.whiten, Compact, "compact"),
            ("blocks", self.blocks.is_some(), RotnetNin, "rotnet-nin"),
            ("patches", self.patches.is_some(), Patches, "patches"),
            ("dictionary", self.dictionary.is_some(), Patches, "patches"),
            ("activation", self.activation.is_some(), Patches, "patches"),
        ];
        match keys.into_iter().find(|(_, given, kind, _)| *given && *kind != self.kind) {
            Some((key, _, _, kind)) => {
                Err(Error::config(format!("encoder.{key}"), format!("goes with kind `{kind}` only")))
            }
            None => Ok(()),
        }
    }

    fn check_compact(&self) -> Result<()> {
        let (widths, pools) = self.compact();
        if widths.is_empty() || widths.len() > MAX_BLOCKS {
            let problem = format!("must hold 1 to {MAX_BLOCKS} widths, got {}", widths.len());
            return Err(Error::config("encoder.widths", problem));
        }
        if let Some(width) = widths.iter().find(|&&width| width == 0 || width > MAX_WIDTH) {
            let problem = format!("each must be 1 to {MAX_WIDTH}, got {width}");
            return Err(Error::config("encoder.widths", problem));
        }
        if self.whiten && widths[0] != WHITENED {
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

    /// Why the encoder is not pretrained on images of another size; absent for one that takes any.
    pub fn fixed_size(&self) -> Option<&'static str> {
        match self.kind {
            EncoderKind::Keras => Some(
                "the dense layer of encoder `keras` is made for one size; `compact` and `rotnet-nin` take any",
            ),
            EncoderKind::Patches => Some("encoder `patches` is not trained"),
            EncoderKind::Compact | EncoderKind::RotnetNin => None,
        }
    }

    /// Rows and columns of the smallest image of which pooling leaves something.
    pub fn smallest_side(&self) -> usize {
        if self.fixed_size().is_some() {
            return SMALLEST_IMAGE;
        }
        let layers = self.layers(1);
        let behind = |side: usize, layer: &BlockShape| Some(layer.side(side)).filter(|&side| side > 0);
        let fits = |side: &usize| layers.iter().flatten().try_fold(*side, behind).is_some();
        (1..SMALLEST_IMAGE).find(fits).unwrap_or(SMALLEST_IMAGE)
    }

    fn compact(&self) -> (Vec<usize>, Vec<bool>) {
        let first = if self.whiten { WHITENED } else { 32 };
        (
            self.widths.clone().unwrap_or_else(|| vec![first, 64, 128, 128, 128]),
            self.pools.clone().unwrap_or_else(|| vec![true, true, false, true, false]),
        )
    }

    fn nin_blocks(&self) -> usize {
        self.blocks.unwrap_or(4)
    }

    /// The same encoder with every key of its kind written out.
    pub fn with_defaults(&self) -> Self {
        let mut full = self.clone();
        match self.kind {
            EncoderKind::Keras => {}
            EncoderKind::Compact => {
                let (widths, pools) = self.compact();
                (full.widths, full.pools) = (Some(widths), Some(pools));
            }
            EncoderKind::RotnetNin => full.blocks = Some(self.nin_blocks()),
            EncoderKind::Patches => {
                let shape = self.patch_shape(3);
                full.patches = Some(shape.count);
                full.dictionary = Some(shape.dictionary);
                full.activation = Some(shape.activation);
            }
        }
        full
    }

    /// How initial parameters are drawn.
    pub fn scheme(&self) -> Scheme {
        match self.kind {
            EncoderKind::RotnetNin => Scheme::RotNet,
            _ => Scheme::Glorot,
        }
    }

    /// Whether a part of the encoder is computed from images before training ([`super::Encoder::fit`]).
    pub fn is_fitted(&self) -> bool {
        self.whiten || self.kind == EncoderKind::Patches
    }

    /// Whether training changes anything of it.
    pub fn is_trainable(&self) -> bool {
        self.kind != EncoderKind::Patches
    }

    /// Number of weights of its convolutions, on images with so many channels.
    pub fn weights(&self, channels: usize) -> usize {
        if self.kind == EncoderKind::Patches {
            return self.patch_shape(channels).weights();
        }
        let blocks = self.layers(channels).into_iter().flatten();
        blocks.map(|shape| shape.kernel * shape.kernel * shape.channels[0] * shape.channels[1]).sum()
    }

    pub(super) fn patch_shape(&self, channels: usize) -> PatchShape {
        PatchShape {
            side: PATCH_SIDE,
            channels,
            count: self.patches.unwrap_or(400),
            dictionary: self.dictionary.unwrap_or_default(),
            activation: self.activation.unwrap_or_default(),
        }
    }

    /// The convolutions of each block; none for `patches`.
    pub fn layers(&self, channels: usize) -> Vec<Vec<BlockShape>> {
        match self.kind {
            EncoderKind::Keras => plain(channels, [32, 64, 64].into(), [true, true, false].into(), false),
            EncoderKind::Compact => {
                let (widths, pools) = self.compact();
                let mut layers = plain(channels, widths, pools, true);
                if self.whiten {
                    layers[0][0] = BlockShape { norm: false, frozen: true, ..layers[0][0] };
                }
                layers
            }
            EncoderKind::RotnetNin => network_in_network(channels, self.nin_blocks()),
            EncoderKind::Patches => Vec::new(),
        }
    }
}

/// Blocks of one 3x3 convolution each: `same` with normalisation (`compact`), `valid` without (`keras`).
fn plain(channels: usize, widths: Vec<usize>, pools: Vec<bool>, norm: bool) -> Vec<Vec<BlockShape>> {
    let inputs = std::iter::once(channels).chain(widths.clone());
    let layers = inputs.zip(widths).zip(pools);
    let layer = |((inputs, outputs), pool)| {
        let padding = usize::from(norm);
        vec![BlockShape { padding, pool, norm, ..BlockShape::same(3, [inputs, outputs]) }]
    };
    layers.map(layer).collect()
}

/// `architectures/NetworkInNetwork.py` of <https://github.com/gidariss/FeatureLearningRotNet>, with
/// `use_avg_on_conv3` false, as its CIFAR-10 configs have it: no pooling behind the third block.
fn network_in_network(channels: usize, blocks: usize) -> Vec<Vec<BlockShape>> {
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
    layers.extend((2..blocks).map(|_| block(192, 3, [192; 3], None)));
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(config: EncoderConfig) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn keys_of_another_kind_are_refused_by_name() {
        let config = EncoderConfig { blocks: Some(4), ..EncoderConfig::default() };
        assert_eq!(problem(config), "encoder.blocks: goes with kind `rotnet-nin` only");
        let config = EncoderConfig { whiten: true, ..EncoderConfig::default() };
        assert_eq!(problem(config), "encoder.whiten: goes with kind `compact` only");
        let nin = EncoderConfig { kind: EncoderKind::RotnetNin, blocks: Some(6), ..EncoderConfig::default() };
        assert_eq!(problem(nin), "encoder.blocks: must be 3, 4 or 5, got 6");
        let whitened = EncoderConfig {
            kind: EncoderKind::Compact,
            whiten: true,
            widths: Some(vec![32]),
            pools: Some(vec![true]),
            ..EncoderConfig::default()
        };
        assert!(problem(whitened).contains("must begin with 54"));
    }

    #[test]
    fn the_former_name_of_the_keras_network_is_read_and_no_longer_written() {
        let former: EncoderConfig = serde_json::from_str(r#"{"kind": "seed"}"#).unwrap();
        assert_eq!(former.kind, EncoderKind::Keras);
        assert_eq!(serde_json::to_value(&former).unwrap()["kind"], "keras");
        let schema = schemars::schema_for!(EncoderKind).to_value().to_string();
        assert!(schema.contains(r#""keras""#) && !schema.contains(r#""seed""#), "{schema}");
    }

    #[test]
    fn the_smallest_side_leaves_something_behind_every_pooling() {
        let compact = |pools: Vec<bool>| EncoderConfig {
            kind: EncoderKind::Compact,
            widths: Some(vec![4; pools.len()]),
            pools: Some(pools),
            ..EncoderConfig::default()
        };
        assert_eq!(compact(vec![true, true, false]).smallest_side(), 4);
        assert_eq!(compact(vec![false]).smallest_side(), 1);
        let nin = EncoderConfig { kind: EncoderKind::RotnetNin, ..EncoderConfig::default() };
        assert!(nin.smallest_side() <= 8 && nin.fixed_size().is_none());
        assert!(EncoderConfig::default().fixed_size().is_some());
    }

    #[test]
    fn weights_are_those_of_the_papers_network() {
        let nin = |blocks| EncoderConfig {
            kind: EncoderKind::RotnetNin,
            blocks: Some(blocks),
            ..EncoderConfig::default()
        };
        let first = 25 * 3 * 192 + 192 * 160 + 160 * 96;
        let second = 25 * 96 * 192 + 2 * 192 * 192;
        let third = 9 * 192 * 192 + 2 * 192 * 192;
        assert_eq!(nin(3).weights(3), first + second + third);
        assert_eq!(nin(5).weights(3), first + second + 3 * third);
    }
}
