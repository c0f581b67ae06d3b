//! The command line.

mod gradients;
mod inspect;
mod launched;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fovea_analysis::comparison::Metric;
use fovea_pipeline::EvalCrops;
use fovea_pipeline::loader::OnBadRecord;
use fovea_runtime::DeviceChoice;
use fovea_tools::args::{number, one_of, seconds, seed, threads};
use fovea_tools::data::CacheArgs;
use fovea_trainer::backend::Precision;
use fovea_trainer::models::PixelType;
use fovea_trainer::recipe::{Head, MOST_BATCH, MOST_EPOCHS, MOST_OUTPUTS, MOST_PX};
use fovea_trainer::training::{CheckpointChoice, OnNan};

pub use gradients::GradientsArgs;
pub use inspect::{FeaturesArgs, ReportArgs, SearchArgs};
pub use launched::{CollectiveKind, LaunchedArgs};

/// Trains image classifiers on prepared shards.
///
/// Without a command it trains; without any argument it trains a small network on a small data set inside the
/// program, which takes some minutes. Progress goes to stderr, results to stdout. Exit codes: 0 done, 1
/// failed, 2 wrong usage, recipe, network or data set, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "trainer", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub train: TrainArgs,
}

impl Cli {
    /// The options of ONNX Runtime, if the command uses it.
    pub fn runtime(&self) -> Option<&RuntimeArgs> {
        match &self.command {
            None => self.train.training.device.used(),
            Some(Command::Launch(args)) => args.train.training.device.used(),
            Some(Command::Compare(args)) => args.training.device.used(),
            Some(Command::Evaluate(args)) => args.device.used(),
            Some(Command::Predict(args)) => args.device.used(),
            Some(Command::Report(args)) => Some(&args.runtime),
            Some(Command::Features(args)) => Some(&args.runtime),
            Some(Command::Search(args)) => Some(&args.runtime),
            Some(Command::Bench(args)) => Some(&args.runtime),
            // These compute nothing, and write graphs for a device that need not be in this machine.
            Some(
                Command::Export(_)
                | Command::Graphs(_)
                | Command::Gradients(_)
                | Command::Inspect(_)
                | Command::Recipes { .. },
            ) => None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Launch(LaunchArgs),
    Compare(CompareArgs),
    /// Measure the error of a trained network on validation images, or on the training images if there are no
    /// others
    Evaluate(EvaluateArgs),
    /// Classify photos: the five best classes with their probabilities
    Predict(PredictArgs),
    /// Write a page about a run, finished or not: curves, kernels, predictions, nearest images, confusion
    Report(ReportArgs),
    /// Write the activations of a layer for all images of a data set, in their order
    Features(FeaturesArgs),
    /// Find the images of a data set that the network finds most similar to photos
    Search(SearchArgs),
    /// Write a trained network as an ONNX file that any ONNX Runtime runs
    Export(ExportArgs),
    /// Write the graphs of a training session and its initial state
    Graphs(GraphsArgs),
    Gradients(GradientsArgs),
    /// Time training steps on one batch of noise, in one process or several, or measure the loader's share
    Bench(BenchArgs),
    /// Show the network of an .onnx file: layers, parameters, and what training changes
    Inspect(InspectArgs),
    /// List the built-in recipes, or print one whole
    Recipes {
        /// Built-in recipe or a file to print, as TOML that can be edited and used
        #[arg(value_name = "NAME|FILE")]
        recipe: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Launch(_) => "launch",
            Self::Compare(_) => "compare",
            Self::Evaluate(_) => "evaluate",
            Self::Predict(_) => "predict",
            Self::Report(_) => "report",
            Self::Features(_) => "features",
            Self::Search(_) => "search",
            Self::Export(_) => "export",
            Self::Graphs(_) => "graphs",
            Self::Gradients(_) => "gradients",
            Self::Bench(_) => "bench",
            Self::Inspect(_) => "inspect",
            Self::Recipes { .. } => "recipes",
        }
    }
}

/// Train in several processes of this machine, connected by MPI or NCCL
///
/// Starts mpiexec with this program and the options of training, or the processes themselves with
/// --collective nccl. The recipe's batch is shared by the processes, each of which computes one or more of
/// its parts; the result is the same, to the bit, for any number of processes with the same --parts. Over
/// several machines, start `trainer` with mpiexec, srun or torchrun yourself.
#[derive(Args, Debug)]
pub struct LaunchArgs {
    /// Number of processes
    #[arg(long, value_name = "N")]
    pub ranks: NonZero<usize>,
    #[command(flatten)]
    pub train: TrainArgs,
}

#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// Folder or URL of a prepared data set [default: the small one inside this program]
    #[arg(long, value_name = "DIR|URL")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Built-in recipe (see `trainer recipes`) or a file [default: alexnet with --data, else demo]
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "resume")]
    pub recipe: Option<String>,
    /// An .onnx file whose network replaces the recipe's layers; training starts from the file's values
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub network: Option<PathBuf>,
    /// A .safetensors file with the initial values of the network, by the names of PyTorch's state_dict; a
    /// last layer for other classes is made new
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub weights: Option<PathBuf>,
    /// Last layer of --network: `auto` makes a new one for the classes of the data set, `file` keeps it
    /// [default: the recipe's, file unless it is finetune]
    #[arg(long, value_name = "WHICH", requires = "network", conflicts_with = "resume", value_parser = one_of::<Head>(Head::ALL.map(Head::name)))]
    pub classes: Option<Head>,
    /// Seed of initial weights, order, augmentation and dropout
    #[arg(long, default_value_t = 0, conflicts_with = "resume", value_parser = seed())]
    pub seed: u64,
    /// Shuffle images among this many shards at a time, so that only those and as many that follow are needed
    /// at once: for slow disks, and caches smaller than the data set [default: all, or what the cache holds]
    #[arg(long, value_name = "SHARDS", conflicts_with = "resume")]
    pub window: Option<NonZero<u32>>,
    /// Folder for checkpoints and metrics [default: the first free of runs/RECIPE-1, runs/RECIPE-2, …]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub run: Option<PathBuf>,
    /// Resume the run in this folder from its last checkpoint
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub launched: LaunchedArgs,
    /// Seconds that a process waits for the others beyond the time of two steps, before it takes one for lost
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub deadline: Duration,
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of every command that trains.
#[derive(Args, Clone, Debug)]
pub struct TrainingArgs {
    /// Passes over the training images [default: the recipe's, 90 for alexnet]
    #[arg(long, value_name = "N", value_parser = number::<NonZero<u32>>(1..=MOST_EPOCHS, "epochs"))]
    pub epochs: Option<NonZero<u32>>,
    /// Override a key of the recipe, as in optimizer.learning_rate=0.02; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Images of an update [default: the recipe's, 128 for alexnet]
    #[arg(long, value_name = "IMAGES", allow_negative_numbers = true)]
    pub batch_size: Option<String>,
    /// Images that the device processes at once, if memory does not suffice for a whole batch; gradients are
    /// accumulated [default: the batch]
    #[arg(long, value_name = "IMAGES", value_parser = images())]
    pub micro_batch: Option<NonZero<usize>>,
    /// Equal parts of a batch whose gradients are computed one by one and added in a fixed order, by any
    /// number of processes that divides them into 1, 2, 4 … each [default: the number of processes, or the
    /// run's]
    #[arg(long, value_name = "PARTS")]
    pub parts: Option<NonZero<usize>>,
    /// Threads that make batches [default: number of cores]
    #[arg(long, value_name = "THREADS", value_parser = threads())]
    pub workers: Option<NonZero<usize>>,
    /// End each epoch after this many batches [default: no limit]
    #[arg(long, value_name = "BATCHES", value_parser = number::<NonZero<u64>>(1..=MOST_COUNTED, "batches"))]
    pub limit_batches: Option<NonZero<u64>>,
    /// Minutes between checkpoints within an epoch, in addition to the one after each epoch
    #[arg(long, value_name = "MINUTES", default_value = "30", value_parser = minutes)]
    pub checkpoint_minutes: Duration,
    /// Checkpoints that are kept in addition to the best
    #[arg(long, value_name = "N", default_value = "3", value_parser = number::<NonZero<usize>>(1..=MOST_COUNTED, "checkpoints"))]
    pub keep: NonZero<usize>,
    /// On a batch whose loss is not finite: stop the run with a report, or skip the batch [default: stop, or
    /// the run's choice]
    #[arg(long, value_parser = one_of::<OnNan>(OnNan::ALL.map(OnNan::name)))]
    pub on_nan: Option<OnNan>,
    /// On a damaged image: stop the run, or skip the image [default: stop, or the run's choice]
    #[arg(long, value_parser = one_of::<OnBadRecord>(OnBadRecord::ALL.map(OnBadRecord::name)))]
    pub on_bad_record: Option<OnBadRecord>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub step: StepArgs,
}

