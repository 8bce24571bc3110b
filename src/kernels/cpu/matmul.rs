//! A small matrix product on register tiles, for the dense layers.

use pulp::Simd;

use super::pack::{Operand, operands};
use super::scratch::Scratch;
use super::shape::pieces;
use super::simd::{beats, load, store};
use crate::math::units::{Unit, units};

/// `c[row, column] = sum over k of a[row * a_row + k * a_step] * b[k * b_row + column]`, k ascending, or, where k counts the
/// samples of a batch, unit by unit and along their tree. Steps of k are operands, of one or more factors.
///
/// Columns are vectorised, so the order of each sum is the same for every vector width. `b` must be readable
/// up to the columns rounded up to whole vectors (what lies there does not matter).
pub struct Product<'a, O> {
    pub a: &'a [O],
    pub a_row: usize,
    pub a_step: usize,
    pub b: &'a [O],
    pub b_row: usize,
    /// Operands that a sum is made of.
    pub depth: usize,
    pub rows: usize,
    pub columns: usize,
    /// Added before the products; as readable as a row of `b`.
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
    pub over: Over,
    /// The sums go on from what `c` holds; only over channels and without a bias.
    pub onto: bool,
}

/// What a product sums over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Channels,
    /// So many; an operand has factors of successive ones.
    Samples(usize),
}

/// In which order a product is summed, with room for the sums of one register tile that wait for later ones.
struct Order {
    /// In operands.
    units: Vec<Unit>,
    waiting: Scratch,
}

impl Order {
    fn new<S: Simd, O: Operand>(over: Over, depth: usize) -> Self {
        let units = match over {
            Over::Channels => vec![Unit { samples: 0..depth, merges: 0 }],
            Over::Samples(samples) => units(samples).into_iter().map(in_operands::<O>).collect(),
        };
        // What waits after each unit.
        let waiting = units.iter().scan(0, |waiting, unit| {
            *waiting = *waiting + 1 - unit.merges;
            Some(*waiting)
        });
        let most = waiting.max().unwrap_or(0);
        Self { units, waiting: Scratch::take(most * ROWS * MOST_VECTORS * S::F32_LANES) }
    }
}

/// A unit of samples in operands: it begins with a whole one, since batches are cut at multiples of four.
fn in_operands<O: Operand>(Unit { samples, merges }: Unit) -> Unit {
    debug_assert!(samples.start.is_multiple_of(O::FACTORS));
    Unit { samples: samples.start / O::FACTORS..operands::<O>(samples.end), merges }
}

/// Rows of a register tile; with 2 vectors 12 sums, three times what the latency of a multiply-add needs at
/// one a cycle. `[32, 1024] x [1024, 64]`, one Zen 5 core, AVX-512: 1.32 us a row with 4 vectors (24 sums; the
/// rows of `a` are 4 KiB apart and the wide rows of `b` push them out of L1), 0.71 with 1, 0.51 with 2
/// (257 GFLOP/s).
const ROWS: usize = 6;
/// Vectors of a register tile.
pub const MOST_VECTORS: usize = 2;

