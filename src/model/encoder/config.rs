//! Section `encoder` of the config: which kind, and the keys of all kinds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compact::{self, Compact};
use super::keras::Keras;
use super::nin::{self, NetworkInNetwork};
use super::patches::{self, Activation, Dictionary, PatchConfig};
use super::{Architecture, SMALLEST_IMAGE};
use crate::error::{Error, Result};
use crate::kernels::Arithmetic;
use crate::model::Scheme;
use crate::model::conv::BlockShape;

/// Section `encoder` of the config, and the architecture that a checkpoint carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// The architecture.
    pub kind: EncoderKind,
    /// For `compact`: channels of each block; the default is 32, 64, 128, 128, 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = compact::MAX_BLOCKS), inner(range(min = 1, max = compact::MAX_WIDTH)))]
    pub widths: Option<Vec<usize>>,
    /// For `compact`: which blocks pool 2x2 after the convolution; the default is the first, second and fourth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<bool>>,
    /// For `compact`: do not train the first block, but compute it from the images before training, without labels: the
    /// whitened principal components of 3x3 patches, and their negatives. Its width must then be 54, which becomes the
    /// default.
    #[serde(skip_serializing_if = "is_false")]
    pub whiten: bool,
    /// For `rotnet-nin`: number of blocks; the default is 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *nin::BLOCKS.start(), max = *nin::BLOCKS.end()))]
    pub blocks: Option<usize>,
    /// For `patches`: number of patches; the default is 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = patches::MOST))]
    pub patches: Option<usize>,
    /// For `patches`: where the patches come from; the default is `random`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dictionary: Option<Dictionary>,
    /// For `patches`: what is computed from the comparison of a place with a patch; the default is `two-sided`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// How its layers compute: the keys `convolution` and so on at the top of the config, and what a checkpoint records.
    #[serde(skip)]
    pub arithmetic: Arithmetic,
}

/// The architectures there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// The Keras program's: three 3x3 convolutions (32, 64, 64) and a dense layer of 64.
    #[default]
    #[serde(alias = "seed")]
    Keras,
    /// 3x3 convolutions with batch normalisation, then global average pooling.
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

impl EncoderKind {
    /// The name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keras => "keras",
            Self::Compact => "compact",
            Self::RotnetNin => "rotnet-nin",
            Self::Patches => "patches",
        }
    }
}

impl EncoderConfig {
    /// What the keys of its kind come to.
    pub(super) fn architecture(&self) -> Box<dyn Architecture> {
        match self.kind {
            EncoderKind::Keras => Box::new(Keras),
            EncoderKind::Compact => Box::new(Compact::of(self)),
            EncoderKind::RotnetNin => Box::new(NetworkInNetwork::of(self)),
            EncoderKind::Patches => Box::new(PatchConfig::of(self)),
        }
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn validate(&self) -> Result<()> {
        self.refuse_keys_of_other_kinds()?;
        self.architecture().validate()
    }

    fn refuse_keys_of_other_kinds(&self) -> Result<()> {
        use EncoderKind::{Compact, Patches, RotnetNin};
        let keys = [
            ("widths", self.widths.is_some(), Compact),
            ("pools", self.pools.is_some(), Compact),
            ("whiten", self.whiten, Compact),
            ("blocks", self.blocks.is_some(), RotnetNin),
            ("patches", self.patches.is_some(), Patches),
            ("dictionary", self.dictionary.is_some(), Patches),
            ("activation", self.activation.is_some(), Patches),
        ];
        match keys.into_iter().find(|(_, given, kind)| *given && *kind != self.kind) {
            Some((key, _, kind)) => {
                let problem = format!("goes with kind `{}` only", kind.name());
                Err(Error::config(format!("encoder.{key}"), problem))
            }
            None => Ok(()),
        }
    }

    /// Why the encoder is not pretrained on images of another size; absent for one that takes any.
    pub fn fixed_size(&self) -> Option<&'static str> {
        self.architecture().fixed_size()
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

    /// The same encoder with every key of its kind written out.
    pub fn with_defaults(&self) -> Self {
        let mut full = self.clone();
        self.architecture().write_keys(&mut full);
        full
    }

    /// How initial parameters are drawn.
    pub fn scheme(&self) -> Scheme {
        self.architecture().scheme()
    }

    /// Whether a part of the encoder is computed from images before training ([`super::Encoder::fit`]).
    pub fn is_fitted(&self) -> bool {
        self.architecture().is_fitted()
    }

    /// Whether training changes anything of it.
    pub fn is_trainable(&self) -> bool {
        self.architecture().is_trainable()
    }

    /// Number of weights of its convolutions, on images with so many channels.
    pub fn weights(&self, channels: usize) -> usize {
        self.architecture().weights(channels)
    }

    /// The convolutions of each block; empty for a kind that is no row of layers.
    pub fn layers(&self, channels: usize) -> Vec<Vec<BlockShape>> {
        self.architecture().layers(channels)
    }
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
}
