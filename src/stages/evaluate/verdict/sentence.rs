//! The verdict in a sentence.

use super::{Arm, LabelCount};
use crate::judge::statistics::Difference;

/// Highest chance that any of the verdict's claims is wrong.
const LEVEL: f64 = 0.05;

/// The answer, from the comparison with the best baseline at each label count.
pub(super) fn sentence(counts: &[LabelCount]) -> String {
    let Some(first) = counts.first() else {
        return "There are too few labels for a comparison.".into();
    };
    let (helped, others): (Vec<&LabelCount>, Vec<&LabelCount>) =
        counts.iter().partition(|count| is_ahead(count));
    let shown = helped.first().copied().unwrap_or(first);
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
    let Some(last) = helped.last() else {
        return format!("Pretraining did not help here: it is nowhere ahead by more than chance; {numbers}.");
    };
    let from_the_first = counts.iter().take(helped.len()).all(is_ahead);
    let list =
        |counts: &[&LabelCount]| counts.iter().map(|count| labels(count)).collect::<Vec<_>>().join(", ");
    match (others.is_empty(), from_the_first) {
        (true, _) => format!(
            "Pretraining helped: {numbers}; it stays ahead up to {}, the most compared.",
            labels(last)
        ),
        (false, true) => {
            format!("Pretraining helped: {numbers}; it is ahead by more than chance up to {}.", labels(last))
        }
        (false, false) => format!(
            "Pretraining helped in part: {numbers}; it is ahead by more than chance with {}, not with {}.",
            list(&helped),
            list(&others)
        ),
    }
}

/// Whether pretraining is ahead of every baseline by more than chance, adjusted for all comparisons.
fn is_ahead(count: &LabelCount) -> bool {
    let mut gains = count.arms.iter().filter_map(|arm| Some((arm.gain.as_ref()?, arm.adjusted_p_value?)));
    let some = count.arms.iter().any(|arm| arm.gain.is_some());
    some && gains.all(|(gain, adjusted)| gain.difference > 0.0 && adjusted < LEVEL)
}

/// The baseline over which pretraining gained least.
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
    use super::super::compare::adjust;
    use super::*;

    /// Gains over baselines as images gained and lost, of 1,000.
    fn count(labels_per_class: usize, gains: &[(usize, usize)]) -> LabelCount {
        let arm = |name: &str, gain: Option<Difference>| Arm {
            name: name.into(),
            test_accuracy: 0.5,
            test_interval: [0.4, 0.6],
            validation_accuracy: None,
            seconds: 1.0,
            gain,
            adjusted_p_value: None,
            checkpoint: String::new(),
        };
        let baseline = |&(gained, lost): &(usize, usize)| {
            let labels = vec![0; 1_000];
            let wrong = |from: usize, to: usize| -> Vec<u16> {
                (0..1_000).map(|index| u16::from((from..to).contains(&index))).collect()
            };
            arm("random", Some(Difference::new(&wrong(0, gained), &wrong(gained, gained + lost), &labels)))
        };
        let arms = std::iter::once(arm(PRETRAINED, None)).chain(gains.iter().map(baseline)).collect();
        LabelCount { labels_per_class, labels: 1_000, arms }
    }

    fn told(mut counts: Vec<LabelCount>) -> String {
        adjust(&mut counts);
        sentence(&counts)
    }

    #[test]
    fn the_sentence_says_whether_by_how_much_and_up_to_where() {
        let helped = told(vec![count(20, &[(120, 10)]), count(100, &[(60, 10)]), count(0, &[(20, 20)])]);
        assert!(helped.starts_with("Pretraining helped: with 20 labels a class"), "{helped}");
        assert!(helped.contains("(+11.0 points, 95 % interval +"), "{helped}");
        assert!(helped.ends_with("up to 100 labels a class."), "{helped}");
        let always = told(vec![count(20, &[(120, 10)]), count(0, &[(100, 10)])]);
        assert!(always.ends_with("up to all 1000 labels, the most compared."), "{always}");
    }

    #[test]
    fn a_range_is_claimed_only_where_it_is_ahead_at_each_of_its_numbers() {
        let gap = told(vec![count(20, &[(120, 10)]), count(100, &[(20, 20)]), count(400, &[(60, 10)])]);
        assert!(!gap.contains("up to"), "{gap}");
        let end = "with 20 labels a class, 400 labels a class, not with 100 labels a class.";
        assert!(gap.ends_with(end), "{gap}");
        let late = told(vec![count(20, &[(20, 20)]), count(100, &[(60, 10)])]);
        assert!(late.ends_with("with 100 labels a class, not with 20 labels a class."), "{late}");
    }

    #[test]
    fn every_baseline_counts() {
        let lost = told(vec![count(20, &[(120, 10), (10, 30)])]);
        assert!(lost.starts_with("Pretraining did not help here") && lost.contains("-2.0 points"), "{lost}");
        let unclear = told(vec![count(20, &[(120, 10), (30, 20)])]);
        assert!(unclear.starts_with("Pretraining did not help here"), "{unclear}");
    }

    #[test]
    fn what_is_more_than_chance_at_one_look_need_not_be_at_several() {
        // p = 0.014 alone, 0.07 of five.
        let (once, nothing) = ((30, 13), (20, 20));
        let first = count(20, &[once]);
        assert!(first.arms[1].gain.as_ref().unwrap().is_more_than_chance());
        assert!(told(vec![first.clone()]).starts_with("Pretraining helped"));
        let mut looks = vec![first];
        looks.extend([50, 100, 400, 0].map(|labels| count(labels, &[nothing])));
        assert!(told(looks).starts_with("Pretraining did not help here"));
    }
}
