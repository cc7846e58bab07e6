//! Where JSON values end, in texts whose syntax may be wrong.

/// Bytes that are read and written at once.
pub const WORD: usize = 8;
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A writer of texts into memory of a fixed size.
pub struct Output {
    pub text: Vec<u8>,
    pub end: usize,
}

impl Output {
    pub fn new(size: usize) -> Self {
        Output { text: vec![0; size], end: 0 }
    }

    /// None: there is no room.
    #[inline]
    pub fn push(&mut self, text: &[u8]) -> Option<()> {
        self.text.get_mut(self.end..self.end + text.len())?.copy_from_slice(text);
        self.end += text.len();
        Some(())
    }

    /// Adds eight bytes of which the caller keeps the first ones only: it moves `end`.
    #[inline(always)]
    fn put(&mut self, word: u64) -> Option<()> {
        self.text.get_mut(self.end..self.end + 8)?.copy_from_slice(&word.to_le_bytes());
        Some(())
    }

    #[inline(always)]
    fn push_byte(&mut self, byte: u8) -> Option<()> {
        *self.text.get_mut(self.end)? = byte;
        self.end += 1;
        Some(())
    }
}

/// Copies a value; returns the place of the comma after it, outside of strings and brackets, or the end of the text.
///
/// None: a string does not end, brackets do not match in number, or the output has no room.
#[inline]
pub fn copy_value(text: &[u8], start: usize, output: &mut Output) -> Option<usize> {
    let mut at = start;
    let mut depth = 0usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b',' if depth == 0 => return Some(at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        output.push_byte(*byte)?;
        at += 1;
        if *byte == b'"' {
            at = copy_string(text, at, output)?;
        }
    }
    if depth == 0 {
        Some(text.len())
    } else {
        None
    }
}

/// Copies the rest of a string with the quote that ends it; returns the place after it.
#[inline]
fn copy_string(text: &[u8], mut at: usize, output: &mut Output) -> Option<usize> {
    loop {
        while let Some(word) = word_at(text, at) {
            output.put(word)?;
            let found = bytes_equal(word, b'"') | bytes_equal(word, b'\\');
            let count = if found == 0 { 8 } else { found.trailing_zeros() as usize / 8 };
            at += count;
            output.end += count;
            if found != 0 {
                break;
            }
        }
        let byte = *text.get(at)?;
        output.push_byte(byte)?;
        at += 1;
        match byte {
            b'"' => return Some(at),
            b'\\' => {
                output.push_byte(*text.get(at)?)?;
                at += 1;
            }
            _ => {}
        }
    }
}

#[inline(always)]
fn word_at(text: &[u8], at: usize) -> Option<u64> {
    let bytes = text.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
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

    fn values(text: &str) -> Option<Vec<String>> {
        let mut found = Vec::new();
        let mut at = 0;
        loop {
            let mut output = Output::new(text.len() + 8);
            let end = copy_value(text.as_bytes(), at, &mut output)?;
            assert_eq!(&output.text[..output.end], &text.as_bytes()[at..end]);
            found.push(text[at..end].to_owned());
            if end == text.len() {
                return Some(found);
            }
            at = end + 1;
        }
    }

    #[test]
    fn commas_in_values_separate_nothing() {
        let all = [
            "1",
            r#""a,b""#,
            r#""\",""#,
            r#""eight by\"tes, \\""#,
            "[1,[2]]",
            r#"{"a,":[",]",{"b":0}]}"#,
            " null ",
            "",
        ];
        assert_eq!(values(&all.join(",")), Some(all.iter().map(|value| (*value).to_owned()).collect()));
    }

    #[test]
    fn damaged_text_has_no_end() {
        for text in ["\"a", "\"a\\\"", "\"\\", "[1", "1]", "{", "[\"]"] {
            assert_eq!(values(text), None, "{}", text);
        }
    }
}
