//! Output at the end, as text and as JSON.

use std::fmt::Write;
use std::path::Path;

use fovea_datasets::Note;
use fovea_datasets::photo::Orientation;
use fovea_datasets::prepare::{Preparation, REJECTED_FILE, Summary};
use fovea_datasets::verify::Report;
use fovea_pipeline::room::Room;
use fovea_pipeline::summary::count;
use fovea_pipeline::text::printable;
use fovea_pipeline::{Class, ColorStatistics, DatasetInfo, ImageShape, LabelKind, Split};
use fovea_tools::bytes;
use serde_json::{Value, json};

/// The speed of this run.
pub struct Pace {
    pub seconds: f64,
    /// Images that this run has read, without those of earlier runs.
    pub images: u64,
}

impl Pace {
    fn images_per_s(&self) -> f64 {
        if self.seconds > 0.0 { self.images as f64 / self.seconds } else { 0.0 }
    }
}

pub fn summary_text(
    summary: &Summary,
    notes: &[Note],
    list_skipped: bool,
    out: &Path,
    pace: &Pace,
) -> String {
    let mut text = format!("{}\n", path(out));
    text.push_str(&description(&summary.info, summary.orientation));
    if summary.rejected > 0 {
        let list = out.join(REJECTED_FILE);
        line(&mut text, "rejected", &format!("{}, see {}", count(summary.rejected, "image"), path(&list)));
    }
    if pace.images > 0 {
        let speed = format!("{:.1} s, {:.0} images/s", pace.seconds, pace.images_per_s());
        line(&mut text, "time", &speed);
    } else {
        line(&mut text, "time", "nothing was left to do");
    }
    for about in notes {
        line(&mut text, "note", &note(about));
        if list_skipped {
            for name in &about.names {
                // Writing to a string does not fail.
                let _ = writeln!(text, "    {}", printable(name));
            }
        }
    }
    text
}

/// The folder or archive and what is to be said about it.
pub fn note(note: &Note) -> String {
    format!("{}: {}", path(&note.path), note.message)
}

fn path(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

pub fn summary_json(
    summary: &Summary,
    notes: &[Note],
    list_skipped: bool,
    out: &Path,
    pace: &Pace,
    max_rejects: Option<u64>,
) -> Value {
    let mut value = description_json(&summary.info, summary.orientation);
    value["directory"] = json!(out);
    value["rejected"] = json!(summary.rejected);
    value["max_rejects"] = json!(max_rejects);
    value["notes"] = notes
        .iter()
        .map(|note| {
            let mut value = json!({
                "kind": note.kind, "path": note.path, "count": note.count, "message": note.message,
            });
            if list_skipped {
                value["names"] = json!(note.names);
            }
            value
        })
        .collect();
    value["shards_kept"] = json!(summary.shards_kept);
    value["seconds"] = json!(pace.seconds);
    value["images_per_s"] = json!(pace.images_per_s());
    value
}

pub fn too_many_rejects(rejected: u64, max: u64, out: &Path) -> String {
    format!(
        "{} could not be decoded, more than the {max} allowed; the shards are complete without them and {} gives \
         the reasons: repair the source, or accept with --max-rejects {rejected}",
        count(rejected, "image"),
        out.join(REJECTED_FILE).display()
    )
}

pub fn verify_text(report: &Report, dir: &Path) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "{}: {}", path(&problem.path), printable(&problem.what));
    }
    let verdict = match report.problems.len() {
        0 => "all is well".to_owned(),
        problems => count(problems as u64, "problem"),
    };
    let (images, shards) = (count(report.images, "image"), count(report.shards as u64, "shard"));
    let _ = writeln!(text, "{}: {images} in {shards}, {verdict}", path(dir));
    text
}

pub fn verify_json(report: &Report) -> Value {
    let problems: Vec<Value> = report
        .problems
        .iter()
        .map(|problem| json!({ "path": problem.path, "problem": problem.what }))
        .collect();
    json!({ "shards": report.shards, "images": report.images, "problems": problems })
}

/// `images` has the number of images of each class, in training and validation.
pub fn inspect_text(
    info: &DatasetInfo,
    preparation: Option<&Preparation>,
    images: Option<&[[u64; 2]]>,
    dir: &Path,
) -> String {
    let mut text = format!("{}\n", path(dir));
    text.push_str(&description(info, orientation_of(preparation)));
    line(&mut text, "written by", &format!("{} (format {})", info.writer, info.format_version));
    if let Some(preparation) = preparation {
        let resize = format!("{}, {}, seed {}", preparation.resize, preparation.filter, preparation.seed);
        line(&mut text, "resize", &resize);
    }
    let smallest = Room::of(info).training_bytes;
    let size = bytes::describe(smallest);
    line(&mut text, "cache", &format!("from a URL, --cache-limit {smallest} ({size}) or more trains"));
    describe_classes(&mut text, info, images.unwrap_or_default());
    text
}

