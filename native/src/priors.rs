//! The recent mean scores of ads.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::buffers::{read, written};

/// Adds the scores of n ads to a table, `Priors.learn` of `streamer/scoring/priors.py`.
///
/// `places`, `means`, `counts`: the table, uint64, float32 and float32 of one length, a power of two; `ads`: uint64 [n];
/// `ctr`: float32 [n].
#[pyfunction]
pub fn learn_priors(
    py: Python<'_>,
    places: PyBuffer<u64>,
    means: PyBuffer<f32>,
    counts: PyBuffer<f32>,
    ads: PyBuffer<u64>,
    ctr: PyBuffer<f32>,
    rate: f32,
) -> PyResult<()> {
    let (places, means, counts) = (written(&places, py)?, written(&means, py)?, written(&counts, py)?);
    let (ads, ctr) = (read(&ads, py)?, read(&ctr, py)?);
    let size = places.len();
    if !size.is_power_of_two() || means.len() != size || counts.len() != size || ads.len() != ctr.len() {
        return Err(PyValueError::new_err("the shapes of the table or of the scores do not fit"));
    }
    let max_count = 1.0 / rate;
    let learnt: Vec<(usize, u64, f32, f32)> = ads
        .iter()
        .zip(ctr)
        .map(|(ad, score)| {
            let ad = ad.get();
            let at = ad as usize & (size - 1);
            let (count, mean) = if places[at].get() == ad { (counts[at].get(), means[at].get()) } else { (0.0, 0.0) };
            let count = count + 1.0;
            (at, ad, mean + (score.get() - mean) * rate.max(1.0 / count), count.min(max_count))
        })
        .collect();
    // Of equal places the last one counts.
    for (at, ad, mean, count) in learnt {
        places[at].set(ad);
        means[at].set(mean);
        counts[at].set(count);
    }
    Ok(())
}
