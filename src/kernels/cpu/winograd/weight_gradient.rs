//! The weight gradient: inputs and output gradients are transformed tile by tile, multiplied over the tiles of a unit of
//! images, and transformed to the gradient of the taps.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::Simd;

use super::super::scratch::Scratch;
use super::super::shape::ConvShape;
use super::super::simd::Arch;
use super::super::tree::{Piece, sum_units};
use super::super::unfold::{OutputGradient, add_pixels};
use super::filter::{Filter, Grid};
use super::products::{APART, BLOCK, GradientProduct, vectors};
use super::strip::{Maps, Strip, Tiling};

/// Tiles whose planes are made at a time. A unit that has no more needs no second pass over its sums. With F(4x4, 5x5), measured
/// as in `convolve`: 684 and 648 us an image with 16 tiles, 579 with 32, 581 and 693 with 48, 699 and 863 with 64.
const fn tiles<F: Filter>() -> usize {
    if F::PRODUCTS > 36 { 32 } else { 64 }
}

/// Writes the gradient of the weight `[taps, taps, channels, outputs]` and of the bias; `x` is the input.
pub fn weight_gradient<F: Filter>(
    arch: Arch,
    x: &[f32],
    gradient: OutputGradient,
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    let shape = gradient.shape;
    assert_eq!((shape.kernel, dweight.len()), (F::TAPS, shape.weight_len()));
    assert_eq!(x.len(), shape.batch * shape.input_len());
    assert_eq!(gradient.saved.dy.len(), shape.batch * shape.output_len());
    let biases = if dbias.is_some() { shape.out_channels } else { 0 };
    let mut sums = Scratch::take(dweight.len() + biases);
    sum_units(arch, shape.batch, Images::<F> { x, gradient, filter: PhantomData }, &mut sums);
    let (weight_sums, bias_sums) = sums.split_at(dweight.len());
    dweight.copy_from_slice(weight_sums);
    dbias.into_iter().for_each(|dbias| dbias.copy_from_slice(bias_sums));
}

/// Some images of the batch.
struct Images<'a, F> {
    x: &'a [f32],
    gradient: OutputGradient<'a>,
    filter: PhantomData<F>,
}

impl<F: Filter> Piece for Images<'_, F> {
    fn cut(self, images: usize) -> [Self; 2] {
        let (x, other_x) = self.x.split_at(images * self.gradient.shape.input_len());
        let [gradient, other] = self.gradient.cut(images);
        let filter = PhantomData;
        [Self { x, gradient, filter }, Self { x: other_x, gradient: other, filter }]
    }

    #[inline(always)]
    fn sum<S: Simd>(self, simd: S, sums: &mut [f32]) {
        let shape = self.gradient.shape;
        let images = self.gradient.saved.dy.len() / shape.output_len();
        let (weight_sums, bias_sums) = sums.split_at_mut(shape.weight_len());
        bias_sums.fill(0.0);
        let unit = Unit::<F>::new::<S>(shape, images);
        let maps = Maps::Plain { shape: [shape.height, shape.width, shape.in_channels], numbers: self.x };
        let gradient = Maps::Gradient(self.gradient);
        let mut input = Strip::new(F::SIDE, unit.width(F::SIDE), unit.input_stride, shape.padding);
        let mut output = Strip::new(F::OUTPUTS, unit.width(F::OUTPUTS), unit.gradient_stride, 0);
        let mut planes = Planes {
            inputs: Scratch::take(F::PRODUCTS * unit.input_plane()),
            gradients: Scratch::take(F::PRODUCTS * unit.gradient_plane()),
        };
        let kept = if unit.passes() == 1 { 1 } else { unit.pairs() };
        let mut products = Scratch::take(kept * unit.pair());
        for pass in 0..unit.passes() {
            let rows = unit.pass(pass);
            for (index, row) in rows.clone().enumerate() {
                let [image, first] = unit.tiling.place(row);
                input.fill(maps, image, first);
                output.fill(gradient, image, first);
                add_pixels(&output.numbers, output.stride, bias_sums);
                unit.transform(simd, index, &input, &output, &mut planes);
            }
            for pair in 0..unit.pairs() {
                let products = &mut products[pair % kept * unit.pair()..][..unit.pair()];
                unit.multiply(simd, pair, rows.len() * unit.tiling.columns, pass > 0, &planes, products);
                if pass + 1 == unit.passes() {
                    unit.write(simd, pair, products, weight_sums);
                }
            }
        }
    }
}