/// A line for each class: its images in training and validation, its id, and its name if that is another.
fn describe_classes(text: &mut String, info: &DatasetInfo, images: &[[u64; 2]]) {
    if info.labels == LabelKind::Values {
        text.push('\n');
        for name in &info.classes {
            line(text, "number", &printable(&name.wnid));
        }
        return;
    }
    if images.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  {:>9} {:>9}  class", "train", "val");
    for (class, [train, val]) in info.classes.iter().zip(images) {
        let wnid = printable(&class.wnid);
        let name = if class.name == class.wnid { "".into() } else { printable(&class.name) };
        let _ = writeln!(text, "{}", format!("  {train:>9} {val:>9}  {wnid}  {name}").trim_end());
    }
}

pub fn inspect_json(
    info: &DatasetInfo,
    preparation: Option<&Preparation>,
    images: Option<&[[u64; 2]]>,
) -> Value {
    let mut value = description_json(info, orientation_of(preparation));
    value["writer"] = json!(info.writer);
    value["format_version"] = json!(info.format_version);
    value["preparation"] = json!(preparation);
    value["smallest_cache_bytes"] = json!(Room::of(info).training_bytes);
    let class = |(class, [train, val]): (&Class, &[u64; 2])| json!({ "class": class.wnid, "name": class.name, "train": train, "val": val });
    let images = images.filter(|_| info.labels != LabelKind::Values);
    value["images_of_classes"] =
        images.map(|images| info.classes.iter().zip(images).map(class).collect::<Vec<_>>()).into();
    value
}

/// Data sets without a record are of earlier versions or of other programs.
fn orientation_of(preparation: Option<&Preparation>) -> Orientation {
    preparation.map(|preparation| preparation.orientation).unwrap_or_default()
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "  {name:<12}{value}");
}

/// How many classes or numbers labels have.
pub fn outputs(labels: LabelKind, outputs: usize) -> String {
    match labels {
        LabelKind::Class => count(outputs as u64, "class"),
        LabelKind::MultiHot => format!("any of {}", count(outputs as u64, "class")),
        LabelKind::Values => count(outputs as u64, "number"),
    }
}

fn split_bytes(info: &DatasetInfo, split: Split) -> u64 {
    info.shards(split).iter().map(|shard| shard.bytes).sum()
}

fn description(info: &DatasetInfo, orientation: Orientation) -> String {
    let mut text = String::new();
    let side = info.image_size;
    line(&mut text, "source", &info.source);
    let pixels = match info.image_shape {
        ImageShape::Square => format!("{side}x{side} pixels"),
        ImageShape::Keep => format!("whole photos, shorter side {side} pixels"),
    };
    line(&mut text, "images", &format!("{pixels}, {}", info.encoding));
    match info.labels {
        LabelKind::Class => line(&mut text, "classes", &info.classes.len().to_string()),
        labels => line(&mut text, "labels", &outputs(labels, info.classes.len())),
    }
    for split in Split::ALL {
        let images = count(info.images(split), "image");
        let shards = count(info.shards(split).len() as u64, "shard");
        let size = bytes::describe(split_bytes(info, split));
        line(&mut text, split.name(), &format!("{images} in {shards}, {size}"));
    }
    if info.turned_images > 0 {
        let photos = count(info.turned_images, "photo");
        let what = match orientation {
            Orientation::Ignore => {
                format!("{photos} not upright by EXIF; --orientation apply turns them")
            }
            Orientation::Apply => format!("{photos} turned upright by EXIF"),
        };
        line(&mut text, "orientation", &what);
    }
    if info.cut_images > 0 {
        let photos = count(info.cut_images, "photo");
        let most = ImageShape::MOST_ASPECT;
        line(&mut text, "cut", &format!("{photos} longer than {most} to 1, of which the middle is stored"));
    }
    if let Some(statistics) = &info.statistics {
        describe_colors(&mut text, statistics);
    }
    text
}

fn describe_colors(text: &mut String, statistics: &ColorStatistics) {
    let row = |values: [f64; 3]| values.map(|value| format!("{value:8.4}")).join(" ");
    line(text, "mean RGB", &row(statistics.mean));
    for (eigenvalue, vector) in statistics.eigenvalues.into_iter().zip(statistics.eigenvectors) {
        let deviation = eigenvalue.max(0.0).sqrt();
        line(text, "RGB axis", &format!("{} standard deviation {deviation:.2}", row(vector)));
    }
}

fn description_json(info: &DatasetInfo, orientation: Orientation) -> Value {
    let split = |split| {
        json!({
            "images": info.images(split),
            "shards": info.shards(split).len(),
            "bytes": split_bytes(info, split),
        })
    };
    json!({
        "source": info.source,
        "image_size": info.image_size,
        "image_shape": info.image_shape,
        "encoding": info.encoding,
        "labels": info.labels,
        "classes": info.classes.len(),
        "train": split(Split::Train),
        "val": split(Split::Val),
        "orientation": orientation,
        "turned_images": info.turned_images,
        "cut_images": info.cut_images,
        "statistics": info.statistics,
    })
}
