//! Where JSON values end, in texts whose syntax may be wrong.

/// Bytes that are read and written at once.
pub const WORD: usize = 8;
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The place after the value that starts at `at`, whose lists and objects nest at most `max_depth` deep.
///
/// None: it does not end, or nests deeper.
#[inline]
pub fn value_end(text: &[u8], mut at: usize, max_depth: usize) -> Option<usize> {
    let mut depth = 0;
    loop {
        match text.get(at)? {
            b'"' => at = string_end(text, at + 1)?,
            b'[' | b'{' if depth < max_depth => {
                depth += 1;
                at += 1;
                continue;
            }
            b'[' | b'{' => return None,
            b']' | b'}' if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            b',' | b']' | b'}' if depth == 0 => return Some(at),
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The place after the quote that ends a string; `at`: the place after its first quote.
#[inline]
pub fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        while let Some(word) = word_at(text, at) {
            let count = ordinary_bytes(word);
            at += count;
            if count < WORD {
                break;
            }
        }
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The text before the first `byte`, or all of it.
#[inline]
pub fn before(text: &[u8], byte: u8) -> &[u8] {
    let mut at = 0;
    while let Some(word) = word_at(text, at) {
        let found = bytes_equal(word, byte);
        if found != 0 {
            return &text[..at + found.trailing_zeros() as usize / 8];
        }
        at += WORD;
    }
    let end = text[at..].iter().position(|other| *other == byte);
    &text[..end.map_or(text.len(), |end| at + end)]
}

/// Copies the text before the first `byte`, or all of it, to `start` in `output`; returns its length.
///
/// It writes up to seven bytes more. None: there is no room.
#[inline]
pub fn copy_before(text: &[u8], byte: u8, output: &mut [u8], start: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = word_at(text, at) {
        output.get_mut(start + at..start + at + WORD)?.copy_from_slice(&word.to_le_bytes());
        let found = bytes_equal(word, byte);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += WORD;
    }
    let rest = &text[at..];
    let size = rest.iter().position(|other| *other == byte).unwrap_or(rest.len());
    output.get_mut(start + at..start + at + size)?.copy_from_slice(&rest[..size]);
    Some(at + size)
}

/// The place of the next byte that is no white space.
#[inline]
pub fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

#[inline(always)]
fn word_at(text: &[u8], at: usize) -> Option<u64> {
    let bytes = text.get(at..at + WORD)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// How many bytes are before the first quote or backslash.
#[inline(always)]
fn ordinary_bytes(word: u64) -> usize {
    let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
    found.trailing_zeros() as usize / 8 // 64 / 8 if there is none
}

/// The highest bit of each byte of `word` that equals `byte`; above the first such byte also of others.
#[inline(always)]
fn bytes_equal(word: u64, byte: u8) -> u64 {
    let rest = word ^ (LOW * u64::from(byte));
    rest.wrapping_sub(LOW) & !rest & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_before_a_byte() {
        for size in 0..40 {
            let text = "x".repeat(size);
            assert_eq!(before(text.as_bytes(), b'}'), text.as_bytes());
            assert_eq!(before((text.clone() + "}}").as_bytes(), b'}'), text.as_bytes());
            let mut output = vec![0; size + 8];
            for end in ["", "}", "}}xxxxxxxxxx"] {
                let whole = text.clone() + end;
                assert_eq!(copy_before(whole.as_bytes(), b'}', &mut output, 0), Some(size));
                assert_eq!(&output[..size], text.as_bytes());
            }
            assert_eq!(copy_before(b"xxxxxxxxx", b'}', &mut output, size), None);
        }
    }

    #[test]
    fn values_end_where_they_end() {
        for (value, depth) in [(r#""a\"}""#, 0), ("1.5", 0), ("{}", 1), (r#"{"a":[{"]":"}"},1]}"#, 3), ("[[],[]]", 2)] {
            for rest in [",", "]", "}", ", \"", "]]"] {
                let text = format!("{}{}", value, rest);
                assert_eq!(value_end(text.as_bytes(), 0, depth), Some(value.len()), "{}", text);
                assert!(depth == 0 || value_end(text.as_bytes(), 0, depth - 1).is_none(), "{}", text);
            }
            let cut = &value[..value.len() - 1];
            assert_eq!(value_end(cut.as_bytes(), 0, depth), None, "{}", cut);
        }
    }
}
