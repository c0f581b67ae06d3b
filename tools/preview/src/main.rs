//! `preview_augmentations`: a contact sheet of augmented images.

mod captions;
mod contact_sheet;

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use fovea_datasets::is_image_file;
use fovea_datasets::photo::{Filter, Fit, Orientation, Shaper};
use fovea_files::{read_regular, write_atomically};
use fovea_pipeline::decode::JpegDecoder;
use fovea_pipeline::geometry::Size;
use fovea_pipeline::order::Order;
use fovea_pipeline::view::Scratch;
use fovea_pipeline::{
    AugmentationConfig, Chain, ColorStatistics, Dataset, DatasetInfo, EvalCrops, ImageSizes, Mixing, Split,
    augment,
};
use fovea_tools::args::{number, seed};
use fovea_tools::data::{CacheArgs, RemoteError, is_url};
use fovea_tools::terminal::{USAGE, one_line};
use fovea_tools::{errln, outln, signals};
use fovea_trainer::recipe::{MOST_EPOCHS, Recipe, RecipeError};
use fovea_trainer::training::{TrainingError, check_images};

use crate::contact_sheet::{Original, SheetViews, draw};

/// Draws a contact sheet: each row an image with the frames of its crops, and the augmented views as the
/// network receives them (without subtraction of the mean). Below each view: the position of its upper left
/// corner, whether it is mirrored, the offsets added to red, green and blue, and the share of itself in an
/// image that a recipe mixes with that of the row above or below.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// An image file, a folder of images, a folder that prepare_imagenet has written, or the URL of a
    /// prepared data set.
    source: PathBuf,
    #[command(flatten)]
    cache: CacheArgs,
    /// Views of each image.
    #[arg(long, default_value_t = 8, value_name = "VIEWS", value_parser = number::<usize>(1..=64, "views"))]
    count: usize,
    /// Images, at most.
    #[arg(long, default_value_t = 6, value_name = "IMAGES", value_parser = number::<usize>(1..=64, "images"))]
    rows: usize,
    /// Seed of the choice of images and of their augmentation.
    #[arg(long, default_value_t = 0, value_parser = seed())]
    seed: u64,
    /// The picture to write, a PNG file.
    #[arg(long, default_value = "preview.png", value_name = "FILE")]
    out: PathBuf,
    /// Shows evaluation views instead: center, ten-crop (corners and centre, and their mirror images) or
    /// nine-crop (a grid of three by three).
    #[arg(long, value_name = "VIEWS", conflicts_with = "count")]
    views: Option<EvalCrops>,
    /// The same as --views ten-crop.
    #[arg(long, conflicts_with_all = ["count", "views"])]
    ten_crop: bool,
    /// The recipe whose augmentation is shown: a built-in name or a TOML file [default: the paper's crop of
    /// 7/8 of the side, mirroring and colour jitter]. Photos get the size that it trains on.
    #[arg(long, value_name = "NAME|FILE")]
    recipe: Option<String>,
    /// Shows the training images of this epoch, for recipes with images of several sizes.
    #[arg(
        long,
        default_value_t = 1,
        requires = "recipe",
        conflicts_with_all = ["views", "ten_crop"],
        value_parser = number::<u32>(1..=MOST_EPOCHS, "epochs")
    )]
    epoch: u32,
}

/// Side of photos in pixels where there is no recipe.
const PHOTO_SIDE_PX: u32 = 256;
/// Most pixels of a sheet, which takes 3 bytes for each.
const LARGEST_SHEET_PX: u64 = 1 << 28;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = signals::install().and_then(|()| run(&arguments));
    result.map(|()| ExitCode::SUCCESS).unwrap_or_else(|error| {
        errln!("error: {}", one_line(&error));
        let is_usage = error.is::<RecipeError>()
            || error.downcast_ref().is_some_and(TrainingError::is_usage)
            || error.downcast_ref().is_some_and(RemoteError::is_usage);
        ExitCode::from(if is_usage { USAGE } else { 1 })
    })
}

