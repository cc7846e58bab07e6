//! Ids, crosses and the key of a row from the hashes of its columns.

use std::cell::Cell;
use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::document::Hashes;
use crate::document_numbers::step;
use crate::document_plan::Plan;
use crate::mix::{mix64, prepare, Modulus, PADDING};

/// Where each hash column goes.
pub struct Columns {
    width: usize,
    ids: usize,
    hashed: Vec<(usize, usize, i32, Modulus)>,
    vocabularies: Vec<(usize, usize, i32, HashMap<u64, i32>)>,
    buckets: Vec<(usize, usize, i32)>,
    crosses: Vec<(usize, i32, Modulus)>,
    folds: Vec<Vec<usize>>,
    salts: [Vec<u64>; 2],
    missing: u64,
}

impl Columns {
    /// `plan` is checked.
    pub fn new(py: Python<'_>, plan: &Plan) -> PyResult<Self> {
        let mut first = plan.salts.to_vec(py)?;
        let words = first.len() / 2;
        if first.len() % 2 != 0 || words < plan.hash_width + plan.numeric.len() + plan.indicators.len() {
            return Err(PyValueError::new_err("expected two salts for each word of a key"));
        }
        let second = first.split_off(words);
        let hashed = plan.hashed.iter().map(|(target, source, base, n)| (*target, *source, *base, Modulus::new(*n)));
        let crosses = plan.crosses.iter().map(|(target, base, n)| (*target, *base, Modulus::new(*n)));
        Ok(Columns {
            width: plan.hash_width,
            ids: plan.id_width,
            hashed: hashed.collect(),
            vocabularies: plan.vocabularies.clone(),
            buckets: plan.buckets.clone(),
            crosses: crosses.collect(),
            folds: plan.folds.clone(),
            salts: [first, second],
            missing: xxh3_64(b"\xff missing"),
        })
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// Writes the ids, the halves of the pair crosses and the key.
    pub fn write(&self, row: &Hashes, floats: &[f32], ids: &[Cell<i32>], words: &[Cell<u64>]) -> PyResult<()> {
        let (own, halves) = self.folds.split_at(self.crosses.len());
        if ids.len() != self.ids || words.len() != halves.len() + 2 {
            return Err(PyValueError::new_err("the row of ids or words has another length"));
        }
        let hashes = &row.hashes;
        for (target, source, base, buckets) in &self.hashed {
            ids[*target].set(match hashes[*source] {
                PADDING => 0,
                hash if hash == self.missing => base.wrapping_sub(1),
                hash => base.wrapping_add(buckets.of(hash) as i32),
            });
        }
        for (target, source, offset, rows) in &self.vocabularies {
            ids[*target].set(offset.wrapping_add(rows.get(&hashes[*source]).copied().unwrap_or(1)));
        }
        for (target, feature, offset) in &self.buckets {
            ids[*target].set(offset.wrapping_add(row.rows[*feature]));
        }
        for ((target, base, buckets), parents) in self.crosses.iter().zip(own) {
            ids[*target].set(match joined(hashes, parents) {
                PADDING => 0,
                hash => base.wrapping_add(buckets.of(hash) as i32),
            });
        }
        for (written, parents) in words.iter().zip(halves) {
            written.set(joined(hashes, parents));
        }
        for (written, salts) in words[halves.len()..].iter().zip(&self.salts) {
            let steps = floats.iter().map(|x| step(*x).to_bits());
            let salted = hashes.iter().copied().chain(steps).zip(salts).map(|(word, salt)| mix64(word ^ salt));
            written.set(mix64(salted.fold(0, u64::wrapping_add)));
        }
        Ok(())
    }
}

/// The hashes of the parents, joined; `PADDING` if one of them is.
fn joined(hashes: &[u64], parents: &[usize]) -> u64 {
    let join = |left, right| if left == PADDING || right == PADDING { PADDING } else { mix64(prepare(left) ^ right) };
    let parents = parents.iter().map(|column| hashes[*column]);
    parents.reduce(join).unwrap_or(PADDING)
}
