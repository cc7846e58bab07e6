//! Ads of a table: the digests of their ids, their slots, and whether rows are theirs.
//!
//! Another process writes into the pages of a table, which safe Rust cannot read soundly: the compiler may assume that
//! nobody does. So numpy copies entries and rows out of the pages, and these functions get the copies.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use xxhash_rust::xxh3::xxh3_128;

use crate::buffers::{read, written};

/// Entries of a bucket of the index.
const WAYS: usize = 8;
const DIGEST_WORDS: usize = 2;
/// The lower half of an entry is a slot, the upper one is that of a digest's first word.
const LOW: u64 = u32::MAX as u64;

/// Whether all items are strings, and none is empty.
#[pyfunction]
pub fn are_ad_ids(values: &Bound<'_, PyList>) -> bool {
    values.iter().all(|value| value.downcast::<PyString>().is_ok_and(|text| text.len().is_ok_and(|size| size > 0)))
}

/// Writes the digests of n ad ids: uint64 [2, n].
#[pyfunction]
pub fn ad_digests(py: Python<'_>, ad_ids: &Bound<'_, PyList>, digests: PyBuffer<u64>) -> PyResult<()> {
    let words = written(&digests, py)?;
    let n = words.len() / 2;
    if words.len() % 2 != 0 || ad_ids.len() != n {
        return Err(PyValueError::new_err("expected two words for each ad id"));
    }
    let (first, second) = words.split_at(n);
    for ((ad_id, first), second) in ad_ids.iter().zip(first).zip(second) {
        let text = ad_id.downcast::<PyString>()?;
        let digest = match text.to_str() {
            Ok(text) => xxh3_128(text.as_bytes()),
            // A lone surrogate.
            Err(_) => {
                let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
                xxh3_128(bytes.downcast::<PyBytes>()?.as_bytes())
            }
        };
        // The words of the digest's bytes, whose order is that of package `xxhash`.
        first.set(u64::from_ne_bytes(((digest >> 64) as u64).to_be_bytes()));
        second.set(u64::from_ne_bytes((digest as u64).to_be_bytes()));
    }
    Ok(())
}

/// Writes the slots in which n ads are if their own buckets contain them: int64 [n]; 0 if no entry fits.
///
/// `digests`: uint64 [2, n]; `entries`: those of the buckets, uint64 [n, 8].
#[pyfunction]
pub fn ad_slots(py: Python<'_>, digests: PyBuffer<u64>, entries: PyBuffer<u64>, slots: PyBuffer<i64>) -> PyResult<()> {
    let (digests, entries, slots) = (read(&digests, py)?, read(&entries, py)?, written(&slots, py)?);
    let n = slots.len();
    if digests.len() != 2 * n || entries.len() != WAYS * n {
        return Err(PyValueError::new_err("the shapes of the matrices do not fit"));
    }
    for ((slot, digest), entries) in slots.iter().zip(digests).zip(entries.chunks_exact(WAYS)) {
        let half = digest.get() & !LOW;
        // Equal upper halves leave the slot alone, which is then the smallest.
        let smallest = entries.iter().map(|entry| entry.get() ^ half).min().unwrap_or(u64::MAX);
        slot.set(if smallest <= LOW { smallest as i64 } else { 0 });
    }
    Ok(())
}

/// Writes which of n rows begin with the digest of their ad: bool [n]. Returns whether all do.
///
/// `rows`: uint64 [n, words]; `digests`: uint64 [2, n].
#[pyfunction]
pub fn ads_known(py: Python<'_>, rows: PyBuffer<u64>, digests: PyBuffer<u64>, known: PyBuffer<u8>) -> PyResult<bool> {
    let (rows, digests, known) = (read(&rows, py)?, read(&digests, py)?, written(&known, py)?);
    let n = known.len();
    let size = rows.len().checked_div(n).unwrap_or(DIGEST_WORDS);
    if digests.len() != 2 * n || rows.len() != n * size || size < DIGEST_WORDS {
        return Err(PyValueError::new_err("the shapes of the matrices do not fit"));
    }
    let (first, second) = digests.split_at(n);
    let mut are_all = true;
    for (((known, row), first), second) in known.iter().zip(rows.chunks_exact(size)).zip(first).zip(second) {
        let is_known = row[0].get() == first.get() && row[1].get() == second.get();
        known.set(u8::from(is_known));
        are_all &= is_known;
    }
    Ok(are_all)
}
