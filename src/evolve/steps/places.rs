//! Where the elements of a JSON array, and the keys of each, stand in the text. The JSON reader gives places only for what
//! is no JSON at all; a step that is well-formed and wrong deserves a caret too.

use std::ops::Range;

/// The places in a text that is known to be JSON.
#[derive(Default)]
pub(super) struct Places {
    elements: Vec<Element>,
}

struct Element {
    /// The brace that opens it.
    start: Range<usize>,
    keys: Vec<(String, Range<usize>)>,
}

impl Places {
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut this = Self::default();
        let (mut at, mut depth) = (0, 0_usize);
        while at < bytes.len() {
            match bytes[at] {
                b'"' => {
                    let end = after_string(bytes, at);
                    // A text at this depth is a key if a colon follows.
                    let is_key = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                    if depth == 2
                        && is_key
                        && let Some(element) = this.elements.last_mut()
                    {
                        element.keys.push((text[at + 1..end - 1].to_owned(), at..end));
                    }
                    at = end;
                    continue;
                }
                b'{' | b'[' => {
                    if depth == 1 {
                        this.elements.push(Element { start: at..at + 1, keys: Vec::new() });
                    }
                    depth += 1;
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        this
    }

    /// The place of an element's key, or of the brace that opens the element.
    pub(super) fn of_key(&self, element: usize, key: Option<&str>) -> Range<usize> {
        let Some(element) = self.elements.get(element) else { return 0..0 };
        let found = element.keys.iter().find(|(name, _)| Some(name.as_str()) == key);
        found.map_or_else(|| element.start.clone(), |(_, range)| range.clone())
    }
}

fn after_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The byte at a line and a column, both counted from 1; the last one if there is no such place.
pub(super) fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (start + column.saturating_sub(1)).min(text.len().saturating_sub(1));
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
