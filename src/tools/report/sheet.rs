//! The data of a figure as CSV.

/// A table: titles with their units, then lines.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    lines: Vec<Vec<String>>,
}

impl Sheet {
    /// One that has its titles alone.
    pub(super) fn new<T: Into<String>>(titles: impl IntoIterator<Item = T>) -> Self {
        Self { lines: vec![titles.into_iter().map(Into::into).collect()] }
    }

    /// Adds a line.
    pub(super) fn line<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.lines.push(cells.into_iter().map(Into::into).collect());
    }

    /// As CSV; what needs quotes has them.
    pub(super) fn text(&self) -> String {
        let mut table = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        for line in &self.lines {
            // Writing into memory does not fail.
            let _ = table.write_record(line);
        }
        String::from_utf8(table.into_inner().unwrap_or_default()).unwrap_or_default()
    }
}

/// The title of a column of shares.
pub(super) fn share(of: &str) -> String {
    format!("{of} (share, 0 to 1)")
}

/// A number that may be missing.
pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The cells of a CSV text, line by line.
    pub(in super::super) fn cells(text: &str) -> Vec<Vec<String>> {
        let mut table = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let line = |line: Result<csv::StringRecord, _>| line.unwrap().iter().map(str::to_owned).collect();
        table.records().map(line).collect()
    }

    #[test]
    fn names_with_commas_quotes_and_line_breaks_are_read_back() {
        let mut sheet = Sheet::new(["class".to_owned(), share("accuracy")]);
        for name in ["cat, tabby", "the \"best\" dog", "two\nlines", "ünï", ""] {
            sheet.line([name.to_owned(), number(Some(0.1 + 0.2))]);
        }
        let read = cells(&sheet.text());
        assert_eq!(read[0], ["class", "accuracy (share, 0 to 1)"]);
        assert_eq!(read[1], ["cat, tabby", "0.30000000000000004"]);
        let names: Vec<&str> = read[1..].iter().map(|line| line[0].as_str()).collect();
        assert_eq!(names, ["cat, tabby", "the \"best\" dog", "two\nlines", "ünï", ""]);
    }
}
