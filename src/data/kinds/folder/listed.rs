//! What tables beside the images say: `labels.csv` gives images their classes, `classes.csv` gives classes their names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::tree::name;
use crate::error::{Error, Result};

/// Classes of image files, in place of the folders that they lie in.
pub const LABELS: &str = "labels.csv";
/// Names of classes that the names of their folders do not tell.
pub const CLASSES: &str = "classes.csv";
const LABELS_HINT: &str =
    "give it a first line `file,label`, then a line for each image: its path in the folder, its class";
const CLASSES_HINT: &str = "give it a first line `folder,name`, then a line for each class";

/// Classes by the path of an image in its folder.
pub struct Labels {
    table: PathBuf,
    by_image: HashMap<String, String>,
}

impl Labels {
    /// Reads a table of `file,label`. Images with an empty label have none.
    ///
    /// # Errors
    /// [`Error::Data`] for another header, a line of another length, or two classes for one image; [`Error::Io`].
    pub fn read(table: &Path, root: &Path) -> Result<Self> {
        let mut by_image = HashMap::new();
        for (line, [file, label]) in rows(table, ["file", "label"], LABELS_HINT)? {
            let image = relative(Path::new(&file), root);
            let other = by_image.insert(image.clone(), label.clone()).filter(|other| *other != label);
            if let Some(other) = other {
                let problem =
                    format!("line {line} says that {image} is of class `{label}`, an earlier one `{other}`");
                return Err(Error::data(table, problem, "keep one of the two lines"));
            }
        }
        by_image.retain(|_, label| !label.is_empty());
        match by_image.is_empty() {
            true => Err(Error::data(table, "holds no image with a label", LABELS_HINT)),
            false => Ok(Self { table: table.to_path_buf(), by_image }),
        }
    }

    /// All classes, sorted.
    pub fn classes(&self) -> Vec<String> {
        let mut classes: Vec<String> = self.by_image.values().cloned().collect();
        classes.sort();
        classes.dedup();
        classes
    }

    /// The class of the image at a path in the folder.
    pub fn of(&self, image: &Path) -> Option<&str> {
        self.by_image.get(&name(image)).map(String::as_str)
    }

    /// Refuses the table if it names an image that is not among `images`.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn refuse_absent<'a>(&self, images: impl Iterator<Item = &'a Path>) -> Result<()> {
        let mut left: HashSet<&String> = self.by_image.keys().collect();
        images.for_each(|image| {
            left.remove(&name(image));
        });
        let mut absent: Vec<&String> = left.into_iter().collect();
        absent.sort();
        let Some(first) = absent.first() else { return Ok(()) };
        let problem = match absent.len() {
            1 => format!("names {first}, which is no image of the folder"),
            count => format!("names {count} files that are no images of the folder, {first} first"),
        };
        Err(Error::data(&self.table, problem, "name images by their paths in the folder, as `birds/owl.jpg`"))
    }
}

/// Gives classes the names that a table of `folder,name` has for them. Where two classes have one name, the folder is
/// added to it.
///
/// # Errors
/// [`Error::Data`] for another header, or a class that there is not; [`Error::Io`].
pub fn name_classes(table: &Path, classes: &mut [String]) -> Result<()> {
    let mut names = BTreeMap::new();
    for (line, [folder, name]) in rows(table, ["folder", "name"], CLASSES_HINT)? {
        if classes.binary_search(&folder).is_err() {
            let problem = format!("line {line} names class `{folder}`, which there is not");
            return Err(Error::data(table, problem, CLASSES_HINT));
        }
        names.insert(folder, name);
    }
    let mut count: HashMap<String, usize> = HashMap::new();
    let named = |class: &String| names.get(class).filter(|name| !name.is_empty()).unwrap_or(class).clone();
    classes.iter().for_each(|class| *count.entry(named(class)).or_default() += 1);
    for class in classes {
        let name = named(class);
        *class = if count[&name] > 1 && name != *class { format!("{name} ({class})") } else { name };
    }
    Ok(())
}

/// The lines of a table of two columns, with their numbers.
fn rows(table: &Path, header: [&str; 2], hint: &'static str) -> Result<Vec<(u64, [String; 2])>> {
    let bytes = fs::read(table).map_err(Error::io("read", table))?;
    // As Excel begins its files.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let wrong = |error: csv::Error| Error::data(table, format!("is no such table: {error}"), hint);
    let found: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
    if found != header {
        let problem = format!("begins with `{}`, not with `{}`", found.join(","), header.join(","));
        return Err(Error::data(table, problem, hint));
    }
    let row = |row: csv::Result<csv::StringRecord>| {
        let row = row.map_err(wrong)?;
        let line = row.position().map_or(0, csv::Position::line);
        Ok((line, [row[0].to_owned(), row[1].to_owned()]))
    };
    reader.into_records().map(row).collect()
}

