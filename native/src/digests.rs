//! Digests of rows, the keys of memos.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The 128-bit XXH3 hashes of n rows.
#[pyclass(frozen)]
pub struct Digests {
    pub values: Vec<u128>,
}

#[pymethods]
impl Digests {
    /// `rows`: a list of objects with bytes.
    #[new]
    fn new(rows: &Bound<'_, PyList>, seed: u64) -> PyResult<Self> {
        let mut values = Vec::with_capacity(rows.len());
        let mut copy = Vec::new();
        for row in rows.iter() {
            values.push(if let Ok(bytes) = row.downcast::<PyBytes>() {
                xxh3_128_with_seed(bytes.as_bytes(), seed)
            } else {
                let buffer = PyBuffer::<u8>::get(&row)?;
                copy.resize(buffer.item_count(), 0);
                buffer.copy_to_slice(row.py(), &mut copy)?;
                xxh3_128_with_seed(&copy, seed)
            });
        }
        Ok(Digests { values })
    }

    fn __len__(&self) -> usize {
        self.values.len()
    }

    /// The digest of row `index`, as package `xxhash` writes it.
    fn __getitem__<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyBytes>> {
        let value = self.values.get(index).ok_or_else(|| pyo3::exceptions::PyIndexError::new_err("no such row"))?;
        Ok(PyBytes::new(py, &value.to_be_bytes()))
    }
}

/// The digests in a `Digests` or in a list of 16 bytes each.
pub fn with_digests<R>(digests: &Bound<'_, PyAny>, run: impl FnOnce(&[u128]) -> PyResult<R>) -> PyResult<R> {
    if let Ok(digests) = digests.downcast::<Digests>() {
        return run(&digests.get().values);
    }
    let mut values = Vec::with_capacity(digests.len()?);
    for digest in digests.try_iter()? {
        let digest = digest?;
        let bytes = digest.downcast::<PyBytes>()?.as_bytes();
        let bytes = bytes.try_into().map_err(|_| PyValueError::new_err("expected digests of 16 bytes"))?;
        values.push(u128::from_be_bytes(bytes));
    }
    run(&values)
}
