//! Which way up images are, from what a network says of them in all four rotations.
//!
//! Likelihoods are natural logarithms, one for each number of quarter turns counter-clockwise; a constant may be missing.

use crate::math::functions::ln;
use crate::math::logits::{argmax, log_softmax, softmax};

/// Numbers of quarter turns.
pub const TURNS: usize = 4;
/// Each rotation as likely as another.
pub const EVEN: [f64; TURNS] = [1.0 / TURNS as f64; TURNS];
/// Images counted for each rotation on top of those of the album, so that a single photograph does not decide by itself
/// what all albums look like: with one image the shares stay within 0.2 and 0.4.
const COUNTED_BEFORE: f64 = 1.0;
/// The shares of an album of thousands move less than this after some ten rounds.
const SETTLED: f64 = 1e-9;
const MOST_ROUNDS: usize = 1_000;
/// Calibration errors are taken over bins of equal width, 15 as in Guo and others (2017), "On calibration of modern neural
/// networks".
const BINS: usize = 15;
/// Divisors of the likelihoods that are tried.
const TEMPERATURES: [f64; 2] = [0.05, 20.0];

/// The likelihoods of one image's turns, from logits `[views, shown, said]` of one or more parts of it, each shown with 0 to
/// 3 more turns: what the network says of one rotation tells about the others, and the mean of all logarithms is what
/// counts.
pub fn combine(logits: &[f64]) -> [f64; TURNS] {
    let mut logarithms = logits.to_vec();
    log_softmax(&mut logarithms, TURNS);
    let views = logarithms.chunks_exact(TURNS * TURNS);
    let count = (views.len() * TURNS).max(1) as f64;
    // One shown with `shown` more turns has `own + shown` of them.
    let sum = |own: usize| -> f64 {
        let of_view =
            |view: &[f64]| (0..TURNS).map(|shown| view[shown * TURNS + (own + shown) % TURNS]).sum::<f64>();
        views.clone().map(of_view).sum()
    };
    [0, 1, 2, 3].map(|own| sum(own) / count)
}

/// How likely each number of turns is, where these `shares` of all images lie so.
pub fn probabilities(likelihoods: &[f64; TURNS], shares: &[f64; TURNS]) -> [f64; TURNS] {
    let mut logits = [0, 1, 2, 3].map(|turns| likelihoods[turns] + ln(shares[turns]));
    softmax(&mut logits, TURNS);
    logits
}

/// The shares of images in each rotation under which these likelihoods are the most likely (Saerens, Latinne and
/// Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities"), with one image of each
/// rotation counted before.
pub fn shares(likelihoods: &[[f64; TURNS]]) -> [f64; TURNS] {
    let mut shares = EVEN;
    for _ in 0..MOST_ROUNDS {
        let mut sums = [COUNTED_BEFORE; TURNS];
        for image in likelihoods {
            let found = probabilities(image, &shares);
            sums.iter_mut().zip(found).for_each(|(sum, share)| *sum += share);
        }
        let all: f64 = sums.iter().sum();
        let moved = sums.map(|sum| sum / all);
        let settled = moved.iter().zip(shares).all(|(new, old)| (new - old).abs() < SETTLED);
        shares = moved;
        if settled {
            break;
        }
    }
    shares
}

/// What the likelihoods of upright images are to be divided by, for their probabilities to be as often right as they say;
/// 1 without images. The logarithmic loss has one minimum, which is found to a millionth.
pub fn temperature(upright: &[[f64; TURNS]]) -> f64 {
    if upright.is_empty() {
        return 1.0;
    }
    // Of the inverse, in which the loss is convex.
    let loss = |inverse: f64| -> f64 {
        let of_image = |image: &[f64; TURNS]| {
            let mut logits = image.map(|value| value * inverse);
            log_softmax(&mut logits, TURNS);
            -logits[0]
        };
        upright.iter().map(of_image).sum()
    };
    let [mut low, mut high] = [1.0 / TEMPERATURES[1], 1.0 / TEMPERATURES[0]];
    while high - low > 1e-6 * high {
        let third = (high - low) / 3.0;
        match loss(low + third) <= loss(high - third) {
            true => high -= third,
            false => low += third,
        }
    }
    2.0 / (low + high)
}

/// Expected calibration error of upright images, in 0..=1: how far the probability of the most likely turn lies from how
/// often it is right, on average over images.
pub fn calibration_error(upright: &[[f64; TURNS]]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for image in upright {
        let found = probabilities(image, &EVEN);
        let best = argmax(&found);
        let bin = &mut bins[((found[best] * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += found[best];
        bin.1 += f64::from(best == 0);
    }
    let difference: f64 = bins.iter().map(|(said, right)| (said - right).abs()).sum();
    difference / upright.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_one_image_agree_on_its_own_turns() {
        // An image that lies turned by one quarter, seen without doubt in three views and missed in the last.
        let mut view = [-10.0; 16];
        for (shown, said) in [1, 2, 3, 2].into_iter().enumerate() {
            view[shown * 4 + said] = 0.0;
        }
        let even = [0.25; 4];
        let one = probabilities(&combine(&view), &even);
        assert!(argmax(&one) == 1 && one[1] > 0.9 && (one.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // A second part of the image that says nothing halves what is known.
        let two = combine(&[view, [0.0; 16]].concat());
        let half = combine(&view).map(|value| value / 2.0);
        let uniform = combine(&[0.0; 16])[0] / 2.0;
        assert!(two.iter().zip(half).all(|(both, half)| (both - half - uniform).abs() < 1e-12));
    }

    #[test]
    fn an_album_says_how_its_images_lie_and_one_image_says_little() {
        let sure = |turns: usize| {
            let mut likelihoods = [-4.0; 4];
            likelihoods[turns] = -0.05;
            likelihoods
        };
        let album: Vec<_> = (0..100).map(|index| sure(if index < 90 { 0 } else { 1 })).collect();
        let found = shares(&album);
        assert!((found[0] - 0.88).abs() < 0.03 && (found[1] - 0.1).abs() < 0.02, "{found:?}");
        // What could be either way lies as most do.
        let open = probabilities(&[-0.7, -0.7, -5.0, -5.0], &found);
        assert!(open[0] > 0.85, "{open:?}");
        let one = shares(&[sure(2)]);
        assert!(one[2] < 0.4 && one[0] >= 0.19, "{one:?}");
        assert_eq!(shares(&[]), [0.25; 4]);
    }

    #[test]
    fn a_temperature_makes_probabilities_as_right_as_they_say() {
        // Says 0.88 to 0.04 each, but is right in 70 of 100.
        let said = |turns: usize| {
            let mut likelihoods = [ln(0.04); 4];
            likelihoods[turns] = ln(0.88);
            likelihoods
        };
        let images: Vec<_> = (0..100).map(|index| said(if index < 70 { 0 } else { 1 + index % 3 })).collect();
        let found = temperature(&images);
        let cooled: Vec<_> = images.iter().map(|image| image.map(|value| value / found)).collect();
        let right = probabilities(&cooled[0], &[0.25; 4])[0];
        assert!(found > 1.0 && (right - 0.7).abs() < 1e-3, "{found} {right}");
        assert!((calibration_error(&images) - 0.18).abs() < 1e-9);
        assert!(calibration_error(&cooled) < 1e-3);
        assert_eq!((temperature(&[]), calibration_error(&[])), (1.0, 0.0));
    }
}
