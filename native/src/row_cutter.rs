//! Cuts the candidates out of a document.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use xxhash_rust::xxh3::{xxh3_128_with_seed, xxh3_64_with_seed};

use crate::digests::Digests;
use crate::json_values::{before, skip_space, string_end, value_end};
use crate::pace::Pace;
use crate::row_memo::Low;
use crate::rows::{Rows, Text};

/// Of an entry beside its text: in the table when it is half full, in the queue, and of the allocation.
const ENTRY_BYTES: usize = 200;
const MAX_DEPTH: usize = 32;
/// Each name is compared with those before it.
const MAX_COLUMNS: usize = 200;
/// Bytes of a candidate by which its text is found: they should contain its ad id.
const START: usize = 64;

/// Cuts the candidates out of documents, and remembers the texts of candidates that are valid JSON.
///
/// A candidate that starts with a remembered one is equal to it, because an object contains its own end.
///
/// Invariants: (1) the texts and their entries take at most `max_bytes`; (2) it parses no candidate itself: those that
/// it does not remember are valid only if the caller says so.
#[pyclass]
pub struct RowCutter {
    key: Vec<u8>,
    seed: u64,
    max_rows: usize,
    max_bytes: usize,
    /// By the hash of their start.
    known: HashMap<u64, Known, BuildHasherDefault<Low>>,
    order: VecDeque<u64>,
    used_bytes: usize,
    pace: Pace,
    column_pace: Pace,
}

struct Known {
    text: Box<[u8]>,
    digest: u128,
}

/// The document with an empty list, its rows with their digests, and the texts of those that are not remembered.
type Cut<'py> = (Bound<'py, PyBytes>, Digests, Rows, Vec<Bound<'py, PyBytes>>);

/// The document with an empty object, and the names and texts of its columns.
type CutColumns<'py> = (Bound<'py, PyBytes>, Vec<(String, Bound<'py, PyBytes>)>);

/// The places of a name and of its list.
type Column = (Range<usize>, Range<usize>);

struct Found {
    places: Vec<Range<usize>>,
    digests: Vec<u128>,
    unknown: Vec<usize>,
}

#[pymethods]
impl RowCutter {
    /// `key`: of the candidates in the document.
    #[new]
    fn new(key: &str, seed: u64, max_rows: usize, max_bytes: usize) -> Self {
        RowCutter {
            key: key.as_bytes().to_vec(),
            seed,
            max_rows,
            max_bytes,
            known: HashMap::default(),
            order: VecDeque::new(),
            used_bytes: 0,
            pace: Pace::default(),
            column_pace: Pace::default(),
        }
    }

    #[getter]
    fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// None: the document does not have exactly one list of objects as candidates, its form is unusual, or it pauses.
    fn cut<'py>(&mut self, py: Python<'py>, document: &Bound<'py, PyBytes>) -> PyResult<Option<Cut<'py>>> {
        if self.pace.pauses() {
            return Ok(None);
        }
        let text = document.as_bytes();
        let (list, found) = match find(text, &self.key, |text, start| self.candidates(text, start)) {
            Some(found) => found,
            None => return Ok(None),
        };
        self.pace.update(found.unknown.len(), found.places.len());
        let unknown = found.unknown.iter().map(|i| PyBytes::new(py, &text[found.places[*i].clone()])).collect();
        let rest = replaced(py, text, list, b"[]");
        let rows = Rows::new(Text::Record(document.clone().unbind()), found.places);
        Ok(Some((rest, Digests { values: found.digests }, rows, unknown)))
    }

    /// The document with an empty object in place of its columns, and their names and texts, which may be no JSON.
    ///
    /// None: the document does not have exactly one object of lists as candidates, its form is unusual, or it pauses.
    fn cut_columns<'py>(&mut self, py: Python<'py>, document: &Bound<'py, PyBytes>) -> Option<CutColumns<'py>> {
        if self.column_pace.pauses() {
            return None;
        }
        let text = document.as_bytes();
        let (object, columns) = find(text, &self.key, columns)?;
        let rest = replaced(py, text, object, b"{}");
        let mut found = Vec::with_capacity(columns.len());
        for (name, list) in columns {
            found.push((std::str::from_utf8(&text[name]).ok()?.to_owned(), PyBytes::new(py, &text[list])));
        }
        Some((rest, found))
    }

    /// Whether the columns of the last document became rows: if not, it pauses.
    fn columns_were_cut(&mut self, were_cut: bool) {
        self.column_pace.update(usize::from(!were_cut), 1);
    }

    /// Remembers texts of candidates, which are objects of valid JSON.
    fn remember(&mut self, rows: Vec<Bound<'_, PyBytes>>) {
        for row in rows {
            let text = row.as_bytes();
            let bytes = text.len() + ENTRY_BYTES;
            if bytes > self.max_bytes {
                continue;
            }
            let start = self.start(text);
            let known = Known { text: text.into(), digest: xxh3_128_with_seed(text, self.seed) };
            self.used_bytes += bytes;
            match self.known.insert(start, known) {
                Some(replaced) => self.used_bytes -= replaced.text.len() + ENTRY_BYTES,
                None => self.order.push_back(start),
            }
            while self.used_bytes > self.max_bytes {
                let oldest = self.order.pop_front().and_then(|oldest| self.known.remove(&oldest));
                self.used_bytes -= oldest.map_or(self.used_bytes, |oldest| oldest.text.len() + ENTRY_BYTES);
            }
        }
    }
}

impl RowCutter {
    /// The hash of a candidate's start, for the text of the candidate or of what starts with it.
    fn start(&self, text: &[u8]) -> u64 {
        xxh3_64_with_seed(before(&text[..text.len().min(START)], b'}'), self.seed)
    }

    /// The candidates in the list that starts at `start`.
    fn candidates(&self, text: &[u8], start: usize) -> Option<(Range<usize>, Found)> {
        let (mut places, mut digests, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = start;
        let mut expected = b'[';
        while text.get(at) == Some(&expected) {
            expected = b',';
            at = skip_space(text, at + 1);
            let rest = text.get(at..)?;
            if rest.first()? != &b'{' || places.len() == self.max_rows {
                return None;
            }
            let (size, digest) = match self.known.get(&self.start(rest)) {
                Some(known) if rest.starts_with(&known.text) => (known.text.len(), known.digest),
                _ => {
                    let size = value_end(rest, 0, MAX_DEPTH)?;
                    unknown.push(places.len());
                    (size, xxh3_128_with_seed(&rest[..size], self.seed))
                }
            };
            places.push(at..at + size);
            digests.push(digest);
            at = skip_space(text, at + size);
        }
        if text.get(at)? != &b']' {
            return None;
        }
        Some((start..at + 1, Found { places, digests, unknown }))
    }
}

/// The text with `new` in this place.
fn replaced<'py>(py: Python<'py>, text: &[u8], place: Range<usize>, new: &[u8]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &[&text[..place.start], new, &text[place.end..]].concat())
}

