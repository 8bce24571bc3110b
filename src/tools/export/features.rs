//! Features as NumPy arrays and as text.

use std::path::Path;

use super::{Files, Format};
use std::io::Write;

use crate::error::{Error, Result};
use crate::files::AtomicFile;
use crate::progress::{Event, Reporter, Unit};
use crate::store::features::{FeatureFiles, Features};

/// Writes the features of both parts of the data set, and what each row belongs to.
pub(super) fn write(
    features: &FeatureFiles,
    formats: &[Format],
    files: &mut Files<'_>,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let manifest = features.read_manifest()?;
    let parts = [("train", features.train()), ("test", features.test())];
    reporter.report(Event::TaskStarted {
        label: "export",
        total: (manifest.train[0] + manifest.test[0]) as u64,
        unit: Unit::Images,
    });
    for (part, path) in parts {
        let rows = Features::load(&path, &manifest.origin, manifest.classes.len())?;
        let [images, width] = rows.shape();
        let content = format!("{images} rows of {width} features ({})", manifest.origin.layer);
        if formats.contains(&Format::Npy) {
            files.add(&format!("{part}.npy"), content.clone(), |path| write_npy(path, &rows))?;
            let name = format!("{part}-images.csv");
            let content = match rows.names().is_empty() {
                true => "number, label and class of the image of each row",
                false => "number, file, label and class of the image of each row",
            };
            let content = content.to_owned();
            files.add(&name, content, |path| write_csv(path, &rows, &manifest.classes, false))?;
        }
        if formats.contains(&Format::Csv) {
            files.add(&format!("{part}.csv"), content, |path| {
                write_csv(path, &rows, &manifest.classes, true)
            })?;
        }
        reporter.report(Event::TaskAdvanced(images as u64));
    }
    reporter.report(Event::TaskFinished);
    Ok(())
}

/// `float32 [images, features]` in format 1.0 (numpy.lib.format): magic, version, length of the header, the header
/// padded to a multiple of 64 bytes, values in little-endian.
fn write_npy(path: &Path, rows: &Features) -> Result<()> {
    let [images, width] = rows.shape();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({images}, {width}), }}");
    let unpadded = PREFIX + header.len() + 1;
    header += &" ".repeat(unpadded.next_multiple_of(64) - unpadded);
    header.push('\n');
    let mut out = AtomicFile::create(path)?;
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(Error::io("write", path));
    put(b"\x93NUMPY\x01\x00")?;
    put(&(header.len() as u16).to_le_bytes())?;
    put(header.as_bytes())?;
    rows.each_block(&mut |block| {
        let bytes: Vec<u8> = block.iter().flat_map(|value| value.to_le_bytes()).collect();
        put(&bytes)
    })?;
    out.commit()
}

/// Bytes in front of the header of an npy file.
const PREFIX: usize = 10;

/// `image,label,class`, and the features on request. `image` is the number of the image in its part of the data set,
/// counted from 0 through all files; of images that are files, their `file` is the second column.
fn write_csv(path: &Path, rows: &Features, classes: &[String], values: bool) -> Result<()> {
    let [_, width] = rows.shape();
    let unwritten = |error: csv::Error| Error::io("write", path)(error.into());
    let mut lines = csv::Writer::from_writer(AtomicFile::create(path)?);
    let file = (!rows.names().is_empty()).then_some("file");
    let columns = ["image"].into_iter().chain(file).chain(["label", "class"]).map(str::to_owned);
    let numbers = if values { 0..width } else { 0..0 };
    let header = columns.chain(numbers.map(|feature| format!("f{feature}")));
    lines.write_record(header).map_err(unwritten)?;
    let mut images = rows.labels().iter().enumerate();
    let mut put = |(image, &label): (usize, &u16), row: &[f32]| {
        let file = rows.names().get(image).cloned();
        let class = classes.get(usize::from(label)).cloned().unwrap_or_default();
        let known = [image.to_string()].into_iter().chain(file).chain([label.to_string(), class]);
        lines.write_record(known.chain(row.iter().map(f32::to_string))).map_err(unwritten)
    };
    match values {
        true => rows.each_block(&mut |block| {
            block.chunks_exact(width).zip(images.by_ref()).try_for_each(|(row, image)| put(image, row))
        })?,
        false => images.try_for_each(|image| put(image, &[]))?,
    }
    let out = lines.into_inner().map_err(|error| Error::io("write", path)(error.into_error()))?;
    out.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_starts_at_a_multiple_of_64_bytes_and_text_has_a_line_an_image() {
        let directory = tempfile::tempdir().unwrap();
        let rows = Features::new(vec![1.0, 2.5, -3.0, 4.0, 5.0, 6.0], vec![1, 0], 3);
        let path = directory.path().join("a.npy");
        write_npy(&path, &rows).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let start = bytes.len() - 6 * 4;
        assert!(start.is_multiple_of(64) && bytes[start - 1] == b'\n');
        assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
        assert_eq!(usize::from(u16::from_le_bytes([bytes[8], bytes[9]])), start - 10);
        assert_eq!(bytes[start + 4..start + 8], 2.5_f32.to_le_bytes());

        let path = directory.path().join("a.csv");
        let classes = ["cat".to_owned(), "dog, wet".to_owned()];
        write_csv(&path, &rows, &classes, true).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "image,label,class,f0,f1,f2\n0,1,\"dog, wet\",1,2.5,-3\n1,0,cat,4,5,6\n");

        let named = rows.with_names(&["cat/a, b.png".to_owned(), "dog/c.png".to_owned()]);
        write_csv(&path, &named, &classes, false).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "image,file,label,class\n0,\"cat/a, b.png\",1,\"dog, wet\"\n1,dog/c.png,0,cat\n");
    }

    #[test]
    fn rows_of_many_blocks_are_all_there_once() {
        let directory = tempfile::tempdir().unwrap();
        let (images, width) = (5, 120_000);
        let values: Vec<f32> = (0..images * width).map(|number| number as f32).collect();
        let rows = Features::new(values.clone(), (0..images as u16).collect(), width);
        let path = directory.path().join("a");
        write_npy(&path, &rows).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (numbers, _) = bytes[bytes.len() - 4 * values.len()..].as_chunks();
        assert!(numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).eq(values));
        write_csv(&path, &rows, &[], true).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let starts: Vec<String> =
            text.lines().skip(1).map(|line| line.split(',').take(4).collect::<Vec<_>>().join(",")).collect();
        assert_eq!(starts, ["0,0,,0", "1,1,,120000", "2,2,,240000", "3,3,,360000", "4,4,,480000"]);
    }
}
