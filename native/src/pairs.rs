//! Crosses of the request with each candidate, and the keys of the score cache.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::buffers::{read, written};
use crate::mix::{mix64, prepare, Modulus, PADDING};

/// The pair columns of one spec.
#[pyclass(frozen)]
pub struct Pairs {
    columns: Vec<(Modulus, i32)>,
}

#[pymethods]
impl Pairs {
    /// The buckets and the first row of each pair column.
    #[new]
    fn new(buckets: Vec<u64>, bases: Vec<i32>) -> PyResult<Self> {
        if buckets.len() != bases.len() || buckets.contains(&0) {
            return Err(PyValueError::new_err("expected buckets above 0, and as many bases"));
        }
        let moduli = buckets.into_iter().map(Modulus::new);
        Ok(Pairs { columns: moduli.zip(bases).collect() })
    }

    /// Writes what n candidates have with one request; W is the number of pair columns and 2.
    ///
    /// `request`: uint64 [W]; `candidates`: uint64 [n, W]; `ids`: int32 [n, W - 2]; `keys`: uint64 [n, 2].
    fn join(
        &self,
        py: Python<'_>,
        request: PyBuffer<u64>,
        candidates: PyBuffer<u64>,
        ids: PyBuffer<i32>,
        keys: PyBuffer<u64>,
    ) -> PyResult<()> {
        let (request, candidates) = (read(&request, py)?, read(&candidates, py)?);
        let (ids, keys) = (written(&ids, py)?, written(&keys, py)?);
        let pairs = self.columns.len();
        let width = pairs + 2;
        let n = keys.len() / 2;
        if request.len() != width || candidates.len() != n * width || ids.len() != n * pairs || keys.len() != 2 * n {
            return Err(PyValueError::new_err("the shapes of the matrices do not fit"));
        }
        let left: Vec<(u64, u64)> = request.iter().map(|word| (word.get(), prepare(word.get()))).collect();
        let rows = candidates.chunks_exact(width).zip(keys.chunks_exact(2)).enumerate();
        for (row, (words, key)) in rows {
            let ids = &ids[row * pairs..(row + 1) * pairs];
            for (((id, word), (hash, prepared)), (modulus, base)) in ids.iter().zip(words).zip(&left).zip(&self.columns)
            {
                let word = word.get();
                let is_padding = word == PADDING || *hash == PADDING;
                id.set(if is_padding { 0 } else { base + modulus.of(mix64(prepared ^ word)) as i32 });
            }
            for i in 0..2 {
                key[i].set(mix64(left[pairs + i].1 ^ words[pairs + i].get()));
            }
        }
        Ok(())
    }
}