/// Train recipes, each with its own tuned learning rate, and compare how fast or how far they train
///
/// Every trial is an ordinary run in OUT/RECIPE/rate-RATE/seed-SEED. An interrupted comparison that is
/// started again with the same arguments resumes; a run made by hand in such a folder is used. The learning
/// rate is tuned with seed 0; the other seeds train with the best rate. With --until, the rates train one
/// epoch each in turn, and a trial ends once it has reached the target or can no longer be the fastest; every
/// 4 epochs a rate is pruned if another reached its metric in 3/4 of the epochs; the time to the target is
/// interpolated between epochs. Without --until each trial has all epochs, and the rate with the lowest last
/// value is the best. When the best rate is the lowest or the highest, one beyond it is tried, at most twice
/// in each direction. A rate is also pruned if its loss is not finite, or is above ln K (K classes) after
/// three epochs and no lower than in the first. OUT gets comparison.json, comparison.csv and a chart,
/// comparison.svg and comparison.png.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Built-in recipes (see `trainer recipes`) or files, two or more; --set and the like apply to all
    #[arg(required = true, value_name = "RECIPE")]
    pub recipes: Vec<String>,
    /// Folder or URL of a prepared data set [default: the small one inside this program]
    #[arg(long, value_name = "DIR|URL")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Metric to compare. The training error is the top-1 error over an epoch's images as they are trained
    /// on: augmented, with dropout, each before its update; the training loss likewise. The validation error
    /// is measured after each epoch
    #[arg(long, value_parser = one_of::<Metric>(Metric::ALL.map(Metric::name)), default_value = Metric::TrainError.name())]
    pub metric: Metric,
    /// Train until the metric is this low; errors are shares, as in 0.25 [default: train all epochs]
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    pub until: Option<f64>,
    /// Number of seeds, counted from 0
    #[arg(long, value_name = "K", default_value = "3", value_parser = number::<NonZero<u32>>(1..=1000, "seeds"))]
    pub seeds: NonZero<u32>,
    /// Learning rates to try, for all recipes [default: a third of the recipe's own, its own, three times its
    /// own]
    #[arg(
        long,
        value_name = "R,R,…",
        value_delimiter = ',',
        allow_negative_numbers = true,
        conflicts_with = "no_tuning"
    )]
    pub rates: Vec<f64>,
    /// Train each recipe with its own learning rate only
    #[arg(long)]
    pub no_tuning: bool,
    /// Folder for runs and result [default: runs/compare-RECIPE+RECIPE…]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub training: TrainingArgs,
    /// Print the content of comparison.json instead of the table
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// Backend: ONNX Runtime, a slow reference in plain Rust, or nothing (to measure the loader)
    #[arg(long, value_enum, default_value = "ort")]
    pub backend: BackendKind,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

