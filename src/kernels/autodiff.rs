//! The hand-written backward passes of the `flex` device.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Flex};

use super::convolution::{self, ConvState, Wanted};
use super::flex::{self, DenseState};
use super::normalisation::{self, NormState};
use super::storage::Floats;
use super::{
    ConvNormOptions, ConvOptions, DenseOptions, Kernels, NormOptions, OverlappingPool, cpu, norm_and_conv,
    pooling, reference,
};

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn conv_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions,
    ) -> FloatTensor<Self> {
        let Some(shape) = convolution::conv_shape(input.primitive(), weight.primitive(), options) else {
            return reference::conv_block::<Self>(input, weight, bias, options);
        };
        let nodes = [input.node(), weight.node(), bias.node()];
        let (input, weight) = (input.into_primitive(), weight.into_primitive());
        let (output, state) =
            convolution::conv_forward(shape, options.arithmetic, input, weight, bias.primitive());
        match ConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(operation) => operation.finish(output),
            OpsKind::Tracked(operation) => operation.finish(state, output),
        }
    }

    fn overlapping_pool(input: FloatTensor<Self>, kind: OverlappingPool) -> FloatTensor<Self> {
        pooling::with_gradient::<C>(input, kind)
    }

    fn dense_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: DenseOptions,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node(), bias.node()];
        let (input, weight) = (input.into_primitive(), weight.into_primitive());
        let output = flex::dense_forward(&input, &weight, bias.primitive(), options);
        match DenseBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(operation) => operation.finish(output),
            OpsKind::Tracked(operation) => {
                let precision = options.arithmetic.precision;
                let kept = options.relu.then(|| output.clone());
                let state = DenseState { input, weight, precision, output: kept };
                operation.finish(state, output)
            }
        }
    }

    fn batch_norm(
        input: FloatTensor<Self>,
        samples: usize,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        options: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [input.node(), scale.node(), shift.node()];
        let (input, scale, shift) = (input.into_primitive(), scale.into_primitive(), shift.into_primitive());
        let (output, [mean, variance], state) = normalisation::forward(input, samples, scale, shift, options);
        let output = match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(operation) => operation.finish(output),
            OpsKind::Tracked(operation) => operation.finish(state, output),
        };
        (output, Self::from_inner(mean), Self::from_inner(variance))
    }

    fn norm_conv(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = convolution::conv_shape(input.primitive(), weight.primitive(), options.conv);
        let Some(shape) = shape.filter(cpu::normalises_inputs) else {
            return norm_and_conv::<Self>(input, scale, shift, weight, options);
        };
        let nodes = [input.node(), scale.node(), shift.node(), weight.node()];
        let [input, scale, shift, weight] =
            [input, scale, shift, weight].map(|tensor| tensor.into_primitive());
        let (output, [mean, variance], state) =
            normalisation::forward_into_convolution(shape, input, scale, shift, weight, options);
        let output = match NormConvBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::UnTracked(operation) => operation.finish(output),
            OpsKind::Tracked(operation) => operation.finish(state, output),
        };
        (output, Self::from_inner(mean), Self::from_inner(variance))
    }

    fn cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        smoothing: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let node = logits.node();
        let (loss, correct, gradient) = flex::cross_entropy(logits.primitive(), labels, smoothing);
        let loss = match LossBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::UnTracked(operation) => operation.finish(loss),
            OpsKind::Tracked(operation) => operation.finish(gradient, loss),
        };
        (loss, Self::from_inner(correct))
    }
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = NormState;

    fn backward(self, ops: Ops<NormState, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input, scale, shift] = ops.parents.map(|node| node.map(|node| node.id));
        let gradient = gradients.consume::<Flex>(&ops.node);
        let [for_input, for_scale, for_shift] = normalisation::backward(ops.state, gradient);
        register([(input, Some(for_input)), (scale, Some(for_scale)), (shift, Some(for_shift))], gradients);
    }
}

#[derive(Debug)]
struct NormConvBackward;

impl Backward<Flex, 4> for NormConvBackward {
    type State = (NormState, ConvState);

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input, scale, shift, weight] = ops.parents.map(|node| node.map(|node| node.id));
        let gradient = gradients.consume::<Flex>(&ops.node);
        let (norm, conv) = ops.state;
        let wanted = [[input, scale, shift].iter().any(Option::is_some), weight.is_some()];
        let (of_norm, for_weight) = normalisation::backward_through_convolution(norm, conv, gradient, wanted);
        register([(weight, for_weight)], gradients);
        if let Some([for_input, for_scale, for_shift]) = of_norm {
            register(
                [(input, Some(for_input)), (scale, Some(for_scale)), (shift, Some(for_shift))],
                gradients,
            );
        }
    }
}

#[derive(Debug)]
struct ConvBackward;

impl Backward<Flex, 3> for ConvBackward {
    type State = ConvState;

    fn backward(self, ops: Ops<ConvState, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input, weight, bias] = ops.parents.map(|node| node.map(|node| node.id));
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted = Wanted { input: input.is_some(), weight: weight.is_some(), bias: bias.is_some() };
        let result = convolution::conv_backward(ops.state, gradient, wanted);
        register([(input, result.input), (weight, result.weight), (bias, result.bias)], gradients);
    }
}

fn register<const N: usize>(results: [(Option<NodeId>, Option<Floats>); N], gradients: &mut Gradients) {
    for (node, gradient) in results {
        if let (Some(node), Some(gradient)) = (node, gradient) {
            gradients.register::<Flex>(node, gradient);
        }
    }
}

#[derive(Debug)]
struct DenseBackward;

impl Backward<Flex, 3> for DenseBackward {
    type State = DenseState;

    fn backward(self, ops: Ops<DenseState, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [input, weight, bias] = ops.parents.map(|node| node.map(|node| node.id));
        let gradient = gradients.consume::<Flex>(&ops.node);
        let result = flex::dense_backward(ops.state, gradient, input.is_some());
        register(
            [(input, result.input), (weight, Some(result.weight)), (bias, Some(result.bias))],
            gradients,
        );
    }
}

#[derive(Debug)]
struct LossBackward;

impl Backward<Flex, 1> for LossBackward {
    /// Gradient of the sum of the losses by the logits.
    type State = Floats;

    fn backward(self, ops: Ops<Floats, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [logits] = ops.parents;
        let outer = gradients.consume::<Flex>(&ops.node);
        if let Some(node) = logits {
            let gradient = flex::scaled(ops.state, &outer);
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}
