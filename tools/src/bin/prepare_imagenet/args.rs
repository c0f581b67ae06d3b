//! The command line and the options that it stands for.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use fovea_datasets::photo::{Filter, Fit, Orientation};
use fovea_datasets::prepare::PrepareOptions;
use fovea_datasets::{Layout, OpenOptions, Reading};
use fovea_pipeline::{Encoding, UnknownName, cores};
use fovea_tools::args::{number, one_of, seed, threads};
use fovea_tools::bytes;
use fovea_tools::data::{self, CacheArgs, is_url};

/// Makes shards for training out of ImageNet or another collection of labelled images.
///
/// Without a command it prepares. The layout of the images is detected. An interrupted run resumes when the
/// same command is given again. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
#[derive(Debug, Parser)]
#[command(
    name = "prepare_imagenet",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub prepare: PrepareArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read every byte of a prepared data set and check digests, checksums, counts, labels and images
    Verify {
        /// Folder or URL of the data set; from a URL every shard is fetched
        #[arg(value_name = "DIR|URL")]
        dir: PathBuf,
        #[command(flatten)]
        cache: CacheArgs,
        /// Threads [default: number of cores]
        #[arg(long, value_parser = threads())]
        workers: Option<NonZeroUsize>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print a summary of a prepared data set
    Inspect {
        /// Folder or URL of the data set; from a URL no shard is fetched, so the images of classes are not
        /// counted
        #[arg(value_name = "DIR|URL")]
        dir: PathBuf,
        #[command(flatten)]
        cache: CacheArgs,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub struct PrepareArgs {
    /// Training images: ILSVRC2012_img_train.tar, a folder, or a data set with both splits
    #[arg(long, value_name = "PATH", required_unless_present_any = ["val", "embedded_sample"])]
    train: Option<PathBuf>,
    /// Validation images: ILSVRC2012_img_val.tar or a folder
    #[arg(long, value_name = "PATH")]
    val: Option<PathBuf>,
    /// ILSVRC development kit: classes and validation labels
    #[arg(long, value_name = "PATH")]
    devkit: Option<PathBuf>,
    /// Labels of the photos in the folder --train, a CSV file with a line for each photo. Its header is
    /// file,label (a class), file,labels (any number of classes, separated by ; or |) or file,NAME,NAME,…
    /// (numbers), perhaps with a column split (train or val)
    #[arg(long, value_name = "FILE", requires = "train", conflicts_with_all = ["val", "devkit", "layout"])]
    labels: Option<PathBuf>,
    /// Folder to write to, or s3://, gs:// or az:// to upload to: shards first, dataset.json last
    #[arg(long, value_name = "DIR|URL", required = true)]
    out: Option<PathBuf>,
    /// Folder in which the data set is prepared before it is uploaded to a URL, and stays [default: one for
    /// the URL in `prepare` in FOVEA_CACHE or ~/.cache/fovea]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Layout of the images; folders whose names do not tell are classes or splits
    #[arg(long, value_parser = one_of::<LayoutChoice>(LayoutChoice::names()), default_value = "auto")]
    layout: LayoutChoice,
    /// Orientation in the EXIF data of photos: ignore it, as ImageNet's readers do, or apply it
    #[arg(long, value_parser = one_of::<Orientation>(Orientation::ALL.map(Orientation::name)), default_value_t = Orientation::Ignore)]
    orientation: Orientation,
    /// What becomes of rectangles: short-side stores the square at the centre, squash distorts to a square,
    /// keep stores the whole photo; of one longer than 16 to 1, the middle
    #[arg(long, visible_alias = "shape", value_parser = one_of::<Fit>(Fit::ALL.map(Fit::name)), default_value_t = Fit::ShortSide)]
    resize: Fit,
    /// Kernel for resizing
    #[arg(long, value_parser = one_of::<Filter>(Filter::ALL.map(Filter::name)), default_value_t = Filter::Lanczos3)]
    filter: Filter,
    /// Side of the images in pixels; with --resize keep the shorter side. Smaller photos are enlarged
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = number::<u32>(1..=PrepareOptions::MAX_SIZE.into(), "pixels"))]
    size: u32,
    /// Seed of the order of the training images
    #[arg(long, default_value_t = 0, value_parser = seed())]
    seed: u64,
    /// How images are stored: raw pixels are fastest to read, JPEG takes an eighth of the space
    #[arg(long, value_parser = one_of::<Encoding>(Encoding::ALL.map(Encoding::name)), default_value_t = Encoding::Raw)]
    encoding: Encoding,
    /// JPEG quality, 1 to 100, with --encoding jpeg [default: 90]
    #[arg(long, value_parser = number::<u8>(1..=100, "(the usual scale of JPEG)"))]
    quality: Option<u8>,
    /// Approximate size of a shard, in bytes or with a unit
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = bytes::parse)]
    shard_size: u64,
    /// Take only the first K images of each class and split
    #[arg(long, value_name = "K", value_parser = number::<usize>(1..=MOST_IMAGES, "images"))]
    limit_per_class: Option<usize>,
    /// Threads that decode and resize [default: number of cores]
    #[arg(long, value_name = "N", value_parser = threads())]
    workers: Option<NonZeroUsize>,
    /// Prepare again what DIR holds if images were added, removed or changed since; refused without this
    #[arg(long)]
    update: bool,
    /// Fail when more images than this cannot be decoded [default: 0 for all of ILSVRC-2012, else any number]
    #[arg(long, value_name = "N", value_parser = number::<u64>(0..=MOST_IMAGES, "images"))]
    pub max_rejects: Option<u64>,
    /// Compare size and MD5 of the ILSVRC-2012 files with the official ones first
    #[arg(long, conflicts_with = "embedded_sample")]
    pub verify_tars: bool,
    /// Prepare the small data set inside this program (Fashion-MNIST)
    #[arg(long, conflicts_with_all = ["train", "val", "devkit", "labels", "layout"])]
    pub embedded_sample: bool,
    /// Name every file and class that a note of the summary counts
    #[arg(long)]
    pub list_skipped: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Most images that can be asked for.