impl<O: Operand> Product<'_, O> {
    /// Writes the product to `c`, `c_row` floats from row to row.
    ///
    /// # Safety
    /// `c` must be valid for writes, and with `onto` for reads, of `columns` floats at each of `rows` rows, and nothing
    /// else may access them meanwhile.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(&self, simd: S, c: *mut f32, c_row: usize) {
        if self.rows == 0 || self.columns == 0 {
            return;
        }
        let readable = self.columns.next_multiple_of(S::F32_LANES);
        debug_assert!(c_row >= self.columns || self.rows == 1);
        if self.depth > 0 {
            assert!((self.rows - 1) * self.a_row + (self.depth - 1) * self.a_step < self.a.len());
            assert!((self.depth - 1) * self.b_row + readable <= self.b.len());
        }
        assert!(self.bias.is_none_or(|bias| bias.len() >= readable && self.over == Over::Channels));
        assert!(!self.onto || self.bias.is_none() && self.over == Over::Channels);
        let mut order = Order::new::<S, O>(self.over, self.depth);
        for vectors in pieces(readable / S::F32_LANES, MOST_VECTORS) {
            let column = vectors.start * S::F32_LANES;
            for rows in pieces(self.rows, ROWS) {
                // SAFETY: the bounds above hold for every tile of `rows` x `vectors`; `c` by the contract.
                unsafe {
                    match vectors.len() {
                        1 => self.tiles::<S, 1>(simd, &mut order, [rows.start, rows.len(), column], c, c_row),
                        _ => self.tiles::<S, MOST_VECTORS>(
                            simd,
                            &mut order,
                            [rows.start, rows.len(), column],
                            c,
                            c_row,
                        ),
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tiles<S: Simd, const VECTORS: usize>(
        &self,
        simd: S,
        order: &mut Order,
        [row, rows, column]: [usize; 3],
        c: *mut f32,
        c_row: usize,
    ) {
        // SAFETY: by the caller's contract.
        unsafe {
            match rows {
                1 => self.tile::<S, 1, VECTORS>(simd, order, row, column, c, c_row),
                2 => self.tile::<S, 2, VECTORS>(simd, order, row, column, c, c_row),
                3 => self.tile::<S, 3, VECTORS>(simd, order, row, column, c, c_row),
                4 => self.tile::<S, 4, VECTORS>(simd, order, row, column, c, c_row),
                5 => self.tile::<S, 5, VECTORS>(simd, order, row, column, c, c_row),
                _ => self.tile::<S, ROWS, VECTORS>(simd, order, row, column, c, c_row),
            }
        }
    }

    /// # Safety
    /// Rows `row..row + HEIGHT` and `VECTORS` vectors from `column` on lie within the bounds that `write`
    /// has checked.
    #[inline(always)]
    unsafe fn tile<S: Simd, const HEIGHT: usize, const VECTORS: usize>(
        &self,
        simd: S,
        order: &mut Order,
        row: usize,
        column: usize,
        c: *mut f32,
        c_row: usize,
    ) {
        debug_assert!(row + HEIGHT <= self.rows && column < self.columns);
        debug_assert!(column + VECTORS * S::F32_LANES <= self.columns.next_multiple_of(S::F32_LANES));
        let zero = simd.splat_f32s(0.0);
        let mut sums = [[zero; VECTORS]; HEIGHT];
        // SAFETY: by the contract; `waiting` has room for all tiles that ever wait.
        unsafe {
            if let Some(bias) = self.bias {
                for sums in &mut sums {
                    for (vector, sum) in sums.iter_mut().enumerate() {
                        *sum = load::<S>(bias.as_ptr().add(column + vector * S::F32_LANES));
                    }
                }
            }
            if self.onto {
                for (index, sums) in sums.iter_mut().enumerate() {
                    for (vector, sum) in sums.iter_mut().enumerate() {
                        let first = column + vector * S::F32_LANES;
                        let real = (self.columns - first).min(S::F32_LANES);
                        let from = c.add((row + index) * c_row + first);
                        *sum = simd.partial_load_f32s(std::slice::from_raw_parts(from, real));
                    }
                }
            }
            let (last, units) = order.units.split_last().expect("a batch has at least one unit");
            let mut end = order.waiting.as_mut_ptr();
            for unit in units {
                let none = [[zero; VECTORS]; HEIGHT];
                let part = self.add_steps::<S, HEIGHT, VECTORS>(simd, row, column, unit, none);
                let part = add_waiting::<S, HEIGHT, VECTORS>(simd, &mut end, unit.merges, part);
                // By reference: arrays that are iterated by value go through memory, which took half of the time of 1024 -> 64
                // backward.
                for part in &part {
                    for &part in part {
                        store::<S>(end, part);
                        end = end.add(S::F32_LANES);
                    }
                }
            }
            sums = self.add_steps::<S, HEIGHT, VECTORS>(simd, row, column, last, sums);
            sums = add_waiting::<S, HEIGHT, VECTORS>(simd, &mut end, last.merges, sums);
            for (index, sums) in sums.iter().enumerate() {
                for (vector, &sum) in sums.iter().enumerate() {
                    let value =
                        if self.relu { simd.select_f32s(beats(simd, sum, zero), sum, zero) } else { sum };
                    let first = column + vector * S::F32_LANES;
                    let target = c.add((row + index) * c_row + first);
                    let real = (self.columns - first).min(S::F32_LANES);
                    if real == S::F32_LANES {
                        store::<S>(target, value);
                    } else {
                        let values = [value];
                        let values: &[f32] = pulp::bytemuck::cast_slice(&values);
                        std::slice::from_raw_parts_mut(target, real).copy_from_slice(&values[..real]);
                    }
                }
            }
        }
    }

    /// Adds the products of a unit's steps to the sums of a tile.
    ///
    /// # Safety
    /// As for `tile`; the steps are below the depth.
    #[inline(always)]
    unsafe fn add_steps<S: Simd, const HEIGHT: usize, const VECTORS: usize>(
        &self,
        simd: S,
        row: usize,
        column: usize,
        unit: &Unit,
        mut sums: [[S::f32s; VECTORS]; HEIGHT],
    ) -> [[S::f32s; VECTORS]; HEIGHT] {
        debug_assert!(unit.samples.end <= self.depth);
        // SAFETY: by the contract.
        unsafe {
            let a = self.a.as_ptr().add(row * self.a_row);
            let b = self.b.as_ptr().add(column);
            for step in unit.samples.clone() {
                let mut factors = [O::splat(simd, O::zeroed()); VECTORS];
                for (vector, factor) in factors.iter_mut().enumerate() {
                    *factor = O::load(simd, b.add(step * self.b_row + vector * S::F32_LANES));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = O::splat(simd, *a.add(row * self.a_row + step * self.a_step));
                    for (sum, &factor) in sums.iter_mut().zip(&factors) {
                        *sum = O::multiply_add(simd, value, factor, *sum);
                    }
                }
            }
        }
        sums
    }
}

/// Adds the last of the waiting tiles, which end at `end`, to a later one, `merges` times.
///
/// # Safety
/// As many tiles as there are merges lie in front of `end`.
#[inline(always)]
unsafe fn add_waiting<S: Simd, const HEIGHT: usize, const VECTORS: usize>(
    simd: S,
    end: &mut *mut f32,
    merges: usize,
    mut sums: [[S::f32s; VECTORS]; HEIGHT],
) -> [[S::f32s; VECTORS]; HEIGHT] {
    for _ in 0..merges {
        // SAFETY: by the contract.
        unsafe {
            *end = end.sub(HEIGHT * VECTORS * S::F32_LANES);
            for (index, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    let earlier = load::<S>(end.add((index * VECTORS + vector) * S::F32_LANES));
                    *sum = simd.add_f32s(earlier, *sum);
                }
            }
        }
    }
    sums
}
