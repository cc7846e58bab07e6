//! Encoded rows in memory, within bounds.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList};

use crate::digests::with_digests;

/// Encoded rows by the digest of what they encode. It evicts the oldest ones first.
///
/// Invariants: (1) it holds at most `capacity` rows; (2) `used_bytes` is at most `max_bytes`.
#[pyclass]
pub struct RowMemo {
    rows: HashMap<u128, Entry, BuildHasherDefault<Low>>,
    order: VecDeque<u128>,
    capacity: usize,
    max_bytes: usize,
    used_bytes: usize,
}

struct Entry {
    row: Box<[u8]>,
    extra: PyObject,
    bytes: usize,
}

/// The hash of what is a hash already.
#[derive(Default)]
pub struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are hashed")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64;
    }
}

#[pymethods]
impl RowMemo {
    #[new]
    fn new(capacity: usize, max_bytes: usize) -> Self {
        RowMemo { rows: HashMap::default(), order: VecDeque::new(), capacity, max_bytes, used_bytes: 0 }
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }

    #[getter]
    fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// The first place of each digest without a row.
    fn unknown(&self, digests: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
        with_digests(digests, |digests| {
            let mut places = Vec::new();
            let mut seen: HashMap<u128, (), BuildHasherDefault<Low>> = HashMap::default();
            for (place, digest) in digests.iter().enumerate() {
                if !self.rows.contains_key(digest) && seen.insert(*digest, ()).is_none() {
                    places.push(place);
                }
            }
            Ok(places)
        })
    }

    /// The rows with these digests, of `size` bytes each, and their extras.
    ///
    /// A matrix for each of `parts`: where it starts in a row, and its bytes. `places`: those that `unknown` has found; `new`: for each of them its row, its extra and the bytes that both
    /// take in memory. They are added, unless all of them together do not fit.
    fn gather(
        &mut self,
        py: Python<'_>,
        digests: &Bound<'_, PyAny>,
        size: usize,
        parts: Vec<(usize, usize)>,
        places: Vec<usize>,
        new: Vec<(Bound<'_, PyBytes>, PyObject, usize)>,
    ) -> PyResult<(Vec<Py<PyByteArray>>, Py<PyList>)> {
        with_digests(digests, |digests| {
            let added = places.iter().zip(new).map(|(place, new)| Some((*digests.get(*place)?, new)));
            let added: HashMap<_, _, BuildHasherDefault<Low>> =
                added.collect::<Option<_>>().ok_or_else(|| PyValueError::new_err("no such place"))?;
            let mut rows: Vec<&[u8]> = Vec::with_capacity(digests.len());
            let mut extras = Vec::with_capacity(digests.len());
            for digest in digests {
                let (row, extra) = match (self.rows.get(digest), added.get(digest)) {
                    (Some(entry), _) => (&*entry.row, &entry.extra),
                    (None, Some((row, extra, _))) => (row.as_bytes(), extra),
                    (None, None) => return Err(PyValueError::new_err("a digest without a row")),
                };
                if row.len() != size {
                    return Err(PyValueError::new_err(format!("a row of {} bytes, expected {}", row.len(), size)));
                }
                rows.push(row);
                extras.push(extra);
            }
            let extras = PyList::new(py, extras)?.unbind();
            let mut matrices = Vec::with_capacity(parts.len());
            for (start, width) in parts {
                if start.checked_add(width).map_or(true, |end| end > size) {
                    return Err(PyValueError::new_err("a part outside the row"));
                }
                let matrix = PyByteArray::new_with(py, rows.len() * width, |matrix| {
                    if width > 0 {
                        for (written, row) in matrix.chunks_exact_mut(width).zip(&rows) {
                            written.copy_from_slice(&row[start..start + width]);
                        }
                    }
                    Ok(())
                })?;
                matrices.push(matrix.unbind());
            }
            let new = places.iter().filter_map(|place| added.get_key_value(&digests[*place])).collect::<Vec<_>>();
            self.add(py, &new);
            Ok((matrices, extras))
        })
    }
}

type New<'py> = (Bound<'py, PyBytes>, PyObject, usize);

impl RowMemo {
    fn add(&mut self, py: Python<'_>, new: &[(&u128, &New<'_>)]) {
        let bytes: usize = new.iter().map(|(_, (_, _, bytes))| bytes).sum();
        if new.len() > self.capacity || bytes > self.max_bytes {
            return;
        }
        while self.rows.len() + new.len() > self.capacity || self.used_bytes + bytes > self.max_bytes {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(entry) = self.rows.remove(&oldest) {
                self.used_bytes -= entry.bytes;
            }
        }
        for (digest, (row, extra, bytes)) in new {
            let entry = Entry { row: row.as_bytes().into(), extra: extra.clone_ref(py), bytes: *bytes };
            if self.rows.insert(**digest, entry).is_none() {
                self.order.push_back(**digest);
                self.used_bytes += bytes;
            }
        }
    }
}