impl DeviceArgs {
    /// Those of ONNX Runtime, if it computes.
    pub fn used(&self) -> Option<&RuntimeArgs> {
        (self.backend == BackendKind::Ort).then_some(&self.runtime)
    }
}

#[derive(Args, Clone, Debug)]
pub struct RuntimeArgs {
    /// Device: auto, cpu, cuda or cuda:1; auto takes a GPU if NVIDIA's driver has one
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// ONNX Runtime's shared library [default: ORT_DYLIB_PATH, else fetched into the cache]
    #[arg(long, value_name = "PATH")]
    pub ort_dylib: Option<PathBuf>,
    /// Threads of ONNX Runtime [default: number of cores]
    #[arg(long, value_name = "THREADS", value_parser = threads())]
    pub threads: Option<NonZero<usize>>,
    /// Precision of forward and backward: f32; tf32, where a GPU may round the factors of products to 10
    /// bits; f16, half precision with an adaptive loss scale. Weights are f32 in all of them [default: f32,
    /// or the run's]
    #[arg(long, value_parser = one_of::<Precision>(Precision::ALL.map(Precision::name)))]
    pub precision: Option<Precision>,
}

/// How training steps run.
#[derive(Args, Clone, Debug)]
pub struct StepArgs {
    /// Launch a GPU's kernels one by one, instead of recording a training step once and replaying it
    #[arg(long)]
    pub no_cuda_graph: bool,
    /// Copy each batch to a GPU when its step begins, instead of during the step before
    #[arg(long)]
    pub no_copy_ahead: bool,
    /// On the CPU, compute by ONNX Runtime's standard operators alone
    #[arg(long)]
    pub standard_operators: bool,
    /// On a GPU, compute max-pools and local response normalisation by kernels of Fovea's own, which have not
    /// been measured yet
    #[arg(long)]
    pub own_cuda_kernels: bool,
}

