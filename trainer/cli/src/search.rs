//! `search`: images that look alike to the network.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use fovea_analysis::features::{Extractor, ImageReader, Nearest, Neighbour};
use fovea_analysis::figure::{self, Cell, Color, Picture, Pictures, Row};
use fovea_files::write_atomically;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::records::StoredRecord;
use fovea_pipeline::text::printable;
use fovea_pipeline::{EvalCrops, Records, cores};
use fovea_tools::bars::titled_bar;
use fovea_tools::outln;
use fovea_tools::terminal::print_json;
use fovea_trainer::backend::Precision;
use fovea_trainer::training::{TrainedModel, TrainingError};
use serde_json::json;

use super::args::SearchArgs;
use super::features::{check_folder_of, layer};
use super::photo_input::PhotoInput;
use super::{NEVER, WrongUsage, data, device};

pub fn search(args: &SearchArgs) -> anyhow::Result<ExitCode> {
    if let Some(out) = &args.out {
        is_svg(out)?;
        check_folder_of(out)?;
    }
    let trained = TrainedModel::load(&args.trained.run, args.trained.checkpoint)?;
    let layer = layer(args.layer.as_deref(), &*trained.network.network)?;
    let input = PhotoInput::for_run(&args.trained.run, &trained.recipe, EvalCrops::Center)?;
    let photos = args.images.iter().map(|path| input.views_of(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let dataset = data::open_for(&args.cache, &args.data, &trained.recipe)?;
    let records = Arc::new(dataset.records(args.split).map_err(TrainingError::from)?);
    let (loaded, options) = device::runtime(&args.runtime, None, Precision::F32)?;
    let mut extractor = Extractor::new(trained, Some(&layer), loaded, &options)?;

    let queries = extractor.run(&photos.concat())?.features;
    let of_photo = |query: &[f32]| Nearest::new(query.to_vec(), args.count.get());
    let mut nearest: Vec<Nearest> = queries.chunks_exact(extractor.width()).map(of_photo).collect();
    let bar = titled_bar("looking", records.len() as u64, "images");
    let workers = args.workers.unwrap_or_else(cores).get();
    // An interrupt ends the process.
    extractor.run_all::<TrainingError>(&records, workers, &NEVER, &mut |first, activations| {
        nearest.iter_mut().for_each(|nearest| nearest.offer(first, &activations.features));
        bar.set_position(first as u64);
        Ok(())
    })?;
    bar.finish_and_clear();
    let found: Vec<Vec<Neighbour>> = nearest.iter().map(Nearest::found).collect();
    let names: Vec<String> = dataset.info().classes.iter().map(|class| class.name.clone()).collect();
    let findings = Findings { args, records, names, photos, found, crop: input.crop };
    findings.print()?;
    if let Some(out) = &args.out {
        findings.draw(out, &layer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Photos and what was found for each.
struct Findings<'a> {
    args: &'a SearchArgs,
    records: Arc<Records>,
    names: Vec<String>,
    /// `u8 [3,H,W]` each.
    photos: Vec<Vec<u8>>,
    found: Vec<Vec<Neighbour>>,
    crop: Size,
}

impl Findings<'_> {
    fn name(&self, record: &StoredRecord) -> &str {
        let label = usize::try_from(record.label()).ok();
        label.and_then(|label| self.names.get(label)).map_or("?", String::as_str)
    }

    fn print(&self) -> anyhow::Result<()> {
        if self.args.json {
            let of_photo = |(path, found): (_, &Vec<Neighbour>)| {
                let nearest = found.iter().map(|found| self.json(found)).collect::<Result<Vec<_>, _>>()?;
                anyhow::Ok(json!({ "image": path, "nearest": nearest }))
            };
            let all: Vec<_> =
                self.args.images.iter().zip(&self.found).map(of_photo).collect::<Result<_, _>>()?;
            print_json(&all)?;
            return Ok(());
        }
        for (path, found) in self.args.images.iter().zip(&self.found) {
            outln!("{}", printable(&path.to_string_lossy()))?;
            for found in found {
                let record = self.records.record(found.index)?;
                let (name, key) = (self.name(&record), record.key());
                outln!("  {:>9.3}  {}  ({})", found.distance, printable(name), printable(&key))?;
            }
        }
        Ok(())
    }

    fn json(&self, found: &Neighbour) -> anyhow::Result<serde_json::Value> {
        let record = self.records.record(found.index)?;
        Ok(json!({
            "index": found.index,
            "key": record.key(),
            "label": record.label(),
            "class": self.name(&record),
            "distance": found.distance,
        }))
    }

    fn draw(&self, out: &Path, layer: &str) -> anyhow::Result<()> {
        let mut reader = ImageReader::new(Arc::clone(&self.records));
        let picture = |planes: &[u8]| Picture::from_planes(self.crop.width, self.crop.height, planes);
        let mut rows = Vec::new();
        for ((path, photo), found) in self.args.images.iter().zip(&self.photos).zip(&self.found) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let lines = vec![(name, Color::Ink)];
            let mut cells = vec![Cell { lines, frame: Some(Color::Series(0)), ..Cell::new(picture(photo)) }];
            for found in found {
                let planes = reader.center(found.index, self.crop)?;
                let distance = (format!("{:.2}", found.distance), Color::Faint);
                let name = self.name(&self.records.record(found.index)?).to_owned();
                let lines = vec![(name, Color::Ink), distance];
                cells.push(Cell { lines, ..Cell::new(picture(&planes)) });
            }
            rows.push(Row { cells, ..Row::default() });
        }
        let title = format!("Nearest images by Euclidean distance in {layer}");
        let svg = Pictures { title, side_px: 112.0, gap_px: 12.0, rows }.svg();
        let bytes = if is_svg(out)? { svg.standalone().into_bytes() } else { figure::png(&svg)? };
        write_atomically(out, |file| file.write_all(&bytes))
            .with_context(|| format!("cannot write {}", out.display()))
    }
}

/// Whether a picture is to be SVG rather than PNG.
fn is_svg(path: &Path) -> Result<bool, WrongUsage> {
    match path.extension().and_then(OsStr::to_str) {
        Some("svg") => Ok(true),
        Some("png") => Ok(false),
        _ => Err(WrongUsage(format!("{}: expected a name that ends with .png or .svg", path.display()))),
    }
}
