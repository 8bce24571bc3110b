//! What several machines like this one would make of a training step, as far as steps measured here and the bytes that
//! ranks exchange tell: the numbers behind `rotnet bench --ranks-model`.

use serde::Serialize;

use crate::math::units::units;
use crate::model::{Network, collect, is_running};

/// Machines of the model.
const MACHINES: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Links of the model, in gigabits a second.
const LINKS: [f64; 2] = [1.0, 10.0];
/// Seconds that a message takes however small it is: about that of TCP between two machines of one switch.
const LATENCY: f64 = 50e-6;
/// Bytes a parameter takes on its way.
const BYTES: f64 = 4.0;

/// Images a second by number of machines.
#[derive(Clone, Debug, Serialize)]
pub struct RanksModel {
    /// Parameters of the network.
    pub parameters: usize,
    /// Messages that every rank sends each other rank in a step.
    pub messages: usize,
    /// Seconds that a message is taken to need whatever its size.
    pub latency_seconds: f64,
    /// One row a number of machines.
    pub rows: Vec<Row>,
}

/// What so many machines would do.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Machines, each a rank with this machine's threads.
    pub machines: usize,
    /// Samples of a step that each has.
    pub samples: usize,
    /// Seconds that this machine needs for a step of so many, update included, as measured.
    pub step_seconds: f64,
    /// By link.
    pub links: Vec<Link>,
}

/// What a link makes of it.
#[derive(Clone, Debug, Serialize)]
pub struct Link {
    /// Gigabits a second.
    pub gigabits: f64,
    /// Rotated images a second of all machines together.
    pub images_per_second: f64,
    /// Share of the step in which ranks wait for what they exchange.
    pub exchange: f64,
}

impl RanksModel {
    /// Of steps of `batch_size` samples; `seconds` measures a step of so many.
    pub fn new(network: &impl Network, batch_size: usize, mut seconds: impl FnMut(usize) -> f64) -> Self {
        let parameters = collect(network);
        let (running, trained): (Vec<_>, Vec<_>) = parameters.iter().partition(|(name, _)| is_running(name));
        // A mean and a variance each.
        let norms = running.len() / 2;
        let trained: usize = trained.iter().map(|(_, data)| data.num_elements()).sum();
        // The gradient twice, sums of each norm forward and backward, and whether to stop.
        let messages = 2 + 2 * norms + 1;
        let most = units(batch_size).len();
        let rows = MACHINES.into_iter().filter(|&machines| machines <= most).map(|machines| {
            let samples = batch_size.div_ceil(machines);
            let step_seconds = seconds(samples);
            let link = |gigabits: f64| {
                let bytes = 2.0 * BYTES * trained as f64 * (machines - 1) as f64 / machines as f64;
                let exchange = bytes * 8.0 / (gigabits * 1e9) + messages as f64 * LATENCY;
                Link {
                    gigabits,
                    images_per_second: batch_size as f64 / (step_seconds + exchange),
                    exchange: exchange / (step_seconds + exchange),
                }
            };
            Row { machines, samples, step_seconds, links: LINKS.map(link).into() }
        });
        Self { parameters: trained, messages, latency_seconds: LATENCY, rows: rows.collect() }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::RotationNetwork;

    #[test]
    fn machines_share_the_samples_until_units_run_out_and_pay_for_what_they_exchange() {
        let network = RotationNetwork::new(&Default::default(), [32, 32, 3], 1, &Device::flex());
        let model = RanksModel::new(&network, 128, |samples| samples as f64 * 1e-3);
        let machines: Vec<usize> = model.rows.iter().map(|row| row.machines).collect();
        assert_eq!((machines, model.messages), (vec![2, 4, 8, 16], 3));
        let Row { samples, links, .. } = &model.rows[1];
        assert_eq!(*samples, 32);
        // 32 ms of work; 1.5 times the parameters' bits over the link, and three messages.
        let exchange = 1.5 * model.parameters as f64 * 32.0 / 1e9 + 3.0 * LATENCY;
        assert!((links[0].images_per_second - 128.0 / (0.032 + exchange)).abs() < 1e-6);
        assert!(
            links[1].images_per_second > links[0].images_per_second && links[1].exchange < links[0].exchange
        );
    }
}