#[derive(Args, Debug)]
pub struct TrainedArgs {
    /// Folder of a run
    pub run: PathBuf,
    /// Checkpoint to use: the one with the lowest error after an epoch, or the last
    #[arg(long, value_parser = one_of::<CheckpointChoice>(CheckpointChoice::ALL.map(CheckpointChoice::name)), default_value_t = CheckpointChoice::Best)]
    pub checkpoint: CheckpointChoice,
}

#[derive(Args, Debug)]
pub struct ViewsArgs {
    /// Views of each image over which predictions are averaged: center, ten-crop (corners and centre, each
    /// also mirrored) or nine-crop (a grid of three by three)
    #[arg(long, value_parser = one_of::<EvalCrops>(EvalCrops::ALL.map(EvalCrops::name)), default_value_t = EvalCrops::Center)]
    views: EvalCrops,
    /// The same as --views ten-crop
    #[arg(long, conflicts_with = "views")]
    ten_crop: bool,
}

impl ViewsArgs {
    /// The requested views.
    pub fn views(&self) -> EvalCrops {
        if self.ten_crop { EvalCrops::TenCrop } else { self.views }
    }
}

#[derive(Args, Debug)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    /// Folder or URL of a prepared data set [default: the one that the run was trained on]
    #[arg(long, value_name = "DIR|URL")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArgs,
    #[command(flatten)]
    pub views: ViewsArgs,
    /// Images that the device processes at once [default: the recipe's batch]
    #[arg(long, value_name = "IMAGES", value_parser = images())]
    pub batch_size: Option<NonZero<usize>>,
    /// Threads that make batches [default: number of cores]
    #[arg(long, value_name = "THREADS", value_parser = threads())]
    pub workers: Option<NonZero<usize>>,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct PredictArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    /// Photos: JPEG, PNG, WebP, GIF, BMP, TIFF or PNM
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    #[command(flatten)]
    pub views: ViewsArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Type of the pixels that the graph takes, 0 to 255 in both; `[N,3,H,W]`, RGB [default: u8; for a
    /// network from a file, its own normalised input and names]
    #[arg(long, value_parser = one_of::<PixelType>(PixelType::ALL.map(PixelType::name)))]
    pub pixels: Option<PixelType>,
}

#[derive(Args, Debug)]
pub struct GraphsArgs {
    /// Built-in recipe or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "alexnet")]
    pub recipe: String,
    /// Override a key of the recipe; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Prepared data set that the mean and the number of classes come from [default: the mean that the recipe
    /// gives, else 127.5; --classes]
    #[arg(long, value_name = "DIR", conflicts_with = "classes")]
    pub data: Option<PathBuf>,
    /// Number of classes
    #[arg(long, default_value = "1000", value_parser = classes())]
    pub classes: NonZero<usize>,
    /// Rows of a batch [default: the recipe's batch]
    #[arg(long, value_name = "ROWS", value_parser = images())]
    pub batch_size: Option<NonZero<usize>>,
    /// Seed of the initial weights
    #[arg(long, default_value_t = 0, value_parser = seed())]
    pub seed: u64,
    /// Target device of the gradients' implementation: cpu or cuda
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
    /// Precision of the graphs; tf32 only selects the implementation, the session that runs them must enable
    /// the rounding
    #[arg(long, value_parser = one_of::<Precision>(Precision::ALL.map(Precision::name)), default_value_t = Precision::F32)]
    pub precision: Precision,
}

