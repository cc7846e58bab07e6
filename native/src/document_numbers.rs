//! The numbers of a document as floats.

use std::cell::Cell;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::document_plan::Numeric;

/// Numeric features, and numpy's log(1 + x), whose last bit differs from that of other libraries.
pub struct Numbers {
    pub features: Vec<Numeric>,
    indicators: Vec<usize>,
    logs: PyBuffer<f64>,
    take_logs: PyObject,
}

impl Numbers {
    pub fn new(
        features: Vec<Numeric>,
        indicators: Vec<usize>,
        (logs, take_logs): (PyBuffer<f64>, PyObject),
    ) -> PyResult<Self> {
        if logs.item_count() != features.iter().filter(|feature| feature.log).count() {
            return Err(PyValueError::new_err("expected a place for each logarithm"));
        }
        Ok(Numbers { features, indicators, logs, take_logs })
    }

    /// The standardised numbers, then the indicators of missing ones; a missing number is NaN.
    pub fn floats(&self, py: Python<'_>, numbers: &[f64]) -> PyResult<Vec<f32>> {
        let logs = self.logs(py, numbers)?;
        let mut logs = logs.iter();
        let mut floats = Vec::with_capacity(numbers.len() + self.indicators.len());
        for (feature, number) in self.features.iter().zip(numbers) {
            let log = if feature.log { logs.next() } else { None };
            let number = log.map_or_else(|| feature.known(*number), Cell::get);
            let scaled = (number - feature.mean) / feature.std;
            floats.push(if scaled.is_nan() {
                0.0
            } else if scaled > feature.clip {
                feature.clip as f32
            } else if scaled < -feature.clip {
                -feature.clip as f32
            } else {
                scaled as f32
            });
        }
        floats.extend(self.indicators.iter().map(|i| f32::from(u8::from(numbers[*i].is_nan()))));
        Ok(floats)
    }

    /// log(1 + x) of the numbers whose feature has a logarithm.
    fn logs<'a>(&'a self, py: Python<'a>, numbers: &[f64]) -> PyResult<&'a [Cell<f64>]> {
        let logs = self.logs.as_mut_slice(py).ok_or_else(|| PyValueError::new_err("expected a row for logarithms"))?;
        let some = self.features.iter().zip(numbers).filter(|(feature, _)| feature.log);
        for (written, (feature, number)) in logs.iter().zip(some) {
            let number = feature.known(*number);
            written.set(if number <= 0.0 { 0.0 } else { number });
        }
        if !logs.is_empty() {
            self.take_logs.call0(py)?;
        }
        Ok(logs)
    }
}

impl Numeric {
    fn known(&self, number: f64) -> f64 {
        match self.default {
            Some(default) if number.is_nan() => default,
            _ => number,
        }
    }
}

/// A float in steps of a key: 1/32 standard deviation. Halves go to the even step, and -0 becomes 0.
pub fn step(x: f32) -> f64 {
    const WHOLE: f64 = 4_503_599_627_370_496.0; // 2^52: every float from here on is an integer
    let x = f64::from(x) * 32.0;
    if x.abs() >= WHOLE {
        return x;
    }
    ((x.abs() + WHOLE) - WHOLE).copysign(x) + 0.0
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn halves_go_to_the_even_step() {
        let cases = [
            (0.5, 0.0),
            (1.5, 2.0),
            (2.5, 2.0),
            (-0.5, 0.0),
            (-1.5, -2.0),
            (2.6, 3.0),
            (-0.0, 0.0),
            (9e30, 9e30f32 as f64),
        ];
        for (x, expected) in cases {
            assert_eq!(step(x / 32.0).to_bits(), f64::to_bits(expected), "{}", x);
        }
    }
}