/// Transformed tiles: for each product blocks of `[tiles, channels]`.
struct Planes {
    inputs: Scratch,
    gradients: Scratch,
}

/// How a unit of images is worked off.
struct Unit<'a, F> {
    shape: &'a ConvShape,
    tiling: Tiling,
    /// Rows of tiles, of all images, and how many of them a pass takes.
    rows: usize,
    rows_a_pass: usize,
    /// Floats a pixel of the strips: channels in whole blocks, and in whole vectors.
    input_stride: usize,
    gradient_stride: usize,
    /// Output channels of a register tile.
    group: usize,
    filter: PhantomData<F>,
}

impl<'a, F: Filter> Unit<'a, F> {
    fn new<S: Simd>(shape: &'a ConvShape, images: usize) -> Self {
        let windows = if shape.pool { 2 } else { 1 };
        let tiling = Tiling::new(F::OUTPUTS, windows * shape.out_height(), windows * shape.out_width());
        let rows = images * tiling.rows;
        Self {
            shape,
            tiling,
            rows,
            rows_a_pass: (tiles::<F>() / tiling.columns).clamp(1, rows),
            input_stride: shape.in_channels.next_multiple_of(BLOCK),
            gradient_stride: shape.out_channels.next_multiple_of(S::F32_LANES),
            group: vectors::<S>() * S::F32_LANES,
            filter: PhantomData,
        }
    }

    /// Pixels of a strip under all tiles of a row, of which the last reaches over so many.
    fn width(&self, side: usize) -> usize {
        (self.tiling.columns - 1) * F::OUTPUTS + side
    }

    fn passes(&self) -> usize {
        self.rows.div_ceil(self.rows_a_pass)
    }

    /// The rows of tiles of a pass.
    fn pass(&self, index: usize) -> Range<usize> {
        index * self.rows_a_pass..((index + 1) * self.rows_a_pass).min(self.rows)
    }

    fn tiles(&self) -> usize {
        self.rows_a_pass * self.tiling.columns
    }

    /// Floats of a block of one plane, a line more than its tiles need, so that blocks share no cache sets.
    fn input_block(&self) -> usize {
        self.tiles() * BLOCK + 16
    }

    fn gradient_block(&self) -> usize {
        self.tiles() * self.group + 16
    }

    fn input_blocks(&self) -> usize {
        self.input_stride / BLOCK
    }

    fn input_plane(&self) -> usize {
        self.input_blocks() * self.input_block() + APART
    }

    fn gradient_plane(&self) -> usize {
        self.gradient_stride.div_ceil(self.group) * self.gradient_block() + APART
    }

    /// Pairs of a block of input channels and a group of output channels.
    fn pairs(&self) -> usize {
        self.input_blocks() * self.gradient_stride.div_ceil(self.group)
    }

    /// Floats of the products of a pair, `[products, BLOCK, group]`.
    fn pair(&self) -> usize {
        F::PRODUCTS * BLOCK * self.group + APART
    }

    /// First input channel and first output channel of a pair.
    fn channels(&self, pair: usize) -> [usize; 2] {
        [pair % self.input_blocks() * BLOCK, pair / self.input_blocks() * self.group]
    }