/// The place of the candidates in a document, and what `read` makes of them.
///
/// None if their key occurs not exactly once, or a key has an escape.
fn find<T>(
    text: &[u8],
    key: &[u8],
    read: impl Fn(&[u8], usize) -> Option<(Range<usize>, T)>,
) -> Option<(Range<usize>, T)> {
    let mut at = skip_space(text, 0);
    let mut found: Option<(Range<usize>, T)> = None;
    let mut expected = b'{';
    while text.get(at) == Some(&expected) {
        expected = b',';
        let (name, start) = key_at(text, at + 1)?;
        at = start;
        if &text[name] != key {
            at = value_end(text, at, text.len())?;
        } else if found.is_none() {
            let candidates = read(text, at)?;
            at = candidates.0.end;
            found = Some(candidates);
        } else {
            return None;
        }
        at = skip_space(text, at);
    }
    if text.get(at) == Some(&b'}') {
        found
    } else {
        None
    }
}

/// The place of a key without its quotes, and that of its value; None if it has an escape.
fn key_at(text: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let start = skip_space(text, at);
    if text.get(start)? != &b'"' {
        return None;
    }
    let end = string_end(text, start + 1)?;
    let name = start + 1..end - 1;
    let colon = skip_space(text, end);
    if text.get(colon)? != &b':' || text[name.clone()].contains(&b'\\') {
        return None;
    }
    Some((name, skip_space(text, colon + 1)))
}

/// The object that starts at `start`, and the places of its names and lists.
fn columns(text: &[u8], start: usize) -> Option<(Range<usize>, Vec<Column>)> {
    let mut found: Vec<Column> = Vec::new();
    let mut at = start;
    let mut expected = b'{';
    while text.get(at) == Some(&expected) {
        expected = b',';
        let (name, list) = key_at(text, at + 1)?;
        let is_new = found.iter().all(|(other, _)| text[other.clone()] != text[name.clone()]);
        if text.get(list)? != &b'[' || !is_new || found.len() == MAX_COLUMNS {
            return None;
        }
        // A bracket in a text ends it too early: then its last value is not plain, and a parser reads the document.
        let end = list + before(&text[list..], b']').len() + 1;
        if end > text.len() {
            return None;
        }
        found.push((name, list..end));
        at = skip_space(text, end);
    }
    if text.get(at)? != &b'}' {
        return None;
    }
    Some((start..at + 1, found))
}
