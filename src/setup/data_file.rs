//! Reads one data file: CSV, because that is what people can open, and with every mistake told with its line.

use std::collections::{BTreeMap, HashMap};

use csv::StringRecord;

use super::mistakes::{Mistakes, did_you_mean, list};
use super::reference::{Cell, CellKind, Loaded, Reader, ReferenceRow, ReferenceTable};

/// A data file that is being read.
pub(super) struct DataFile<'a> {
    pub(super) text: &'a str,
    pub(super) place: &'a str,
    pub(super) mistakes: &'a mut Mistakes,
}

impl DataFile<'_> {
    /// Reads all rows into `table`. False: some are missing, because of a mistake here or in a table they point at.
    pub(super) fn read(&mut self, table: &mut ReferenceTable, readers: &[Reader], loaded: &Loaded) -> bool {
        let mut csv = csv::ReaderBuilder::new()
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            // Counted below instead: the reader's own error names no column.
            .flexible(true)
            .has_headers(false)
            .from_reader(self.text.as_bytes());
        let mut records = Vec::new();
        for record in csv.records() {
            match record {
                Ok(record) => records.push((self.line(&record), record)),
                Err(error) => {
                    self.mistakes.add(self.place, format!("this is not CSV: {error}"));
                    return false;
                }
            }
        }
        let mut records = records.into_iter();
        let Some((line, header)) = records.next() else {
            self.mistakes.add(self.place, "the file is empty; its first line must name the columns");
            return false;
        };
        let Some(positions) = self.check_header(line, &header, readers) else { return false };
        let known: Vec<HashMap<&str, &Cell>> =
            readers.iter().map(|reader| ids_by_key(reader, &loaded.tables)).collect();

        let mut complete = true;
        let mut seen = Seen::default();
        for (line, record) in records {
            if record.len() != header.len() {
                let sentence =
                    format!("{} cells, but the first line names {} columns", record.len(), header.len());
                self.mistakes.add(format!("{}:{line}", self.place), sentence);
                continue;
            }
            let mut rows = vec![Vec::with_capacity(readers.len())];
            for ((reader, position), known) in readers.iter().zip(&positions).zip(&known) {
                let cell = record.get(*position).unwrap_or_default();
                let values = match read_cell(cell, reader, known, loaded) {
                    Ok(values) => values,
                    Err(sentences) => {
                        for sentence in sentences {
                            self.mistakes.add(format!("{}:{line}", self.place), sentence);
                        }
                        complete = false;
                        rows.clear();
                        continue;
                    }
                };
                // A list multiplies the row.
                rows = rows
                    .iter()
                    .flat_map(|row| {
                        values.iter().map(move |value| [row.as_slice(), std::slice::from_ref(value)].concat())
                    })
                    .collect();
            }
            for cells in rows {
                let row = ReferenceRow { line, cells };
                match seen.add(table, &row, &record, readers, &positions) {
                    Ok(()) => table.rows.push(row),
                    Err(sentence) => self.mistakes.add(format!("{}:{line}", self.place), sentence),
                }
            }
        }
        complete
    }

    /// Where each column stands in the file.
    fn check_header(&mut self, line: u64, header: &StringRecord, readers: &[Reader]) -> Option<Vec<usize>> {
        let place = format!("{}:{line}", self.place);
        let wanted: Vec<&str> = readers.iter().map(|reader| reader.from.as_str()).collect();
        let mut fine = true;
        for (position, name) in header.iter().enumerate() {
            if !wanted.contains(&name) {
                let missing =
                    wanted.iter().copied().filter(|name| !header.iter().any(|other| other == *name));
                self.mistakes
                    .add(&place, format!("unknown column \"{name}\"{}", did_you_mean(name, missing)));
                fine = false;
            } else if header.iter().take(position).any(|other| other == name) {
                self.mistakes.add(&place, format!("column \"{name}\" is there twice"));
                fine = false;
            }
        }
        let missing: Vec<String> = wanted
            .iter()
            .filter(|name| !header.iter().any(|other| other == **name))
            .map(|name| format!("\"{name}\""))
            .collect();
        // A misspelt column is missing too: one mistake, one sentence.
        if fine && !missing.is_empty() {
            let (column, is) = if missing.len() == 1 { ("column", "is") } else { ("columns", "are") };
            self.mistakes.add(&place, format!("{column} {} {is} missing", list(&missing)));
            fine = false;
        }
        let find = |name: &&str| header.iter().position(|other| other == *name);
        fine.then(|| wanted.iter().filter_map(find).collect())
    }

    /// The line on which a record begins. The reader's own count stands at the comments and blank lines before it.
    fn line(&self, record: &StringRecord) -> u64 {
        let Some(position) = record.position() else { return 0 };
        let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
        let skipped = self
            .text
            .get(start..)
            .unwrap_or_default()
            .lines()
            .take_while(|line| line.is_empty() || line.starts_with('#'))
            .count();
        position.line() + skipped as u64
    }
}

