//! Ridge regression against plain gradient descent, and its choice of the penalty.

use rand::Rng;

use super::problem::Standard;
use super::*;
use crate::math::random::{Purpose, generator};

/// Features whose first three numbers tell the class, with noise, on odd scales.
struct Sample {
    values: Vec<f32>,
    labels: Vec<u16>,
    width: usize,
}

impl Sample {
    fn new(samples: usize, width: usize, seed: u64) -> Self {
        let mut random = generator(seed, Purpose::Shuffle, 0, 0);
        let mut noise = || random.next_u32() as f32 / u32::MAX as f32 - 0.5;
        let labels: Vec<u16> = (0..samples).map(|index| (index * 7 % 3) as u16).collect();
        let mut values = Vec::with_capacity(samples * width);
        for &label in &labels {
            for feature in 0..width {
                let signal = if feature == usize::from(label) { 0.5 } else { 0.0 };
                values.push((noise() + signal) * (feature + 1) as f32 + 3.0);
            }
        }
        Self { values, labels, width }
    }

    fn labeled(&self) -> Labeled<'_> {
        Labeled { values: &self.values, labels: &self.labels, width: self.width, classes: 3 }
    }
}

/// The minimum by many small steps in f64: weight and bias of standardised features.
fn by_descent(sample: &Sample, penalty: f64) -> (Vec<f64>, Vec<f64>) {
    let (width, samples) = (sample.width, sample.labels.len());
    let moments = FeatureMoments::of(&sample.values, width);
    let standard = Standard::new(sample.labeled(), &moments);
    let mut rows = vec![0.0; samples * width];
    rows.chunks_exact_mut(width).enumerate().for_each(|(index, row)| standard.write(index as u32, row));
    let (mut weight, mut bias) = (vec![0.0; width * 3], vec![0.0; 3]);
    for _ in 0..3_000 {
        let mut slope: Vec<f64> = weight.iter().map(|weight| weight * penalty).collect();
        let mut bias_slope = [0.0; 3];
        for (row, &label) in rows.chunks_exact(width).zip(&sample.labels) {
            for class in 0..3 {
                let terms = row.iter().enumerate().map(|(f, &x)| f64::from(x) * weight[f * 3 + class]);
                let target = f64::from(u8::from(class == usize::from(label)));
                let error = (terms.sum::<f64>() + bias[class] - target) / samples as f64;
                bias_slope[class] += error;
                row.iter().enumerate().for_each(|(f, &x)| slope[f * 3 + class] += error * f64::from(x));
            }
        }
        weight.iter_mut().zip(&slope).for_each(|(weight, slope)| *weight -= 0.1 * slope);
        bias.iter_mut().zip(&bias_slope).for_each(|(bias, slope)| *bias -= 0.1 * slope);
    }
    (weight, bias)
}

fn close(found: &[f32], expected: &[f64], tolerance: f64) -> bool {
    found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < tolerance)
}

#[test]
fn the_solution_is_the_minimum_with_more_and_with_fewer_samples_than_features() {
    for (samples, width) in [(60, 5), (12, 14)] {
        let sample = Sample::new(samples, width, 1);
        let found = fit(sample.labeled(), 0.3);
        let (weight, bias) = by_descent(&sample, 0.3);
        assert!(close(&found.weight, &weight, 1e-5), "{samples}: {:?} {weight:?}", found.weight);
        assert!(close(&found.bias, &bias, 1e-5));
    }
}

#[test]
fn scores_are_those_of_standardised_features() {
    let sample = Sample::new(40, 6, 2);
    let ridge = fit(sample.labeled(), 0.1);
    let standard = Standard::new(sample.labeled(), &ridge.moments);
    let mut row = vec![0.0; 6];
    for (index, found) in ridge.scores(&sample.values).chunks_exact(3).enumerate() {
        standard.write(index as u32, &mut row);
        for (class, found) in found.iter().enumerate() {
            let terms = row.iter().enumerate().map(|(feature, x)| x * ridge.weight[feature * 3 + class]);
            assert!((terms.sum::<f32>() + ridge.bias[class] - found).abs() < 1e-5);
        }
    }
}

#[test]
fn folds_choose_as_fitting_each_by_itself_does() {
    for (samples, width) in [(90, 8), (24, 30)] {
        let sample = Sample::new(samples, width, 3);
        let penalties = [1e-3, 0.1, 10.0];
        let choice = choose_by_folds(sample.labeled(), &penalties, 3);
        let fold_of = folds_of(&sample.labels, 3, 3);
        let moments = FeatureMoments::of(&sample.values, width);
        for (trial, &penalty) in choice.trials.iter().zip(&penalties) {
            let mut right = 0;
            for fold in 0..3 {
                let part = |inside: bool| -> Vec<u32> {
                    (0..samples as u32).filter(|&i| (fold_of[i as usize] == fold) == inside).collect()
                };
                let problem = Problem::new(sample.labeled(), &moments, &part(false), None);
                let ridge = problem.fit(&moments, penalty);
                for index in part(true) {
                    let row = sample.labeled().row(index as usize);
                    let label = usize::from(sample.labels[index as usize]);
                    right += usize::from(crate::math::logits::argmax(&ridge.scores(row)) == label);
                }
            }
            assert_eq!(trial.accuracy, right as f64 / samples as f64, "{samples} {penalty}");
        }
        let most = choice.trials.iter().map(|trial| trial.accuracy).fold(0.0, f64::max);
        let chosen = choice.trials.iter().find(|trial| trial.penalty == choice.ridge.penalty).unwrap();
        assert_eq!(chosen.accuracy, most);
    }
}

#[test]
fn a_validation_set_chooses_and_the_read_out_generalises() {
    let (train, validation) = (Sample::new(300, 10, 4), Sample::new(200, 10, 5));
    let choice = choose_on(train.labeled(), validation.labeled(), &PENALTIES);
    let scores = choice.ridge.scores(&validation.values);
    assert!(accuracy(&scores, &validation.labels, 3) > 0.7);
    assert!(TEMPERATURES.contains(&choice.temperature) && choice.temperature < 0.7);
    assert_eq!(choice.trials.len(), PENALTIES.len());
}

#[test]
fn constant_and_broken_features_do_no_harm() {
    let mut sample = Sample::new(60, 5, 6);
    sample.values.iter_mut().skip(3).step_by(5).for_each(|value| *value = 7.0);
    let ridge = fit(sample.labeled(), 1e-9);
    assert!(accuracy(&ridge.scores(&sample.values), &sample.labels, 3) > 0.6);
    sample.values[8] = f32::NAN;
    assert!(fit(sample.labeled(), 0.1).weight.iter().all(|weight| *weight == 0.0));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let sample = Sample::new(700, 300, 7);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| choose_by_folds(sample.labeled(), &[0.01, 1.0], 2).ridge)
    };
    assert_eq!(with(1), with(3));
}
