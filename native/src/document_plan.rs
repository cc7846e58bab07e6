//! What `Document` reads of a `SidePlan` of `streamer/features/side_plan.py`, and of the features in it.

use std::collections::HashMap;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use xxhash_rust::xxh3::xxh3_64;

#[derive(FromPyObject)]
pub struct Plan {
    pub defaults: Vec<u64>,
    pub multi: Vec<MultiValued>,
    pub bucketised: Vec<Bucketised>,
    pub numeric: Vec<Numeric>,
    pub indicators: Vec<usize>,
    pub hash_width: usize,
    pub id_width: usize,
    pub hashed: Vec<(usize, usize, i32, u64)>,
    pub vocabularies: Vec<(usize, usize, i32, HashMap<u64, i32>)>,
    pub buckets: Vec<(usize, usize, i32)>,
    pub crosses: Vec<(usize, i32, u64)>,
    pub folds: Vec<Vec<usize>>,
    pub salts: PyBuffer<u64>,
}

#[derive(FromPyObject)]
pub struct MultiValued {
    pub max_values: usize,
    default: Option<String>,
}

#[derive(FromPyObject)]
pub struct Bucketised {
    pub name: Py<PyString>,
    boundaries: Vec<f64>,
    default: Option<f64>,
}

#[derive(FromPyObject)]
pub struct Numeric {
    pub name: Py<PyString>,
    pub mean: f64,
    pub std: f64,
    pub log: bool,
    pub clip: f64,
    pub default: Option<f64>,
}

impl Plan {
    pub fn features(&self) -> usize {
        self.defaults.len() + self.multi.len() + self.bucketised.len() + self.numeric.len()
    }

    /// Checks every index, so that no document can lead to one outside.
    pub fn check(&self) -> PyResult<()> {
        let widths = self.multi.iter().try_fold(0usize, |sum, feature| sum.checked_add(feature.max_values));
        let width = widths.and_then(|sum| sum.checked_add(self.defaults.len() + self.bucketised.len()));
        let (hashes, ids) = (self.hash_width, self.id_width);
        let fits = width == Some(hashes)
            && self.indicators.iter().all(|i| *i < self.numeric.len())
            && self.hashed.iter().all(|(target, source, _, n)| *target < ids && *source < hashes && *n > 0)
            && self.vocabularies.iter().all(|(target, source, ..)| *target < ids && *source < hashes)
            && self.buckets.iter().all(|(target, feature, _)| *target < ids && *feature < self.bucketised.len())
            && self.crosses.iter().all(|(target, _, n)| *target < ids && *n > 0)
            && self.crosses.len() <= self.folds.len()
            && self.folds.iter().all(|parents| !parents.is_empty() && parents.iter().all(|column| *column < hashes));
        if fits {
            return Ok(());
        }
        Err(PyValueError::new_err("a column of the plan is outside its matrix, or has no rows"))
    }
}

impl MultiValued {
    pub fn default_hash(&self) -> Option<u64> {
        self.default.as_ref().map(|text| xxh3_64(text.as_bytes()))
    }
}

impl Bucketised {
    /// The row of a number; without one (NaN), that of the default.
    pub fn row(&self, number: f64) -> i32 {
        let known = if number.is_nan() { self.default } else { Some(number) };
        known.map_or(0, |x| self.boundaries.partition_point(|boundary| *boundary <= x) as i32 + 1)
    }
}
