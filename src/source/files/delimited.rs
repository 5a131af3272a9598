//! CSV and its kin (RFC 4180): a first record with the columns' names, then records with as many cells. An empty cell is
//! null, as in Postgres's own CSV.

use std::fs::File;
use std::io::BufReader;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{FileTable, Sink};
use crate::error::{Error, Result};

/// The columns' names.
pub(super) fn columns(file: &FileTable, delimiter: u8) -> Result<Vec<Vec<u8>>> {
    let mut reader = open(file, delimiter)?;
    let mut header = ByteRecord::new();
    if !reader.read_byte_record(&mut header).map_err(|error| unreadable(file, &error))? {
        return Err(file.wrong("the file is empty; its first line must name the columns"));
    }
    Ok(header.iter().map(<[u8]>::to_vec).collect())
}

/// All records but the first one.
pub(super) fn read(file: &FileTable, delimiter: u8, sink: &mut Sink) -> Result<()> {
    let mut reader = open(file, delimiter)?;
    let mut record = ByteRecord::new();
    let mut next =
        |record: &mut ByteRecord| reader.read_byte_record(record).map_err(|error| unreadable(file, &error));
    next(&mut record)?;
    let wanted = record.len();
    let mut number = 0;
    while next(&mut record)? {
        number += 1;
        if record.len() != wanted {
            let line = record.position().map_or(0, csv::Position::line);
            let what = format!(
                "it begins on line {line} and has {} cells, but the first line names {wanted} columns",
                record.len()
            );
            return Err(file
                .wrong_at(number, what)
                .help("a cell that holds the delimiter or a line break stands in \"…\""));
        }
        sink.begin(number);
        for cell in &record {
            sink.cell((!cell.is_empty()).then_some(cell));
        }
        sink.finish()?;
    }
    Ok(())
}

fn open(file: &FileTable, delimiter: u8) -> Result<Reader<BufReader<File>>> {
    let input = file.open()?;
    // Counted by us, whose error says where the record begins.
    Ok(ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(input))
}

fn unreadable(file: &FileTable, error: &csv::Error) -> Error {
    file.wrong(format!("it cannot be read: {error}"))
}