/// A path in the folder, spelled as the folder's own listing spells it.
fn relative(file: &Path, root: &Path) -> String {
    let inside = file.strip_prefix(root).unwrap_or(file);
    let parts = inside.components().filter(|part| *part != Component::CurDir);
    name(&parts.collect::<PathBuf>())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Home, Log};
    use crate::data::DataConfig;

    #[test]
    fn a_table_gives_images_their_classes_wherever_they_lie() {
        let home = Home::new();
        home.write_pictures("2019", 30);
        home.write_pictures("2020/summer", 30);
        let mut table = "\u{feff}file, label\r\n".to_owned();
        for number in 0..30_u32 {
            let label = if number.is_multiple_of(3) { "owl" } else { "cat, wet" };
            table += &format!("./2019/{number}.png,\"{label}\"\r\n");
        }
        table += "2020/summer/0.png,\r\n";
        home.write("labels.csv", table.as_bytes());
        let mut log = Log::default();
        let folder = home.open_with(&DataConfig::default(), &mut log).unwrap();
        assert_eq!(folder.class_names, ["cat, wet", "owl"]);
        let test = folder.open_test().unwrap();
        assert_eq!((folder.train.len() + test.len(), folder.pool.len() - folder.train.len()), (30, 30));
        assert!(test.len() > 1 && log.lines[0].contains("of 30 images with labels"), "{:?}", log.lines);
        for (name, &label) in folder.names.train.iter().zip(&folder.train.labels) {
            let number: usize = name.trim_start_matches("2019/").trim_end_matches(".png").parse().unwrap();
            assert_eq!(label == 1, number.is_multiple_of(3), "{name}");
        }
        // Another table, from elsewhere.
        let rows = (0..24).map(|number| format!("2020/summer/{number}.png,{}\n", number % 2));
        home.write("../mine.csv", ("file,label\n".to_owned() + &rows.collect::<String>()).as_bytes());
        let mine = DataConfig { labels: Some(home.root().join("../mine.csv")), ..DataConfig::default() };
        assert_eq!(home.open_with(&mine, &mut log).unwrap().class_names, ["0", "1"]);
    }

    #[test]
    fn a_table_that_makes_no_sense_is_refused_by_line_and_name() {
        let home = Home::new();
        home.write_pictures("a", 3);
        for (table, problem) in [
            ("path,class\na/0.png,owl\n", "begins with `path,class`, not with `file,label`"),
            (
                "file,label\na/0.png,owl\na/0.png,cat\n",
                "line 3 says that a/0.png is of class `cat`, an earlier one `owl`",
            ),
            ("file,label\na/7.png,owl\n", "names a/7.png, which is no image of the folder"),
            (
                "file,label\na/8.png,owl\na/7.png,owl\n",
                "names 2 files that are no images of the folder, a/7.png first",
            ),
            ("file,label\na/0.png\n", "is no such table"),
            ("file,label\n", "holds no image with a label"),
            ("", "begins with ``"),
        ] {
            home.write("labels.csv", table.as_bytes());
            let found = home.problem();
            assert!(found.contains("labels.csv: ") && found.contains(problem), "{found}");
        }
        home.write_pictures("train/owl", 3);
        assert!(home.problem().contains("gives images their classes, and so do the folders in"));
    }

    #[test]
    fn classes_get_readable_names_and_keep_their_folders_where_two_have_one() {
        let home = Home::new();
        for class in ["n01", "n02", "n03", "n04"] {
            home.write_pictures(&format!("train/{class}"), 12);
            home.write_pictures(&format!("test/{class}"), 1);
        }
        home.write("classes.csv", b"folder,name\nn03,crane\nn01,\"goldfish, Carassius\"\nn04,crane\n");
        assert_eq!(
            home.open().unwrap().class_names,
            ["goldfish, Carassius", "n02", "crane (n03)", "crane (n04)"]
        );
        home.write("classes.csv", b"folder,name\nn09,crane\n");
        assert!(home.problem().contains("line 2 names class `n09`, which there is not"));
    }

    #[test]
    fn one_class_a_few_images_and_one_large_class_are_said() {
        let warned = |classes: &[(&str, u32)]| {
            let home = Home::new();
            for &(class, count) in classes {
                home.write_pictures(&format!("train/{class}"), count);
                home.write_pictures(&format!("test/{class}"), 1);
            }
            let mut log = Log::default();
            home.open_with(&DataConfig::default(), &mut log).unwrap();
            log.lines.concat()
        };
        assert!(warned(&[("owl", 3)]).contains("all images with labels are of one class, owl"));
        assert!(warned(&[("owl", 3), ("cat", 30)]).contains("1 of 2 classes have fewer than 10 images"));
        assert!(warned(&[("owl", 10), ("cat", 100)]).contains("cat has 100 images to learn from, owl 10"));
        assert_eq!(warned(&[("owl", 10), ("cat", 20)]), "");
    }
}