#[derive(Args, Debug)]
pub struct InspectArgs {
    /// The .onnx file
    #[arg(value_name = "FILE")]
    pub network: PathBuf,
    /// Side of the images [default: that of the file, or 224]
    #[arg(long, value_name = "PX", value_parser = number::<NonZero<usize>>(1..=MOST_PX, "pixels"))]
    pub px: Option<NonZero<usize>>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Built-in recipe or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "alexnet")]
    pub recipe: String,
    /// An .onnx file whose network replaces the recipe's layers, with a new last layer for the classes
    #[arg(long, value_name = "FILE")]
    pub network: Option<PathBuf>,
    /// Override a key of the recipe; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Measure the loader's cost: steps on batches of this prepared data set, against repeated steps on one
    /// of them
    #[arg(long, value_name = "DIR|URL")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Threads that make batches, with --data [default: number of cores]
    #[arg(long, value_name = "THREADS", requires = "data", value_parser = threads())]
    pub workers: Option<NonZero<usize>>,
    /// Number of classes
    #[arg(long, default_value = "1000", conflicts_with = "data", value_parser = classes())]
    pub classes: NonZero<usize>,
    /// Images of a batch [default: the recipe's batch]
    #[arg(long, value_name = "IMAGES", value_parser = images())]
    pub batch_size: Option<NonZero<usize>>,
    /// Images that the device processes at once; several numbers are measured one after the other, each in a
    /// process of its own [default: the batch]
    #[arg(long, value_name = "IMAGES,…", value_delimiter = ',', value_parser = images(), conflicts_with_all = ["data", "state", "ranks", "parts"])]
    pub micro_batch: Vec<NonZero<usize>>,
    /// Steps to take, of which the first ones are slower; with --data, steps of a block: two blocks of each
    /// kind alternate
    #[arg(long, value_name = "N", default_value = "5", value_parser = number::<NonZero<usize>>(1..=MOST_COUNTED, "steps"))]
    pub steps: NonZero<usize>,
    /// Take no step, and write the initial weights and the batch to this folder, to compare other programs
    /// from the same start
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "json"])]
    pub state: Option<PathBuf>,
    /// Share the steps among this many processes of this machine, and say what the exchange costs; over
    /// several machines, start this command with mpiexec or srun
    #[arg(long, value_name = "N", conflicts_with_all = ["data", "state"])]
    pub ranks: Option<NonZero<usize>>,
    /// With several processes: equal parts of a batch [default: the number of processes]
    #[arg(long, value_name = "PARTS", conflicts_with_all = ["data", "state"])]
    pub parts: Option<NonZero<usize>>,
    #[command(flatten)]
    pub launched: LaunchedArgs,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub step: StepArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Most batches, steps and checkpoints that can be asked for.
const MOST_COUNTED: u64 = 1_000_000_000;

/// A number of images that are computed at once.
fn images() -> impl Fn(&str) -> Result<NonZero<usize>, String> + Clone + Send + Sync + 'static {
    number(1..=MOST_BATCH, "images")
}

/// A number of classes.
fn classes() -> impl Fn(&str) -> Result<NonZero<usize>, String> + Clone + Send + Sync + 'static {
    number(1..=MOST_OUTPUTS, "classes")
}

/// Minutes above 0.
fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| *minutes > 0.0);
    minutes
        .and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok())
        .ok_or_else(|| "expected a number of minutes above 0".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    Ort,
    Reference,
    Null,
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
    fn training_needs_no_arguments_and_the_other_commands_name_a_run() {
        assert!(Cli::parse_from(["trainer"]).command.is_none());
        for bad in [
            &["trainer", "evaluate"][..],
            &["trainer", "predict", "run"],
            &["trainer", "export", "run"],
            &["trainer", "--resume", "a", "--run", "b"],
            &["trainer", "--device", "gpu"],
            &["trainer", "--limit-batches", "0"],
            &["trainer", "evaluate", "run", "--views", "ten"],
            &["trainer", "evaluate", "run", "--views", "center", "--ten-crop"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn views_are_requested_by_name() {
        for (given, expected) in [
            (&[][..], EvalCrops::Center),
            (&["--ten-crop"], EvalCrops::TenCrop),
            (&["--views", "ten-crop"], EvalCrops::TenCrop),
            (&["--views", "nine-crop"], EvalCrops::NineCrop),
        ] {
            let cli = Cli::parse_from([&["trainer", "evaluate", "run"], given].concat());
            let Some(Command::Evaluate(args)) = cli.command else { panic!("{given:?}") };
            assert_eq!(args.views.views(), expected);
        }
    }
}