const MOST_IMAGES: u64 = 1_000_000_000;

/// A value of `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LayoutChoice {
    /// `auto`, `classes` and `splits`.
    Folders(Reading),
    /// The name of a layout.
    Named(Layout),
}

impl LayoutChoice {
    const READINGS: [(&'static str, Reading); 3] =
        [("auto", Reading::Detect), ("classes", Reading::Classes), ("splits", Reading::Splits)];

    fn names() -> impl Iterator<Item = &'static str> {
        Self::READINGS.into_iter().map(|(name, _)| name).chain(Layout::ALL.map(Layout::name))
    }
}

impl FromStr for LayoutChoice {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        match Self::READINGS.into_iter().find(|(known, _)| *known == name) {
            Some((_, reading)) => Ok(Self::Folders(reading)),
            None => name.parse().map(Self::Named),
        }
    }
}

impl PrepareArgs {
    /// The output folder.
    ///
    /// # Errors
    /// When it is at a URL, and there is no folder to prepare in.
    pub fn out(&self) -> anyhow::Result<PathBuf> {
        match self.url() {
            None => Ok(self.out.clone().expect("clap requires it where there is no subcommand")),
            Some(url) => {
                let folder =
                    || Some(fovea_files::cache_folder()?.join("prepare").join(data::folder_name(url)));
                self.work
                    .clone()
                    .or_else(folder)
                    .context("there is no folder to prepare in: give one with --work")
            }
        }
    }