    /// Transforms the tiles under two strips, which become those of the row `index` of the pass.
    #[inline(always)]
    fn transform<S: Simd>(&self, simd: S, index: usize, input: &Strip, output: &Strip, planes: &mut Planes) {
        assert!(index < self.rows_a_pass);
        assert!(planes.inputs.len() == F::PRODUCTS * self.input_plane());
        assert!(planes.gradients.len() == F::PRODUCTS * self.gradient_plane());
        assert!(input.numbers.len() == F::SIDE * self.width(F::SIDE) * self.input_stride);
        assert!(output.numbers.len() == F::OUTPUTS * self.width(F::OUTPUTS) * self.gradient_stride);
        for column in 0..self.tiling.columns {
            let tile = index * self.tiling.columns + column;
            for channel in (0..self.input_stride).step_by(S::F32_LANES) {
                let place = channel / BLOCK * self.input_block() + tile * BLOCK + channel % BLOCK;
                // SAFETY: the tile lies within the strip, its place within each plane, by the assertions.
                unsafe {
                    let to = Grid {
                        at: planes.inputs.as_mut_ptr().add(place),
                        row: F::SIDE * self.input_plane(),
                        column: self.input_plane(),
                    };
                    input.tile(column * F::OUTPUTS, channel).transform::<F::Input, S>(simd, to);
                }
            }
            for channel in (0..self.gradient_stride).step_by(S::F32_LANES) {
                let place =
                    channel / self.group * self.gradient_block() + tile * self.group + channel % self.group;
                // SAFETY: as above.
                unsafe {
                    let to = Grid {
                        at: planes.gradients.as_mut_ptr().add(place),
                        row: F::SIDE * self.gradient_plane(),
                        column: self.gradient_plane(),
                    };
                    output.tile(column * F::OUTPUTS, channel).transform::<F::OutputGradient, S>(simd, to);
                }
            }
        }
    }

    /// The products of a pair over so many tiles, on top of what is there if `more`.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        simd: S,
        pair: usize,
        tiles: usize,
        more: bool,
        planes: &Planes,
        products: &mut [f32],
    ) {
        let [input, output] = self.channels(pair);
        let (inputs, gradients) = (self.input_block(), self.gradient_block());
        let rows = BLOCK.min(self.shape.in_channels - input);
        let vectors = (self.gradient_stride - output).min(self.group) / S::F32_LANES;
        for (product, products) in products.chunks_exact_mut(BLOCK * self.group).take(F::PRODUCTS).enumerate()
        {
            let input = product * self.input_plane() + input / BLOCK * inputs;
            let gradient = product * self.gradient_plane() + output / self.group * gradients;
            simd.vectorize(GradientProduct {
                inputs: &planes.inputs[input..][..tiles * BLOCK],
                gradients: &planes.gradients[gradient..][..tiles * self.group],
                group: self.group,
                rows,
                vectors,
                products,
                more,
                next: [self.input_plane(), self.gradient_plane()],
            });
        }
    }

    /// Transforms the products of a pair to the gradient of its taps.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, pair: usize, products: &[f32], dweight: &mut [f32]) {
        let [first_input, first_output] = self.channels(pair);
        let (channels, outputs) = (self.shape.in_channels, self.shape.out_channels);
        let tap = channels * outputs;
        assert!(products.len() == self.pair() && dweight.len() == F::TAPS * F::TAPS * tap);
        for row in 0..BLOCK.min(channels - first_input) {
            for lane in (0..self.group.min(outputs - first_output)).step_by(S::F32_LANES) {
                let place = (first_input + row) * outputs + first_output + lane;
                let real = (outputs - first_output - lane).min(S::F32_LANES);
                // SAFETY: each product's vector lies within the pair, each tap's, if it is whole, within `dweight`.
                unsafe {
                    let at = products.as_ptr().add(row * self.group + lane);
                    let from = Grid { at, row: F::SIDE * BLOCK * self.group, column: BLOCK * self.group };
                    if real == S::F32_LANES {
                        let at = dweight.as_mut_ptr().add(place);
                        from.transform::<F::WeightGradient, S>(
                            simd,
                            Grid { at, row: F::TAPS * tap, column: tap },
                        );
                        continue;
                    }
                    let taps = from.transformed::<F::WeightGradient, S>(simd);
                    for (index, taps) in taps.iter().enumerate().take(F::TAPS) {
                        for (column, values) in taps.iter().enumerate().take(F::TAPS) {
                            let values = std::slice::from_ref(values);
                            let values: &[f32] = pulp::bytemuck::cast_slice(values);
                            let tap = (index * F::TAPS + column) * tap;
                            dweight[tap + place..][..real].copy_from_slice(&values[..real]);
                        }
                    }
                }
            }
        }
    }
}
