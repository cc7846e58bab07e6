//! Rows made of columns of JSON.

use std::ops::Range;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use xxhash_rust::xxh3::{xxh3_128_with_seed, xxh3_64_with_seed};

use crate::digests::Digests;
use crate::json_values::{copy_value, Output, WORD};
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
    /// Row i is the prefix, then value i of each column, joined by commas. None: a column is not a list or has another
    /// length than others, or most rows have changed.
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
    /// Remembers the digests of rows, unless most of them have changed.
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
        if rows.iter().filter(is_changed).count() > rows.len() / 2 {
            return false;
        }
        for (place, row) in rows {
            self.known[place] = row;
        }
        true
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

/// The text and the places of the rows, and the hash of each ad id; None: the columns have different lengths.
fn cut(prefix: &[u8], columns: &[&[u8]], ad_id: usize, shape: u64) -> Option<Cut> {
    let most = 1 + columns[ad_id].iter().filter(|byte| **byte == b',').count();
    let size = columns.iter().map(|column| column.len()).sum::<usize>() + most * (prefix.len() + 1) + WORD;
    let mut output = Output::new(size);
    let mut starts = vec![0; columns.len()];
    let (mut places, mut ads) = (Vec::with_capacity(most), Vec::with_capacity(most));
    loop {
        let row = output.end;
        output.push(prefix)?;
        let mut ended = 0;
        for (i, (column, start)) in columns.iter().zip(&mut starts).enumerate() {
            if i > 0 {
                output.push(b",")?;
            }
            let end = copy_value(column, *start, &mut output)?;
            if i == ad_id {
                ads.push(xxh3_64_with_seed(&column[*start..end], shape));
            }
            if end == column.len() {
                ended += 1;
            }
            *start = end + 1;
        }
        places.push(row..output.end);
        if ended == columns.len() {
            return Some((output.text, places, ads));
        }
        if ended > 0 {
            return None;
        }
    }
}
