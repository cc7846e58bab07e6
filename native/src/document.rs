//! One document, the user and context of a request, as a row.

use std::cell::Cell;

use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::document_columns::Columns;
use crate::document_numbers::Numbers;
use crate::document_plan::{Bucketised, MultiValued, Plan};
use crate::document_values::Values;
use crate::mix::{mix64, PADDING};

/// An object of the document: `of` returns it, or else it lies at `keys`.
#[derive(FromPyObject)]
struct Container {
    is_user: bool,
    keys: Vec<Py<PyString>>,
    of: Option<PyObject>,
}

/// A container, and the key of a value in it.
type Place = (usize, Py<PyString>);

/// Encodes documents by one plan.
#[pyclass(frozen)]
pub struct Document {
    containers: Vec<Container>,
    texts: Vec<(Place, u64)>,
    lists: Vec<(Place, MultiValued)>,
    buckets: Vec<(Place, Bucketised)>,
    numbers: Vec<Place>,
    standard: Numbers,
    columns: Columns,
    values: Values,
    out_of_range: PyObject,
}

#[pymethods]
impl Document {
    /// `places`: of each feature, in the order of the plan; `numeric`: a float64 buffer with a place for each number with
    /// a logarithm, and a function that replaces each x in it by log(1 + x).
    #[new]
    fn new(
        py: Python<'_>,
        plan: Plan,
        containers: Vec<Container>,
        places: Vec<Place>,
        values: Values,
        logarithms: (PyBuffer<f64>, PyObject),
        out_of_range: PyObject,
    ) -> PyResult<Self> {
        plan.check()?;
        if places.len() != plan.features() || places.iter().any(|(container, _)| *container >= containers.len()) {
            return Err(PyValueError::new_err("expected a place in a container for each feature"));
        }
        let columns = Columns::new(py, &plan)?;
        let mut places = places.into_iter();
        Ok(Document {
            containers,
            texts: places.by_ref().zip(plan.defaults).collect(),
            lists: places.by_ref().zip(plan.multi).collect(),
            buckets: places.by_ref().zip(plan.bucketised).collect(),
            numbers: places.collect(),
            standard: Numbers::new(plan.numeric, plan.indicators, logarithms)?,
            columns,
            values,
            out_of_range,
        })
    }

    /// Encodes one document as one row; with `denied`, user features count as missing.
    ///
    /// `ids`: int32 [1, ids]; `floats`: float32 [1, floats]; `words`: uint64 [1, pair columns + 2].
    fn encode(
        &self,
        document: &Bound<'_, PyAny>,
        denied: bool,
        ids: PyBuffer<i32>,
        floats: PyBuffer<f32>,
        words: PyBuffer<u64>,
    ) -> PyResult<()> {
        let py = document.py();
        let objects = self.containers.iter().map(|container| container.find(document, denied));
        let objects = objects.collect::<PyResult<Vec<_>>>()?;
        let hashes = self.hashes(py, &objects)?;
        let mut numbers = Vec::with_capacity(self.numbers.len());
        for (place, feature) in self.numbers.iter().zip(&self.standard.features) {
            numbers.push(self.number(&value_at(py, &objects, place)?, &feature.name)?);
        }
        let scaled = self.standard.floats(py, &numbers)?;
        let (ids, floats, words) = (row(&ids, py)?, row(&floats, py)?, row(&words, py)?);
        if floats.len() != scaled.len() {
            return Err(PyValueError::new_err("the row of floats has another length"));
        }
        for (written, x) in floats.iter().zip(&scaled) {
            written.set(*x);
        }
        self.columns.write(&hashes, &scaled, ids, words)
    }
}

impl Document {
    /// The hash of each column, and the row of each bucketised feature.
    fn hashes(&self, py: Python<'_>, objects: &[Option<Bound<'_, PyDict>>]) -> PyResult<Hashes> {
        let mut hashes = Vec::with_capacity(self.columns.width());
        for (place, default) in &self.texts {
            let value = value_at(py, objects, place)?;
            hashes.push(self.values.hash_of(&value)?.unwrap_or(*default));
        }
        for (place, feature) in &self.lists {
            let start = hashes.len();
            let value = value_at(py, objects, place)?;
            if let Ok(list) = value.downcast::<PyList>() {
                for item in list.iter() {
                    if hashes.len() - start == feature.max_values {
                        break;
                    }
                    hashes.extend(self.values.hash_of(&item)?);
                }
            } else {
                hashes.extend(self.values.hash_of(&value)?);
            }
            if hashes.len() == start {
                hashes.extend(feature.default_hash());
            }
            hashes.resize(start + feature.max_values, PADDING);
        }
        let mut rows = Vec::with_capacity(self.buckets.len());
        for (place, feature) in &self.buckets {
            let row = feature.row(self.number(&value_at(py, objects, place)?, &feature.name)?);
            hashes.push(mix64(row as u64 + 1));
            rows.push(row);
        }
        Ok(Hashes { hashes, rows })
    }

    /// The number of a value; NaN if it is missing or infinite. Counts infinite ones.
    fn number(&self, value: &Bound<'_, PyAny>, name: &Py<PyString>) -> PyResult<f64> {
        let number = self.values.number_of(value)?;
        if !number.is_infinite() {
            return Ok(number);
        }
        let (counts, name) = (self.out_of_range.bind(value.py()), name.bind(value.py()));
        counts.set_item(name, counts.get_item(name)?.add(1)?)?;
        Ok(f64::NAN)
    }
}

/// The hash columns of a document.
pub struct Hashes {
    pub hashes: Vec<u64>,
    pub rows: Vec<i32>,
}

impl Container {
    fn find<'py>(&self, document: &Bound<'py, PyAny>, denied: bool) -> PyResult<Option<Bound<'py, PyDict>>> {
        if denied && self.is_user {
            return Ok(None);
        }
        let py = document.py();
        let mut found = match &self.of {
            Some(of) => of.bind(py).call1((document,))?,
            None => document.clone(),
        };
        for key in &self.keys {
            let value = match found.downcast::<PyDict>() {
                Ok(object) => object.get_item(key)?,
                Err(_) => None,
            };
            match value {
                Some(value) => found = value,
                None => return Ok(None),
            }
        }
        Ok(found.downcast_into::<PyDict>().ok())
    }
}

fn value_at<'py>(
    py: Python<'py>,
    objects: &[Option<Bound<'py, PyDict>>],
    (container, key): &Place,
) -> PyResult<Bound<'py, PyAny>> {
    let value = match &objects[*container] {
        Some(object) => object.get_item(key)?,
        None => None,
    };
    Ok(value.unwrap_or_else(|| py.None().into_bound(py)))
}

fn row<'a, T: Element>(buffer: &'a PyBuffer<T>, py: Python<'a>) -> PyResult<&'a [Cell<T>]> {
    buffer.as_mut_slice(py).ok_or_else(|| PyValueError::new_err("expected a contiguous row that can be written"))
}
