//! `canonical` with `hash64`, and `to_float`, of `streamer/features/hashing.py`.

use std::io::Write;

use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyString};
use xxhash_rust::xxh3::xxh3_64;

/// The functions in Python; they take the values that are rare or whose text only Python knows.
#[derive(FromPyObject)]
pub struct Values(PyObject, PyObject);

const TWO_63: f64 = 9_223_372_036_854_775_808.0;

impl Values {
    /// The hash of a scalar's text; None if it counts as missing.
    pub fn hash_of(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        if let Ok(text) = value.downcast_exact::<PyString>() {
            // A text with a lone surrogate has no UTF-8.
            if let Ok(text) = text.to_str() {
                return Ok(if text.is_empty() { None } else { Some(xxh3_64(text.as_bytes())) });
            }
        } else if value.is_none() {
            return Ok(None);
        } else if let Ok(integer) = value.downcast_exact::<PyInt>() {
            if let Ok(integer) = integer.extract::<i64>() {
                return Ok(Some(hash_of_integer(integer)));
            }
        } else if let Ok(number) = value.downcast_exact::<PyFloat>() {
            let number = number.value();
            if number.trunc() == number && number.abs() < TWO_63 {
                return Ok(Some(hash_of_integer(number as i64)));
            }
        }
        self.0.bind(value.py()).call1((value,))?.extract()
    }

    /// The number of a value; NaN if it has none, infinite if it is beyond a float.
    pub fn number_of(&self, value: &Bound<'_, PyAny>) -> PyResult<f64> {
        if let Ok(number) = value.downcast_exact::<PyFloat>() {
            return Ok(number.value());
        }
        if value.is_none() {
            return Ok(f64::NAN);
        }
        if let Ok(integer) = value.downcast_exact::<PyInt>() {
            if let Ok(integer) = integer.extract::<i64>() {
                return Ok(integer as f64);
            }
        }
        self.1.bind(value.py()).call1((value,))?.extract()
    }
}

fn hash_of_integer(integer: i64) -> u64 {
    let mut text = [0; 20]; // as long as that of i64::MIN
    let mut rest = &mut text[..];
    let is_written = write!(rest, "{}", integer).is_ok();
    debug_assert!(is_written);
    let free = rest.len();
    xxh3_64(&text[..20 - free])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_has_the_hash_of_its_text() {
        for integer in [0, 1, -1, 42, i64::MAX, i64::MIN] {
            assert_eq!(hash_of_integer(integer), xxh3_64(integer.to_string().as_bytes()));
        }
    }
}
