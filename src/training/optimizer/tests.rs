//! Steps against numbers worked out by hand, and which parameter goes to which rule.

use burn::module::Module;
use burn::tensor::{Device, TensorData};

use super::*;
use crate::model::{Classifier, ClassifierShape, Mode, load};
use crate::samples::{Batch, Inputs};
use crate::training::step;

fn optimizer(text: &str) -> Optimizer {
    Optimizer::new(&serde_json::from_str(text).unwrap())
}

/// The dense layer with one weight and one bias, whose gradients are chosen.
#[derive(Module, Debug)]
struct Line {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl Network for Line {
    const LAST_LAYERS: &'static [&'static str] = &["output"];

    fn logits(&self, batch: Tensor<2>, _: Mode) -> Tensor<2> {
        batch.matmul(self.weight.val()) + self.bias.val().reshape([1, 1])
    }
}

/// Weight and bias, both 1 at first, after each of two steps with gradients 0.5 and 1.
fn two_steps(text: &str) -> [[f32; 2]; 2] {
    let device = Device::flex().autodiff();
    let ones = |shape: &[usize]| TensorData::new(vec![1f32], shape.to_vec());
    let mut line = Line {
        weight: Param::from_data(ones(&[1, 1]), &device),
        bias: Param::from_data(ones(&[1]), &device),
    };
    let mut optimizer = optimizer(text);
    [0.5f32, 1.0].map(|gradient| {
        let weight = line.weight.val() * gradient;
        let bias = line.bias.val() * gradient;
        let mut gradients = (weight.sum() + bias.sum()).backward();
        line = optimizer.step(line.clone(), &mut gradients);
        let number = |data: TensorData| data.iter::<f32>().next().unwrap();
        [number(line.weight.val().into_data()), number(line.bias.val().into_data())]
    })
}

