//! What a step's sums over its samples amount to.

use burn::tensor::Tensor;

use crate::model::{Sums, Task};

/// The result of a training step, of the whole batch.
pub struct Tally {
    /// What the step minimised: the mean loss of every task, times its weight, added up, `[1]`.
    pub loss: Tensor<1>,
    /// Of the first task: its accuracy times the number of samples, `[1]`. With one task the number of right answers.
    pub correct: Tensor<1>,
    /// Of the second task, if there is one: its mean loss, and its accuracy times the number of samples.
    pub second: Option<[Tensor<1>; 2]>,
}

impl Tally {
    /// Of the sums over a batch of so many samples.
    pub(super) fn new(tasks: &[Task], sums: Vec<Sums>, samples: usize) -> Self {
        let losses: Vec<Tensor<1>> = sums.iter().map(|sums| sums.losses.clone()).collect();
        let of_all = |task: usize, sum: &Tensor<1>| scaled(sum.clone(), tasks[task].scale());
        let mean = |sum: Tensor<1>| sum.div_scalar(samples as f32);
        let second = sums.get(1);
        let second = second.map(|sums| [mean(of_all(1, &sums.losses)), of_all(1, &sums.correct)]);
        Self { loss: mean(total(tasks, &losses)), correct: of_all(0, &sums[0].correct), second }
    }
}

/// What a step minimises, times the number of samples of the batch.
pub(crate) fn total(tasks: &[Task], losses: &[Tensor<1>]) -> Tensor<1> {
    let counted = tasks.iter().zip(losses).map(|(task, sum)| scaled(sum.clone(), task.weight * task.scale()));
    counted.reduce(|total, more| total + more).expect("a network has at least one task")
}

fn scaled(sum: Tensor<1>, factor: f32) -> Tensor<1> {
    if factor == 1.0 { sum } else { sum.mul_scalar(factor) }
}