fn run(arguments: &Arguments) -> Result<()> {
    let recipe = arguments.recipe.as_deref().map(|name| Recipe::load(name, &[])).transpose()?;
    let Shown { originals, sizes, statistics } = shown(arguments, recipe.as_ref())?;
    let crop = match &recipe {
        Some(recipe) => u32::try_from(recipe.input.crop_px).context("the recipe's input.crop_px")?,
        None => sizes.smallest().width * 7 / 8,
    };
    let epochs_done = arguments.epoch - 1;
    let steps = recipe.as_ref().map_or_else(|| paper(crop), |recipe| recipe.train_augmentations(epochs_done));
    let chain = Chain::from_configs(&steps, sizes, Some(&statistics))?;
    let views = match arguments.views.or(arguments.ten_crop.then_some(EvalCrops::TenCrop)) {
        Some(views) => {
            let crop = Size::square(crop);
            views.check(sizes.smallest(), crop)?;
            SheetViews::Test { views, crop }
        }
        None => {
            let mixing = recipe.as_ref().map_or_else(Mixing::default, Recipe::mixing);
            SheetViews::Augmented { chain: &chain, count: arguments.count, seed: arguments.seed, mixing }
        }
    };
    let largest = originals.iter().map(|original| original.size.area() as u64).max().unwrap_or_default();
    let most = originals.len() as u64 * (views.count() as u64 + 1) * largest;
    ensure!(most <= LARGEST_SHEET_PX, "the picture would have {most} pixels; lower --count or --rows");
    let sheet = draw(&originals, &views);
    let mut png = Cursor::new(Vec::new());
    sheet.write_to(&mut png, image::ImageFormat::Png).context("cannot encode the picture")?;
    write_atomically(&arguments.out, |out| out.write_all(png.get_ref()))
        .with_context(|| format!("cannot write {}", arguments.out.display()))?;
    outln!("{}: {}x{} pixels", arguments.out.display(), sheet.width(), sheet.height())?;
    Ok(())
}

/// The augmentation of the paper with another size of crop.
fn paper(crop: u32) -> Vec<AugmentationConfig> {
    let mut steps = augment::alexnet();
    steps[0].parameters.insert("size".into(), crop.into());
    steps
}

/// The images to show.
struct Shown {
    originals: Vec<Original>,
    /// Their sizes, those that the recipe trains on.
    sizes: ImageSizes,
    /// The colour statistics that belong to them.
    statistics: ColorStatistics,
}

fn shown(arguments: &Arguments, recipe: Option<&Recipe>) -> Result<Shown> {
    let source = &arguments.source;
    if is_url(source) || source.join(DatasetInfo::FILE_NAME).is_file() {
        let dataset = arguments.cache.open(source)?;
        if let Some(recipe) = recipe {
            check_images(&dataset, recipe)?;
        }
        let statistics = dataset.info().statistics.clone().unwrap_or_else(ColorStatistics::imagenet);
        let (originals, sizes) = (from_shards(&dataset, arguments)?, dataset.info().image_sizes());
        return Ok(Shown { originals, sizes, statistics });
    }
    let metadata = fs::metadata(source).with_context(|| format!("cannot open {}", source.display()))?;
    let files = if metadata.is_dir() { image_files(source, arguments.rows)? } else { vec![source.clone()] };
    let side = match recipe {
        Some(recipe) => u32::try_from(recipe.input.image_px).context("the recipe's input.image_px")?,
        None => PHOTO_SIDE_PX,
    };
    let originals = files.iter().map(|file| from_photo(file, side)).collect::<Result<_>>()?;
    Ok(Shown { originals, sizes: Size::square(side).into(), statistics: ColorStatistics::imagenet() })
}

fn from_shards(dataset: &Dataset, arguments: &Arguments) -> Result<Vec<Original>> {
    let split = if dataset.info().train.is_empty() { Split::Val } else { Split::Train };
    let records = dataset.records(split)?;
    let order = Order::Shuffled.permutation(arguments.seed, 0, &[u32::try_from(records.len())?]);
    let mut decoder = JpegDecoder::default();
    let mut scratch = Scratch::default();
    order
        .into_iter()
        .take(arguments.rows)
        .map(|index| {
            let record = records.record(index as usize)?;
            let size = record.get().size;
            let mut planes = vec![0; 3 * size.area()];
            record.view(&mut decoder, &mut scratch)?.write_u8(&mut planes);
            let class = &dataset.info().classes[record.label() as usize];
            let name = class.name.split(',').next().unwrap_or(&class.wnid).to_owned();
            Ok(Original { name, planes, size })
        })
        .collect()
}

/// The first `most` image files of a folder, by name.
fn image_files(folder: &Path, most: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.is_file() && is_image_file(&path) {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!(
            "{}: neither a prepared data set (no dataset.json) nor a folder with image files",
            folder.display()
        );
    }
    files.sort();
    files.truncate(most);
    Ok(files)
}

/// A photo as preparation with its default options would store it.
fn from_photo(path: &Path, side_px: u32) -> Result<Original> {
    let bytes = read_regular(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (planes, size) = Shaper::new(side_px, Fit::ShortSide, Filter::Lanczos3)
        .planes_of(&bytes, Orientation::Ignore)
        .with_context(|| format!("cannot decode {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Original { name, planes, size })
}
