//! What is wrong with a definition, and where, because a person mends many mistakes faster when they see them all
//! at once, each with its line, a caret and the name that was probably meant.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceSpan};

use super::SourceFile;

/// A place in a definition file: bytes `start..end` of file `file` of [`super::Definitions::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct At {
    /// Index of the file.
    pub file: usize,
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// One mistake: a sentence, the place, and the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The sentence.
    pub message: String,
    /// Where it is; `None` for what concerns a database as a whole.
    pub at: Option<At>,
    /// A few words below the caret.
    pub label: String,
    /// The fix.
    pub help: Option<String>,
}

impl Problem {
    /// A problem at a place of a file.
    pub fn at(at: At, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { message: message.into(), at: Some(at), label: label.into(), help: None }
    }

    /// A problem of a database, which no single line of a definition is to blame for.
    pub fn general(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: None, label: String::new(), help: None }
    }

    /// Adds the fix.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds "did you mean …?" if one of the names that exist resembles `name`, else lists them if they are few.
    #[must_use]
    pub fn suggest<'a>(mut self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        if let Some(meant) = did_you_mean(name, candidates.iter().copied()) {
            self.help = Some(format!("did you mean `{meant}`?"));
        } else if !candidates.is_empty() && candidates.len() <= LISTED {
            self.help = Some(format!("there is: {}", candidates.join(", ")));
        }
        self
    }
}

/// Above so many names a list helps nobody.
const LISTED: usize = 30;

/// The candidate that `name` most resembles. Case and underscores hardly count, because `employee_no` for
/// `employeeNo` is the commonest slip; else a third of the letters may differ.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-', '"'], "");
    let wanted = plain(name);
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < plain(candidate).chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// All problems as text, in the order of files and lines; what has no place comes first.
pub fn render(problems: &[Problem], files: &[SourceFile], color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler =
        GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false).with_wrap_lines(false);
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| problem.at);
    let mut text = String::new();
    for problem in sorted {
        let source = problem
            .at
            .and_then(|at| files.get(at.file))
            .map(|file| NamedSource::new(file.label.clone(), file.text.clone()).with_language("toml"));
        let located = Located { problem, source };
        if handler.render_report(&mut text, &located).is_err() {
            text.push_str(&problem.message);
        }
        text.push('\n');
    }
    text
}

/// A problem together with the text of its file, as the renderer wants it.
#[derive(Debug)]
struct Located<'a> {
    problem: &'a Problem,
    source: Option<NamedSource<String>>,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Located<'_> {}

impl Diagnostic for Located<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.source.as_ref().map(|source| source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let at = self.problem.at?;
        let span = SourceSpan::new(at.start.into(), at.end.saturating_sub(at.start));
        let label = LabeledSpan::new_with_span(Some(self.problem.label.clone()), span);
        Some(Box::new(std::iter::once(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["employeeNo", "hireDate", "id"];
        assert_eq!(did_you_mean("employee_no", names), Some("employeeNo"));
        assert_eq!(did_you_mean("hireDat", names), Some("hireDate"));
        assert_eq!(did_you_mean("zz", names), None, "two letters of two differ");
        assert_eq!(did_you_mean("qualification", names), None);
    }
}
