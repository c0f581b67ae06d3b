//! Training of image classifiers through ONNX Runtime: recipes, networks, optimizers, backends, the training
//! loop, checkpoints and metrics.
//!
//! ```text
//! Recipe ──► models ──► Setup ──► TrainingBackend ◄── rows, sums ──► Session ──► Outcome
//! TrainingData (shards) ──────────────────────────── batches ──────────► │
//!                                          metrics, checkpoints ◄────────┘ in the RunFolder
//! ```
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//! use std::time::Duration;
//!
//! use fovea_pipeline::cores;
//! use fovea_runtime::{DeviceChoice, Options, environment};
//! use fovea_trainer::backend::{OrtBackend, OrtOptions, Precision};
//! use fovea_trainer::recipe::Recipe;
//! use fovea_trainer::training::{OnNan, RunFolder, RunOptions, RunSettings, Session, TrainingData};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let recipe = Recipe::load("alexnet", &["training.epochs=10".to_owned()])?;
//! let data = TrainingData::open(Path::new("shards"), &recipe)?;
//! let settings = RunSettings {
//!     data: "shards".into(),
//!     limit_batches: None,
//!     micro_batch: None, // the whole batch at once
//!     parts: 1,
//!     window: None, // shuffles all images among each other
//!     cache: None, // where shards of a URL go
//!     cache_limit: None,
//!     precision: Precision::F32,
//!     seed: 0,
//!     on_nan: OnNan::Stop,
//!     on_bad_record: Default::default(),
//! };
//! let checkpoint_every = Duration::from_secs(1800);
//! let options = RunOptions { settings, workers: cores().get(), checkpoint_every };
//! let folder = RunFolder::create(Path::new("runs/mine"), 3)?; // keeps 3 checkpoints
//! let session = Session::open(&recipe, &data, options, &folder)?;
//!
//! let device = DeviceChoice::Auto.resolve(); // the first GPU, else the CPU
//! let runtime = environment(&Options::from_env(device.build()), &mut ())?;
//! let mut backend = OrtBackend::new(runtime, &session.setup()?, OrtOptions::new(device))?;
//!
//! let stop = AtomicBool::new(false); // set it to end the run with a checkpoint
//! let outcome = session.train(&mut backend, &stop, &mut ())?; // `()` ignores progress
//! println!("{outcome:?}");
//! # Ok(())
//! # }
//! ```
//!
//! * [`recipe`] is what to train: a TOML file, built in or your own, with overrides.
//! * [`models`] makes networks into graphs for training, evaluation and export.
//! * [`optimizer`] has update rules and schedules of the learning rate.
//! * [`backend`] computes: ONNX Runtime on the CPU or a GPU, or a slow reference in plain Rust.
//! * [`training`] is the loop: runs, evaluation, resuming; [`training::TrainedModel`] is its result.
//! * [`collective`] connects the processes that train together.
//! * [`checkpoint`] and [`metrics`] are what it writes; [`state`] and [`names`] the tensors in them.
//! * [`mod@bench`] times training steps.

pub mod backend;
pub mod bench;
pub mod checkpoint;
pub mod collective;
pub mod metrics;
pub mod models;
pub mod names;
pub mod optimizer;
pub mod recipe;
pub mod state;
pub mod training;