fn assert_near(found: [[f32; 2]; 2], expected: [[f64; 2]; 2]) {
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn sgd_with_momentum_and_decay_of_the_weight_alone() {
    // weight: v = 0.5 + 0.1 = 0.6, w = 1 - 0.06 = 0.94; v = 0.54 + 1 + 0.094 = 1.634, w = 0.94 - 0.1634.
    // bias: v = 0.5, b = 0.95; v = 0.45 + 1 = 1.45, b = 0.95 - 0.145.
    assert_near(
        two_steps(
            r#"{"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": false, "weight_decay": 0.1}"#,
        ),
        [[0.94, 0.95], [0.7766, 0.805]],
    );
}

#[test]
fn sgd_with_nesterov_momentum() {
    // v = 0.5, change 0.5 + 0.45 = 0.95; v = 1.45, change 1 + 1.305 = 2.305.
    let expected = 1.0 - 0.095;
    let after = expected - 0.2305;
    assert_near(
        two_steps(r#"{"kind": "sgd", "learning_rate": 0.1, "weight_decay": 0}"#),
        [[expected; 2], [after; 2]],
    );
}

#[test]
fn adamw_decays_the_weight_by_the_learning_rate() {
    // The first step of Adam is the learning rate; the second has mean (0.09 * 0.5 + 0.1) / 0.19 of gradients and
    // (0.000999 * 0.25 + 0.001) / 0.001999 of their squares.
    let change = 0.1 * (0.145 / 0.19) / (0.00124975f64 / 0.001999).sqrt();
    let weight = 1.0 * 0.95 - 0.1;
    let bias = 1.0 - 0.1;
    assert_near(
        two_steps(r#"{"kind": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}"#),
        [[weight, bias], [weight * 0.95 - change, bias - change]],
    );
}

fn classifier() -> Classifier {
    let shape = ClassifierShape { features: 12, hidden: vec![8], batch_norm: true, classes: 3, map: None };
    Classifier::new(&shape, None, 1, &Device::flex().autodiff())
}

fn trained(mut network: Classifier, optimizer: &mut Optimizer, steps: usize) -> Classifier {
    for _ in 0..steps {
        let batch = Batch {
            inputs: Inputs::Values((0..48).map(|n| (n * 7 % 11) as f32 / 11.0).collect()),
            labels: vec![0, 1, 2, 1],
            share: None,
        };
        network = step(network, optimizer, batch, 0.0, &Device::flex().autodiff()).0;
    }
    network
}

#[test]
fn muon_moves_weights_orthogonally_and_leaves_biases_and_the_last_layer_to_the_other_rule() {
    let mut optimizer = optimizer(r#"{"kind": "muon", "learning_rate": 0.5}"#);
    let before = collect(&classifier());
    let after = collect(&trained(classifier(), &mut optimizer, 1));
    let change = |name: &str| -> Vec<f32> {
        let numbers = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
        let (before, after) = (numbers(&before[name]), numbers(&after[name]));
        before.iter().zip(after).map(|(a, b)| a - b).collect()
    };
    let norm: f32 = change("hidden.0.dense.weight").iter().map(|x| x * x).sum();
    // At most 8 singular values of up to 1.2 times the learning rate.
    assert!(norm > 0.5 * 0.5 * 0.5 && norm < 8.0 * 0.36, "{norm}");
    let largest = change("output.weight").iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!((largest - 1e-3).abs() < 1e-5, "{largest}");
    let state = optimizer.state(&classifier());
    let keys: Vec<&str> = state.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "first.hidden.0.dense.bias",
            "first.hidden.0.norm.scale",
            "first.hidden.0.norm.shift",
            "first.output.bias",
            "first.output.weight",
            "second.hidden.0.dense.bias",
            "second.hidden.0.norm.scale",
            "second.hidden.0.norm.shift",
            "second.output.bias",
            "second.output.weight",
            "velocity.hidden.0.dense.weight",
        ]
    );
}

#[test]
fn a_restored_optimizer_goes_on_as_if_never_stopped() {
    let kinds = ["adam", "adamw", "sgd", "muon"];
    let all = kinds.into_iter().flat_map(|kind| [(kind, None), (kind, Some(0.9))]);
    for (kind, average) in all {
        let text = format!(r#"{{"kind": "{kind}"}}"#);
        let make = || optimizer(&text).with_average(average);
        let mut whole = make();
        let network = trained(classifier(), &mut whole, 4);
        let expected = collect(&whole.evaluated(&network));
        let mut first = make();
        let half_way = trained(classifier(), &mut first, 2);
        let mut second = make();
        let saved = collect(&first.evaluated(&half_way));
        let raw = second.restore(first.steps(), first.state(&half_way), saved, &Device::flex()).unwrap();
        let raw = load(classifier(), raw).unwrap();
        let network = trained(raw, &mut second, 2);
        assert_eq!(collect(&second.evaluated(&network)), expected, "{kind}");
    }
}

#[test]
fn the_average_is_of_all_steps_with_less_memory_at_first() {
    let mut averaging = optimizer(r#"{"kind": "sgd"}"#).with_average(Some(0.25));
    let one = trained(classifier(), &mut averaging, 1);
    assert_eq!(collect(&averaging.evaluated(&one)), collect(&one));
    let two = trained(one.clone(), &mut averaging, 1);
    let number = |network: &Classifier| {
        let bias = collect(network)["output.bias"].clone();
        bias.iter::<f32>().next().unwrap()
    };
    let average = number(&averaging.evaluated(&two));
    // The second step's memory is min(0.25, 3 / 12).
    let expected = 0.25 * number(&one) + 0.75 * number(&two);
    assert!((average - expected).abs() < 1e-7, "{average} {expected}");
    assert_ne!(number(&two), number(&one));
}

#[test]
fn gradients_over_the_norm_are_scaled_down_together_and_others_stay() {
    let plain = r#"{"kind": "sgd", "learning_rate": 1, "momentum": 0, "weight_decay": 0}"#;
    let moved = |norm: Option<f64>| {
        let mut optimizer = optimizer(plain).with_clipping(norm);
        let (before, after) = (collect(&classifier()), collect(&trained(classifier(), &mut optimizer, 1)));
        let mut change = Vec::new();
        for (name, data) in &before {
            let pairs = data.iter::<f32>().zip(after[name].iter::<f32>());
            change.extend(pairs.map(|(before, after)| f64::from(before - after)));
        }
        change
    };
    let norm = |change: &[f64]| change.iter().map(|x| x * x).sum::<f64>().sqrt();
    let whole = moved(None);
    let clipped = moved(Some(0.01));
    assert!((norm(&clipped) - 0.01).abs() < 1e-5, "{}", norm(&clipped));
    let ratio = 0.01 / norm(&whole);
    let largest = whole.iter().zip(&clipped).map(|(a, b)| (a * ratio - b).abs());
    assert!(largest.fold(0.0, f64::max) < 1e-6);
    assert_eq!(moved(Some(1e6)), whole);
}

#[test]
fn a_state_of_another_rule_or_with_a_part_missing_is_refused() {
    let mut adam = optimizer("{}");
    trained(classifier(), &mut adam, 1);
    let restore = |text: &str, state| {
        let saved = collect(&classifier());
        optimizer(text).restore(1, state, saved, &Device::flex())
    };
    let state = || adam.state(&classifier());
    let problem = restore(r#"{"kind": "sgd"}"#, state()).unwrap_err();
    assert!(problem.contains("`first.hidden.0.dense.bias` belongs to another optimizer"), "{problem}");
    let mut state = state();
    state.remove("second.hidden.0.dense.bias");
    let problem = restore("{}", state).unwrap_err();
    assert!(problem.contains("`hidden.0.dense.bias` is missing"), "{problem}");
}

#[test]
fn only_matrices_that_widen_take_larger_steps_with_muon() {
    assert_eq!(muon_scale([64, 256]), 2.0);
    assert_eq!(muon_scale([1152, 128]), 1.0);
}
