//! Overlapping pooling on the `flex` device, both ways.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};

use super::OverlappingPool;
use super::cpu::{self, PoolShape};
use super::memory;
use super::profile::timed;
use super::storage::{contiguous, floats, tensor};

type Floats = FloatTensor<Flex>;

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub(super) struct PoolState {
    shape: PoolShape,
    /// Which place of each window was the largest; empty for averages.
    argmax: Vec<u8>,
}

fn name(shape: &PoolShape, direction: &str) -> String {
    let PoolShape { height, width, channels, kind, .. } = shape;
    format!("{kind:?} pool 3/2 {height}x{width}x{channels} {direction}")
}

pub(super) fn forward(input: Floats, kind: OverlappingPool) -> (Floats, PoolState) {
    let input = contiguous(input);
    let [batch, height, width, channels] = input.shape().dims();
    let shape = PoolShape { batch, height, width, channels, kind };
    let mut output = memory::room(batch * shape.output_len());
    let mut argmax = vec![0; if kind == OverlappingPool::Max { output.len() } else { 0 }];
    timed(|| name(&shape, "forward"), || cpu::pool_forward(&shape, floats(&input), &mut output, &mut argmax));
    memory::reuse(input);
    let output = tensor(output, &[batch, shape.out_height(), shape.out_width(), channels]);
    (output, PoolState { shape, argmax })
}

pub(super) fn with_gradient<C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<Flex, C>>,
    kind: OverlappingPool,
) -> FloatTensor<Autodiff<Flex, C>> {
    let node = input.node();
    let (output, state) = forward(input.into_primitive(), kind);
    match PoolBackward.prepare::<C>([node]).compute_bound().stateful() {
        OpsKind::UnTracked(operation) => operation.finish(output),
        OpsKind::Tracked(operation) => operation.finish(state, output),
    }
}

#[derive(Debug)]
struct PoolBackward;

impl Backward<Flex, 1> for PoolBackward {
    type State = PoolState;

    fn backward(self, ops: Ops<PoolState, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input] = ops.parents;
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let Some(node) = input else { return };
        let PoolState { shape, argmax } = ops.state;
        let mut for_input = memory::room(shape.batch * shape.input_len());
        timed(
            || name(&shape, "backward"),
            || cpu::pool_backward(&shape, &argmax, floats(&gradient), &mut for_input),
        );
        memory::reuse(gradient);
        let for_input = tensor(for_input, &[shape.batch, shape.height, shape.width, shape.channels]);
        gradients.register::<Flex>(node.id, for_input);
    }
}
