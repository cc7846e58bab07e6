//! Rows made of columns of JSON.

use std::ops::Range;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use xxhash_rust::xxh3::{xxh3_128_with_seed, xxh3_64_with_seed};

use crate::digests::Digests;
use crate::json_values::{copy_before, WORD};
use crate::rows::{Rows, Text};

const SETS: usize = 1 << 13;
const WAYS: usize = 8;

/// Cuts columns into rows, and remembers the digest of each ad's row.
#[pyclass]
pub struct ColumnCutter {
    seed: u64,
    known: Vec<Known>,
}

/// Parts of two hashes: of an ad's id and prefix, and of its row. A collision costs time only.
#[derive(Clone, Copy, Default, PartialEq)]
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

    /// The rows of columns with their digests; `ad_id`: which of them has the ad ids. The columns may be no JSON.
    ///
    /// Row i is the prefix, then value i of each column, joined by commas. None: a column is not a list, has another
    /// length than others or a value that is not plain, or most rows have changed.
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
            if self.update(prefix.len(), &text, &places, &ads, &values) {
                Some((Digests { values }, Rows::new(Text::Own(text), places)))
            } else {
                None
            }
        }))
    }
}

impl ColumnCutter {
    /// Remembers the digests of rows of plain values. Whether all values are, and most rows have not changed.
    fn update(&mut self, prefix: usize, text: &[u8], places: &[Range<usize>], ads: &[u64], digests: &[u128]) -> bool {
        if self.known.is_empty() {
            self.known = vec![Known::default(); SETS * WAYS];
        }
        let mut changed = 0;
        let mut are_plain = true;
        for ((ad, digest), range) in ads.iter().zip(digests).zip(places) {
            let row = Known { ad: (ad >> 32) as u32, row: *digest as u32 };
            let start = *ad as usize % SETS * WAYS;
            let set = &mut self.known[start..start + WAYS];
            let found = set.iter().position(|known| known.ad == row.ad);
            if found.is_some_and(|at| set[at] == row) {
                continue;
            }
            // A row is looked at once: that its values are plain is also the proof that they are JSON.
            let mut values = text[range.start + prefix..range.end].split(|byte| *byte == b',');
            if !values.all(is_plain) {
                are_plain = false;
                continue;
            }
            match found {
                Some(at) => {
                    changed += 1;
                    set[at] = row;
                }
                None => {
                    set.rotate_right(1); // the last one is the oldest
                    set[0] = row;
                }
            }
        }
        are_plain && changed <= ads.len() / 2
    }
}

/// Whether a part between two commas is a plain value: a text, a number without an
/// exponent, true, false, null, or a list of at most one text or number.
///
/// It is valid JSON then. A piece of a value with commas is none of them, or happens to be valid JSON.
fn is_plain(part: &[u8]) -> bool {
    match trimmed(part) {
        [b'[', inner @ .., b']'] => trimmed(inner).is_empty() || is_scalar(trimmed(inner)),
        b"true" | b"false" | b"null" => true,
        scalar => is_scalar(scalar),
    }
}

fn is_scalar(value: &[u8]) -> bool {
    match value {
        [b'"', text @ .., b'"'] => is_text(text),
        [b'-', number @ ..] | number => is_number(number),
    }
}

/// Whether a text can stand between quotes, without a quote or half of a surrogate pair in it.
fn is_text(text: &[u8]) -> bool {
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (0..=31 | b'"', _) => return false,
            (b'\\', [b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', after @ ..]) => after,
            (b'\\', [b'u', a, b, c, d, after @ ..]) => {
                let is_half =
                    matches!(a, b'd' | b'D') && !b.is_ascii_digit() || matches!((a, b), (b'd' | b'D', b'8'..=b'9'));
                if is_half || ![a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) {
                    return false;
                }
                after
            }
            (b'\\', _) => return false,
            _ => after,
        };
    }
    std::str::from_utf8(text).is_ok()
}

/// One that all parsers read alike.
fn is_number(text: &[u8]) -> bool {
    if text.len() > 16 {
        return false;
    }
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b"0"[..]),
    };
    let are_digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    are_digits(whole) && are_digits(fraction) && (whole[0] != b'0' || whole.len() == 1)
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
/// None: a column has another number of commas than the ad ids, so another length or a comma in a value.
fn cut(prefix: &[u8], columns: &[&[u8]], ad_id: usize, shape: u64) -> Option<Cut> {
    let commas = |column: &&[u8]| column.iter().filter(|byte| **byte == b',').count();
    let n = 1 + commas(&columns[ad_id]);
    if columns.iter().any(|column| 1 + commas(column) != n) {
        return None;
    }
    let size = columns.iter().map(|column| column.len() + 1).sum::<usize>() + n * prefix.len();
    let (mut text, mut end) = (vec![0; size + WORD], 0);
    let mut rests = columns.to_vec();
    let (mut places, mut ads) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for _ in 0..n {
        let start = end;
        end += prefix.len();
        text.get_mut(start..end)?.copy_from_slice(prefix);
        for (i, rest) in rests.iter_mut().enumerate() {
            if i > 0 {
                *text.get_mut(end)? = b',';
                end += 1;
            }
            let size = copy_before(rest, b',', &mut text, end)?;
            if i == ad_id {
                ads.push(xxh3_64_with_seed(&rest[..size], shape));
            }
            *rest = rest.get(size + 1..).unwrap_or_default();
            end += size;
        }
        places.push(start..end);
    }
    text.truncate(end);
    Some((text, places, ads))
}

/// A text without the white space around it.
fn trimmed(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn pieces_of_values_are_not_plain() {
        for plain in
            [r#""a""#, r#" "" "#, "1", "-0.5", "10", "0", "true", "null", r#"["a"]"#, "[]", "[ 1 ]", r#""\u00e4\\\n""#]
        {
            assert!(is_plain(plain.as_bytes()), "{}", plain);
        }
        for piece in [r#""a"#, r#"a""#, r#"""#, "a", "", " ", "-", "01", "1.", ".5", "1e", "1e5", "+1", r#""a":"b""#] {
            assert!(!is_plain(piece.as_bytes()), "{}", piece);
        }
        for piece in [
            r#"["a""#,
            r#""a"]"#,
            "[[1]",
            "[1]]",
            r#"{"a":[1]"#,
            r#""a\"""#,
            "nul",
            "1 2",
            r#""\q""#,
            r#""\ud83d""#,
            r#""\u12""#,
            "\"\n\"",
        ] {
            assert!(!is_plain(piece.as_bytes()), "{}", piece);
        }
    }
}