    /// What is given and has no effect.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let quality = self.quality.is_some() && self.encoding == Encoding::Raw;
        let work = self.work.is_some() && self.url().is_none();
        [
            (quality, "--quality has no effect on raw pixels; --encoding jpeg stores JPEGs"),
            (work, "--work has no effect: --out is a folder, in which the data set is prepared at once"),
        ]
        .into_iter()
        .filter_map(|(is_given, note)| is_given.then_some(note))
        .collect()
    }

    /// The URL to upload to.
    pub fn url(&self) -> Option<&str> {
        self.out.as_deref().filter(|out| is_url(out))?.to_str()
    }

    /// The source. Archives are inflated to where the shards will be, where there is room: into the output
    /// folder, or if it is not there yet into the folder that it will be created in.
    pub fn open_options(&self) -> OpenOptions {
        let (layout, reading) = match self.layout {
            LayoutChoice::Folders(reading) => (None, reading),
            LayoutChoice::Named(layout) => (Some(layout), Reading::Detect),
        };
        OpenOptions {
            train: self.train.clone(),
            val: self.val.clone(),
            devkit: self.devkit.clone(),
            labels: self.labels.clone(),
            layout,
            reading,
            scratch_dir: self.out().ok().as_deref().and_then(existing_folder),
        }
    }

    /// Options of the preparation.
    pub fn prepare_options(&self) -> PrepareOptions {
        PrepareOptions {
            size: self.size,
            orientation: self.orientation,
            fit: self.resize,
            filter: self.filter,
            encoding: self.encoding,
            quality: self.quality.unwrap_or(PrepareOptions::default().quality),
            seed: self.seed,
            shard_bytes: self.shard_size,
            limit_per_class: self.limit_per_class,
            workers: self.workers.unwrap_or_else(cores),
            update: self.update,
        }
    }
}

/// The folder itself or the nearest one above it that exists.
fn existing_folder(path: &Path) -> Option<PathBuf> {
    let folders = path.ancestors().map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    folders.into_iter().find(|folder| folder.is_dir()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let cli = Cli::parse_from(["prepare_imagenet", "--train", "t", "--out", "o"]);
        assert_eq!(cli.prepare.prepare_options(), PrepareOptions::default());
    }

    #[test]
    fn the_layout_names_a_layout_or_says_what_folders_are() {
        for (name, layout, reading) in [
            ("auto", None, Reading::Detect),
            ("classes", None, Reading::Classes),
            ("splits", None, Reading::Splits),
            ("kaggle", Some(Layout::Kaggle), Reading::Detect),
        ] {
            let cli = Cli::parse_from(["prepare_imagenet", "--train", "t", "--out", "o", "--layout", name]);
            let options = cli.prepare.open_options();
            assert_eq!((options.layout, options.reading), (layout, reading), "{name}");
        }
    }

    #[test]
    fn options_without_effect_are_named() {
        for (out, more, names) in [
            ("o", &["--quality", "90"][..], &["--quality"][..]),
            ("o", &["--quality", "80", "--encoding", "jpeg"], &[]),
            ("o", &["--work", "w"], &["--work"]),
            ("s3://bucket/o", &["--work", "w"], &[]),
            ("o", &[], &[]),
        ] {
            let given = ["prepare_imagenet", "--train", "t", "--out", out];
            let notes = Cli::parse_from(given.iter().chain(more)).prepare.without_effect();
            let found: Vec<_> = notes.iter().filter_map(|note| note.split(' ').next()).collect();
            assert_eq!(found, names, "{out} {more:?}");
        }
    }

    #[test]
    fn archives_are_inflated_where_the_shards_will_be() {
        let there = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (out, scratch) in [
            (there.to_owned(), there),
            (there.join("no-such-folder/below"), there),
            ("no-such-folder".into(), Path::new(".")),
        ] {
            assert_eq!(existing_folder(&out).as_deref(), Some(scratch), "{}", out.display());
        }
    }

    #[test]
    fn a_subcommand_needs_no_source_and_preparing_does() {
        assert!(Cli::try_parse_from(["prepare_imagenet", "verify", "d"]).is_ok());
        assert!(Cli::try_parse_from(["prepare_imagenet", "--out", "o"]).is_err());
        assert!(Cli::try_parse_from(["prepare_imagenet", "--train", "t"]).is_err());
    }
}
