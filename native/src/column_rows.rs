//! Rows made of columns of JSON.

use std::ops::Range;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use xxhash_rust::xxh3::{xxh3_128_with_seed, xxh3_64_with_seed};

use crate::digests::Digests;
use crate::json_values::before;
use crate::rows::{Rows, Text};

const REMEMBERED: usize = 1 << 17;

/// Cuts columns into rows, and remembers the digest of each ad's row.
#[pyclass]
pub struct ColumnCutter {
    seed: u64,
    known: Vec<Known>,
}

/// Parts of two hashes: of an ad's id and prefix, and of its row. A collision costs time only.
#[derive(Clone, Copy, Default)]
struct Known {
    ad: u32,
    row: u32,
}

#[pymethods]
impl ColumnCutter {
    #[new]
    fn new(seed: u64) -> Self {
        ColumnCutter { seed, known: Vec::new() }
    }

    /// The rows of columns with their digests; `ad_id`: which of them has the ad ids.
    ///
    /// Row i is the prefix, then value i of each column, joined by commas. None: a column is not a list, has another
    /// length than others or a comma in a value, or most rows have changed.
    fn rows(
        &mut self,
        prefix: &[u8],
        columns: Vec<Bound<'_, PyBytes>>,
        ad_id: usize,
    ) -> PyResult<Option<(Digests, Rows)>> {
        if ad_id >= columns.len() {
            return Err(PyValueError::new_err("no such column"));
        }
        let lists: Option<Vec<&[u8]>> = columns.iter().map(|column| list(column.as_bytes())).collect();
        let shape = xxh3_64_with_seed(prefix, self.seed);
        Ok(lists.and_then(|lists| cut(prefix, &lists, ad_id, shape)).and_then(|(text, places, ads)| {
            let rows = places.iter().map(|place| &text[place.clone()]);
            let values: Vec<u128> = rows.map(|row| xxh3_128_with_seed(row, self.seed)).collect();
            if self.update(&ads, &values) {
                Some((Digests { values }, Rows::new(Text::Own(text), places)))
            } else {
                None
            }
        }))
    }
}

impl ColumnCutter {
    /// Remembers the digests of rows; whether most of them are those that it had remembered, or new.
    fn update(&mut self, ads: &[u64], digests: &[u128]) -> bool {
        if self.known.is_empty() {
            self.known = vec![Known::default(); REMEMBERED];
        }
        let rows = ads.iter().zip(digests);
        let rows: Vec<(usize, Known)> = rows
            .map(|(ad, digest)| (*ad as usize % REMEMBERED, Known { ad: (ad >> 32) as u32, row: *digest as u32 }))
            .collect();
        let is_changed = |(place, row): &&(usize, Known)| {
            let known = self.known[*place];
            known.ad == row.ad && known.row != row.row
        };
        let are_stable = rows.iter().filter(is_changed).count() <= rows.len() / 2;
        for (place, row) in rows {
            self.known[place] = row;
        }
        are_stable
    }
}

/// The values of a list with their commas; None if it is none, or empty.
fn list(column: &[u8]) -> Option<&[u8]> {
    let values = column.strip_prefix(b"[")?.strip_suffix(b"]")?;
    if values.iter().all(u8::is_ascii_whitespace) {
        None
    } else {
        Some(values)
    }
}

type Cut = (Vec<u8>, Vec<Range<usize>>, Vec<u64>);

/// The text and the places of the rows, and the hash of each ad id.
///
/// None: a column has another number of commas than the ad ids, so another length or a comma in a value; or an ad id
/// is no text. With a comma in a value and yet as many, its rows are no JSON.
fn cut(prefix: &[u8], columns: &[&[u8]], ad_id: usize, shape: u64) -> Option<Cut> {
    let commas = |column: &&[u8]| column.iter().filter(|byte| **byte == b',').count();
    let n = 1 + commas(&columns[ad_id]);
    if columns.iter().any(|column| 1 + commas(column) != n) {
        return None;
    }
    let size = columns.iter().map(|column| column.len() + 1).sum::<usize>() + n * prefix.len();
    let mut text = Vec::with_capacity(size);
    let mut rests = columns.to_vec();
    let (mut places, mut ads) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for _ in 0..n {
        let start = text.len();
        text.extend_from_slice(prefix);
        for (i, rest) in rests.iter_mut().enumerate() {
            if i > 0 {
                text.push(b',');
            }
            let value = before(rest, b',');
            *rest = rest.get(value.len() + 1..).unwrap_or_default();
            if i == ad_id {
                if !is_text(value) {
                    return None;
                }
                ads.push(xxh3_64_with_seed(value, shape));
            }
            text.extend_from_slice(value);
        }
        places.push(start..text.len());
    }
    Some((text, places, ads))
}

fn is_text(value: &[u8]) -> bool {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    matches!(&value[start..end], [b'"', .., b'"'])
}