/// For a reference: the id behind each key of the table it points at.
fn ids_by_key<'a>(reader: &Reader, before: &'a [ReferenceTable]) -> HashMap<&'a str, &'a Cell> {
    let Some(table) = reader.target.and_then(|target| before.get(target)) else { return HashMap::new() };
    let Some(id) = table.id else { return HashMap::new() };
    let with_text = |row: &'a ReferenceRow| match &row.cells[table.key[0]] {
        Cell::Text(key) => Some((key.as_str(), &row.cells[id])),
        _ => None,
    };
    table.rows.iter().filter_map(with_text).collect()
}

/// The values of a cell: one, or for a list any number. The errors are sentences.
fn read_cell(
    cell: &str,
    reader: &Reader,
    known: &HashMap<&str, &Cell>,
    loaded: &Loaded,
) -> Result<Vec<Cell>, Vec<String>> {
    let from = &reader.from;
    if cell.is_empty() {
        return if reader.optional {
            Ok(vec![Cell::Null])
        } else {
            Err(vec![format!("\"{from}\" is empty")])
        };
    }
    let Some(target) = reader.target else {
        let value = match reader.kind {
            CellKind::Text => Some(Cell::Text(cell.to_owned())),
            CellKind::Integer => cell.parse().ok().map(Cell::Integer),
            CellKind::Boolean => cell.parse().ok().map(Cell::Boolean),
        };
        let wanted = if reader.kind == CellKind::Integer { "a whole number" } else { "true or false" };
        return value
            .map(|value| vec![value])
            .ok_or_else(|| vec![format!("\"{from}\" is \"{cell}\", not {wanted}")]);
    };
    let table = &loaded.tables[target];
    // What its file does not say because of a mistake is not this file's mistake.
    let blame = |sentence: String| (!loaded.broken.contains(&table.table)).then_some(sentence);
    let unknown = |code: &str| {
        let hint = did_you_mean(code, known.keys().copied());
        format!("\"{from}\" names \"{code}\", which is not in {}{hint}", table.file)
    };
    if !reader.list {
        return known
            .get(cell)
            .map(|id| vec![(*id).clone()])
            .ok_or_else(|| blame(unknown(cell)).into_iter().collect());
    }
    let (mut values, mut wrong) = (Vec::new(), Vec::new());
    for code in cell.split_whitespace() {
        if let Some(prefix) = code.strip_suffix('*') {
            // In the order of the file, so that the rows are the same every time.
            let key = table.key[0];
            let begins =
                |row: &&ReferenceRow| matches!(&row.cells[key], Cell::Text(key) if key.starts_with(prefix));
            let before = values.len();
            values.extend(
                table.rows.iter().filter(begins).filter_map(|row| Some(row.cells[table.id?].clone())),
            );
            if values.len() == before {
                wrong.push(blame(format!("\"{from}\": nothing in {} begins with \"{prefix}\"", table.file)));
            }
        } else {
            match known.get(code) {
                Some(id) => values.push((*id).clone()),
                None => wrong.push(blame(unknown(code))),
            }
        }
    }
    if wrong.is_empty() { Ok(values) } else { Err(wrong.into_iter().flatten().collect()) }
}

/// Keys and ids that were met already, with their lines.
#[derive(Default)]
struct Seen {
    keys: BTreeMap<Vec<Option<String>>, u64>,
    ids: BTreeMap<Option<String>, u64>,
}

impl Seen {
    fn add(
        &mut self,
        table: &ReferenceTable,
        row: &ReferenceRow,
        record: &StringRecord,
        readers: &[Reader],
        positions: &[usize],
    ) -> Result<(), String> {
        let key = table.key.iter().map(|column| row.cells[*column].to_text()).collect();
        // As the file writes them: ids say nothing to a reader.
        let written = |column: usize| {
            let cell = record.get(positions[column]).unwrap_or_default();
            format!("{} \"{cell}\"", readers[column].from)
        };
        if let Some(line) = self.keys.insert(key, row.line) {
            let key: Vec<String> = table.key.iter().map(|column| written(*column)).collect();
            return Err(format!("{} is there already, on line {line}", list(&key)));
        }
        if let Some(id) = table.id
            && let Some(line) = self.ids.insert(row.cells[id].to_text(), row.line)
        {
            return Err(format!("{} is there already, on line {line}", written(id)));
        }
        Ok(())
    }
}
