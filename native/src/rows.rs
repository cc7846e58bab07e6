//! Texts of rows.

use std::ops::Range;

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Rows in a text.
#[pyclass(frozen)]
pub struct Rows {
    text: Text,
    places: Vec<Range<usize>>,
}

pub enum Text {
    Own(Vec<u8>),
    Record(Py<PyBytes>),
}

impl Rows {
    pub fn new(text: Text, places: Vec<Range<usize>>) -> Self {
        Rows { text, places }
    }
}

#[pymethods]
impl Rows {
    fn __len__(&self) -> usize {
        self.places.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyBytes>> {
        let text = match &self.text {
            Text::Own(text) => text,
            Text::Record(record) => record.as_bytes(py),
        };
        let row = self.places.get(index).and_then(|place| text.get(place.clone()));
        Ok(PyBytes::new(py, row.ok_or_else(|| PyIndexError::new_err("no such row"))?))
    }
}
