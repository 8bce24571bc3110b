//! The verdict in a sentence.

use super::{Arm, LabelCount};
use crate::judge::statistics::Difference;

/// Answers the question from the comparison with the best baseline at each label count.
pub(super) fn sentence(counts: &[LabelCount]) -> String {
    let Some(first) = counts.first() else {
        return "There are too few labels for a comparison.".into();
    };
    let clear = |count: &&LabelCount| {
        rival(count).is_some_and(|(_, gain)| gain.difference > 0.0 && gain.is_more_than_chance())
    };
    let helped: Vec<&LabelCount> = counts.iter().filter(clear).collect();
    let shown = match helped.first() {
        Some(count) => *count,
        None => first,
    };
    let Some((arm, gain)) = rival(shown) else {
        return "There is no baseline to compare with.".into();
    };
    let points = |share: f64| format!("{:+.1}", 100.0 * share);
    let numbers = format!(
        "with {} test accuracy {:.4} against {:.4} of `{}` ({} points, 95 % interval {} to {})",
        labels(shown),
        shown.arms[0].test_accuracy,
        arm.test_accuracy,
        arm.name,
        points(gain.difference),
        points(gain.interval[0]),
        points(gain.interval[1])
    );
    match helped.last() {
        None => format!("Pretraining did not help here: it is nowhere ahead by more than chance; {numbers}."),
        Some(last) if helped.len() == counts.len() => {
            format!(
                "Pretraining helped: {numbers}; it stays ahead up to {}, the most compared.",
                labels(last)
            )
        }
        Some(last) => {
            format!("Pretraining helped: {numbers}; it is ahead by more than chance up to {}.", labels(last))
        }
    }
}

/// The baseline that pretraining gained least over.
fn rival(count: &LabelCount) -> Option<(&Arm, &Difference)> {
    let baselines = count.arms.iter().filter_map(|arm| Some((arm, arm.gain.as_ref()?)));
    baselines.min_by(|a, b| a.1.difference.total_cmp(&b.1.difference))
}

fn labels(count: &LabelCount) -> String {
    match count.labels_per_class {
        0 => format!("all {} labels", count.labels),
        each => format!("{each} labels a class"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::PRETRAINED;
    use super::*;

    fn count(labels_per_class: usize, gains: &[(f64, f64)]) -> LabelCount {
        let arm = |name: &str, gain: Option<Difference>| Arm {
            name: name.into(),
            test_accuracy: 0.5,
            test_interval: [0.4, 0.6],
            seconds: 1.0,
            gain,
            checkpoint: String::new(),
        };
        let baseline = |&(difference, half): &(f64, f64)| {
            let interval = [difference - half, difference + half];
            arm("random", Some(Difference { difference, interval, gained: 0, lost: 0 }))
        };
        let arms = std::iter::once(arm(PRETRAINED, None)).chain(gains.iter().map(baseline)).collect();
        LabelCount { labels_per_class, labels: 1_000, arms }
    }

    #[test]
    fn the_sentence_says_whether_by_how_much_and_up_to_where() {
        let helped =
            sentence(&[count(20, &[(0.11, 0.01)]), count(100, &[(0.05, 0.01)]), count(0, &[(0.0, 0.01)])]);
        assert!(helped.starts_with("Pretraining helped: with 20 labels a class"), "{helped}");
        assert!(helped.contains("+11.0 points, 95 % interval +10.0 to +12.0"), "{helped}");
        assert!(helped.ends_with("up to 100 labels a class."), "{helped}");
        let always = sentence(&[count(20, &[(0.11, 0.01)]), count(0, &[(0.1, 0.01)])]);
        assert!(always.ends_with("up to all 1000 labels, the most compared."), "{always}");
    }

    #[test]
    fn the_strongest_baseline_decides() {
        let lost = sentence(&[count(20, &[(0.11, 0.01), (-0.02, 0.01)])]);
        assert!(lost.starts_with("Pretraining did not help here") && lost.contains("-2.0 points"), "{lost}");
        let unclear = sentence(&[count(20, &[(0.01, 0.02)])]);
        assert!(unclear.starts_with("Pretraining did not help here"), "{unclear}");
    }
}
