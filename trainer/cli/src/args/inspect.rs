//! The command line of the commands that report on a run or use its network for features and search.

use std::num::NonZero;
use std::path::PathBuf;

use clap::Args;
use fovea_pipeline::Split;
use fovea_tools::args::{number, one_of, threads};
use fovea_tools::data::CacheArgs;

use super::{RuntimeArgs, TrainedArgs};

#[derive(Args, Debug)]
pub struct ReportArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    /// Folder or URL of a prepared data set [default: the one that the run was trained on]
    #[arg(long, value_name = "DIR|URL")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// File of the page; the folder `figures` next to it gets each figure as SVG and PNG [default:
    /// RUN/report.html]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the report again whenever the run has advanced, checking every so many seconds, until
    /// interrupted; meanwhile the page reloads itself
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10", value_parser = number::<NonZero<u32>>(1..=86_400, "seconds"))]
    pub watch: Option<NonZero<u32>>,
    /// Images of each split that the network predicts, evenly spread over the split
    #[arg(long, value_name = "N", default_value = "2000", value_parser = number::<NonZero<usize>>(1..=1_000_000, "images"))]
    pub images: NonZero<usize>,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

#[derive(Args, Debug)]
pub struct FeaturesArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    /// Folder or URL of a prepared data set
    #[arg(value_name = "DIR|URL")]
    pub data: PathBuf,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Layer of the network; for one from an .onnx file, the name of a node [default: the last hidden one,
    /// after its activation]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// File to write: .safetensors (features, labels, and keys: names, UTF-8, one a line; the layer, run,
    /// checkpoint and classes in its metadata) or .npy (features; label, WordNet ID and key of each image in
    /// a .csv next to it)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Split of the images
    #[arg(long, value_parser = one_of::<Split>(Split::ALL.map(Split::name)), default_value_t = Split::Val)]
    pub split: Split,
    /// Threads that make batches [default: number of cores]
    #[arg(long, value_name = "THREADS", value_parser = threads())]
    pub workers: Option<NonZero<usize>>,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

#[derive(Args, Debug)]
pub struct SearchArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    /// Photos: JPEG, PNG, WebP, GIF, BMP, TIFF or PNM
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Folder or URL of the prepared data set to search
    #[arg(long = "in", value_name = "DATA")]
    pub data: PathBuf,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Split to search
    #[arg(long, value_parser = one_of::<Split>(Split::ALL.map(Split::name)), default_value_t = Split::Train)]
    pub split: Split,
    /// Nearest images to print for each photo
    #[arg(long, value_name = "N", default_value = "8", value_parser = number::<NonZero<usize>>(1..=1000, "images"))]
    pub count: NonZero<usize>,
    /// Layer of the network whose activations are compared; for one from an .onnx file, the name of a node
    /// [default: the last hidden one, after its activation]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Draw photos and found images to this file, .png or .svg [default: no picture]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Threads that make batches [default: number of cores]
    #[arg(long, value_name = "THREADS", value_parser = threads())]
    pub workers: Option<NonZero<usize>>,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
