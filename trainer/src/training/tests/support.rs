//! Helpers that the tests share.

use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, thread};

use fovea_datasets::prepare::{PrepareOptions, Preparer, Progress};
use fovea_datasets::{Entry, Payload, Source, SourceError};
use fovea_pipeline::labels::{Label, LabelKind, Labels};
use fovea_pipeline::loader::OnBadRecord;
use fovea_pipeline::memory::{BatchMemory, HostMemory, MemoryProvider};
use fovea_pipeline::{Class, EvalCrops, Split};
use serde_json::Value;

use crate::backend::{
    BackendError, Description, Exchange, MicroBatch, NextImages, ParameterExtremes, Precision,
    ReferenceBackend, Rows, RowsId, Save, Setup, Targets, TrainingBackend, Updated,
};
use crate::checkpoint;
use crate::collective::Shares;
use crate::metrics::{self, BatchMetrics};
use crate::optimizer::Update;
use crate::recipe::Recipe;
use crate::state::Tensors;
use crate::training::{
    self, Observer, OnNan, Outcome, Report, RunFolder, RunOptions, RunSettings, Session, TrainingData,
    TrainingError, Warning,
};

pub const IMAGE_PX: u32 = 8;
pub const TRAIN: usize = 47;
pub const VAL: usize = 23;

/// Noisy images, each brighter in the channel of its class.
struct Colours {
    classes: Vec<Class>,
    train: Vec<Entry>,
    val: Vec<Entry>,
    salt: usize,
    labels: [Labels; 2],
}

impl Colours {
    fn new(classes: usize, val: usize, salt: usize, kind: LabelKind) -> Self {
        let entries = |name: &str, count| {
            (0..count)
                .map(|i| Entry { key: format!("{name}/{i:03}"), label: (i * 7 % classes) as u32 })
                .collect::<Vec<_>>()
        };
        let labels = |entries: &[Entry]| {
            let mut labels = Labels::new(kind, classes);
            for (at, Entry { label, .. }) in entries.iter().enumerate() {
                // The brightest channel, and every other image the first class too.
                let mark = |class| u8::from(class == *label as usize || class == 0 && at % 2 == 0);
                let marks: Vec<u8> = (0..classes).map(mark).collect();
                let values: Vec<f32> = (0..classes).map(|class| *label as f32 - class as f32).collect();
                labels.push(match kind {
                    LabelKind::Class => Label::Class(*label),
                    LabelKind::MultiHot => Label::MultiHot(&marks),
                    LabelKind::Values => Label::Values(&values),
                });
            }
            labels
        };
        let class = |i| Class { wnid: format!("n{i}"), ilsvrc_id: None, name: format!("colour {i}") };
        Self {
            classes: (0..classes).map(class).collect(),
            labels: [labels(&entries("train", TRAIN)), labels(&entries("val", val))],
            train: entries("train", TRAIN),
            val: entries("val", val),
            salt,
        }
    }
}

impl Source for Colours {
    fn name(&self) -> &'static str {
        "colours"
    }

    fn classes(&self) -> &[Class] {
        &self.classes
    }

    fn entries(&self, split: Split) -> &[Entry] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
        }
    }

    fn label_kind(&self) -> LabelKind {
        self.labels[0].kind()
    }

    fn label(&self, split: Split, index: usize) -> Label<'_> {
        self.labels[split as usize].get(index)
    }

    fn read<'b>(
        &self,
        split: Split,
        index: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Payload<'b>, SourceError> {
        let label = self.entries(split)[index].label as usize;
        let salt = self.salt + index * 131 + if split == Split::Val { 5003 } else { 0 };
        buffer.clear();
        for value in 0..(3 * IMAGE_PX * IMAGE_PX) as usize {
            let noise = (value * 7919 + salt * 104_729 + value * value % 613) % 101;
            buffer.push((60 + noise + if value % 3 == label % 3 { 60 } else { 0 }) as u8);
        }
        Ok(Payload::Pixels { width: IMAGE_PX, height: IMAGE_PX, rgb: buffer })
    }
}

/// A folder with a prepared data set, and room for runs.
pub struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        place.prepare("data", 3, VAL, 0);
        place
    }

    pub fn prepare(&self, name: &str, classes: usize, val: usize, salt: usize) -> PathBuf {
        let options = PrepareOptions { size: IMAGE_PX, ..PrepareOptions::default() };
        self.prepare_with(options, name, &Colours::new(classes, val, salt, LabelKind::Class))
    }

    /// The data set of three classes with labels of `kind`.
    pub fn prepare_labelled(&self, name: &str, kind: LabelKind) -> PathBuf {
        let options = PrepareOptions { size: IMAGE_PX, ..PrepareOptions::default() };
        self.prepare_with(options, name, &Colours::new(3, VAL, 0, kind))
    }

    /// The same images as in `data`, in several shards.
    pub fn prepare_small_shards(&self, name: &str) -> PathBuf {
        let shard_bytes = 10 * 3 * u64::from(IMAGE_PX).pow(2);
        let options = PrepareOptions { size: IMAGE_PX, shard_bytes, ..PrepareOptions::default() };
        self.prepare_with(options, name, &Colours::new(3, VAL, 0, LabelKind::Class))
    }

    fn prepare_with(&self, options: PrepareOptions, name: &str, source: &Colours) -> PathBuf {
        let folder = self.path(name);
        Preparer::new(source, options, &folder).unwrap().run(&Progress::default()).unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

/// A small network with all sources of randomness.
pub fn recipe(overrides: &[&str]) -> Recipe {
    let text = r#"
        name = "small"
        description = "colours, 8 pixels"
        input = { image_px = 8, crop_px = 6, mean = "image", scale = 0.015625 }
        augmentation = { train = [
            { op = "random_crop" },
            { op = "horizontal_flip" },
            { op = "pca_jitter" },
        ] }
        optimizer = { learning_rate = 0.05, momentum = 0.9, weight_decay = 0.0005 }
        schedule = { kind = "reduce_on_plateau", gamma = 0.1, times = 3, patience = 1, threshold = 0.001 }
        training = { batch_size = 8, epochs = 3 }
        evaluation = { every_epoch = "center", at_end = "ten-crop" }
        [network]
        layer = [
            { name = "fc1", kind = "linear", out = 6, weight_std = 0.1 },
            { name = "relu1", kind = "activation", function = "relu" },
            { name = "drop1", kind = "dropout", p = 0.5 },
            { name = "fc2", kind = "linear", weight_std = 0.1 },
        ]
    "#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.toml");
    fs::write(&path, text).unwrap();
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Recipe::load(path.to_str().unwrap(), &overrides).unwrap_or_else(|error| panic!("{error}"))
}

pub fn options() -> RunOptions {
    let settings = RunSettings {
        data: PathBuf::new(),
        cache: None,
        cache_limit: None,
        limit_batches: None,
        micro_batch: None,
        parts: 1,
        window: None,
        precision: Precision::F32,
        seed: 5,
        on_nan: OnNan::Stop,
        on_bad_record: OnBadRecord::Stop,
    };
    RunOptions { settings, workers: 2, checkpoint_every: Duration::from_secs(3600) }
}

/// A run in preparation.
pub struct Attempt<'a> {
    pub place: &'a Place,
    pub data: &'a str,
    pub run: &'a str,
    pub recipe: Recipe,
    pub options: RunOptions,
    pub rows: usize,
    /// Whether it resumes from the last checkpoint.
    pub resumes: bool,
    pub watcher: Watcher,
    /// Passes, counted from 0, whose loss is made NaN, and whether weights are lost with it.
    pub spoilt: &'a [u32],
    /// Passes, counted from 0, whose gradients overflow.
    pub overflowing: &'a [u32],
    pub lost: bool,
    /// Passes after which weights are exported as infinite.
    pub infinite_after: Option<u32>,
    /// The memory of batches.
    pub blocks: Blocks,
    /// Whether the backend takes the images of the next micro-batch in advance.
    pub fetches_ahead: bool,
    /// How often it got the images that it took in advance.
    pub fetched: usize,
    /// Whether the backend was left in the middle of a step.
    pub is_amid_a_step: bool,
}

impl<'a> Attempt<'a> {
    pub fn new(place: &'a Place, run: &'a str) -> Self {
        Self {
            place,
            data: "data",
            run,
            recipe: recipe(&[]),
            options: options(),
            rows: 8,
            resumes: false,
            watcher: Watcher::default(),
            spoilt: &[],
            overflowing: &[],
            lost: false,
            infinite_after: None,
            blocks: Blocks::default(),
            fetches_ahead: false,
            fetched: 0,
            is_amid_a_step: false,
        }
    }

    pub fn go(&mut self) -> Result<Outcome, TrainingError> {
        let data = TrainingData::open(&self.place.path(self.data), &self.recipe)?;
        let run = self.place.path(self.run);
        let folder = if self.resumes { RunFolder::open(&run, 2)? } else { RunFolder::create(&run, 2)? };
        let setup = Setup::new(
            &self.recipe,
            data.classes().len(),
            self.rows,
            data.mean(),
            self.options.settings.seed,
        )
        .unwrap();
        let mut inner = ReferenceBackend::new(&setup)?;
        if self.is_amid_a_step {
            let images = vec![9; 3 * self.recipe.input.crop_px.pow(2)];
            let rows = Rows { images: &images, color_offsets: &[[0.0; 3]], targets: Targets::Classes(&[0]) };
            let id = RowsId { epoch: 9, batch: 9, first_row: 0 };
            inner.accumulate(rows, MicroBatch { seed: 0, step: 0, id, gradient_scale: 1.0 })?;
        }
        let (spoilt, overflowing, lost) = (self.spoilt, self.overflowing, self.lost);
        let (infinite_after, blocks) = (self.infinite_after, self.blocks.clone());
        let ahead = self.fetches_ahead.then(Ahead::default);
        let mut backend =
            Spoiling { inner, passes: 0, spoilt, overflowing, lost, infinite_after, blocks, ahead };
        let stop = AtomicBool::new(false);
        let mut watching = Watching { watcher: &mut self.watcher, stop: &stop };
        let mut options = self.options.clone();
        options.settings.data = self.place.path(self.data);
        let session = Session::open(&self.recipe, &data, options, &folder)?;
        let outcome = session.train(&mut backend, &stop, &mut watching);
        self.fetched = backend.ahead.map_or(0, |ahead| ahead.fetched);
        outcome
    }

    pub fn finish(&mut self) -> Report {
        match self.go().unwrap_or_else(|error| panic!("{error}")) {
            Outcome::Finished(report) => report,
            interrupted => panic!("{interrupted:?}"),
        }
    }

    pub fn be_interrupted(&mut self) {
        let outcome = self.go().unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(outcome, Outcome::Interrupted { .. }), "{outcome:?}");
    }
}

/// Records events, and stops runs.
#[derive(Default)]
pub struct Watcher {
    pub warnings: Vec<Warning>,
    pub losses: Vec<f64>,
    /// Numbers of epochs, and the sides of their images in pixels.
    pub sizes: Vec<(u32, usize)>,
    /// Stop before the first update.
    pub stop_at_once: bool,
    /// Stop after this many updates.
    pub stop_after_steps: Option<usize>,
    /// A folder that is moved after this many updates, and where to.
    pub moves: Option<(usize, [PathBuf; 2])>,
    /// Stop after this many progress reports of evaluations.
    pub stop_after_reports: Option<usize>,
    reports: usize,
}

struct Watching<'a> {
    watcher: &'a mut Watcher,
    stop: &'a AtomicBool,
}

impl Observer for Watching<'_> {
    fn started(&mut self, _plan: &training::RunPlan) {
        self.stop.store(self.watcher.stop_at_once, Ordering::Relaxed);
    }

    fn training_on(&mut self, epoch: u32, px: usize) {
        self.watcher.sizes.push((epoch, px));
    }

    fn step(&mut self, step: &metrics::Step, _batch: u64) {
        self.watcher.losses.push(step.loss);
        if let Some((_, [from, to])) =
            self.watcher.moves.as_ref().filter(|(after, _)| *after == self.watcher.losses.len())
        {
            fs::rename(from, to).unwrap();
        }
        if self.watcher.stop_after_steps == Some(self.watcher.losses.len()) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn evaluating(&mut self, _views: EvalCrops, _images: u64, _of: u64) {
        self.watcher.reports += 1;
        if self.watcher.stop_after_reports == Some(self.watcher.reports) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn finished(&mut self, report: &Report) {
        let images = if report.split == Split::Val { VAL } else { TRAIN };
        assert_eq!(report.score.images, images as u64);
    }

    fn warn(&mut self, warning: &Warning) {
        self.watcher.warnings.push(warning.clone());
    }
}

/// Memory with known blocks, so that a backend can check that images are in them.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// Addresses of the live blocks.
    alive: Arc<Mutex<Vec<Range<usize>>>>,
    made: Arc<AtomicUsize>,
}

impl Blocks {
    /// Blocks that were ever allocated, and those that are live.
    pub fn count(&self) -> (usize, usize) {
        (self.made.load(Ordering::Relaxed), self.alive.lock().unwrap().len())
    }

    fn hold(&self, images: &[u8]) -> bool {
        let addresses = images.as_ptr_range();
        let (start, end) = (addresses.start.addr(), addresses.end.addr());
        self.alive.lock().unwrap().iter().any(|block| block.start <= start && end <= block.end)
    }
}

impl MemoryProvider for Blocks {
    fn allocate(&mut self, bytes: usize) -> Result<Box<dyn BatchMemory>, Box<dyn Error + Send + Sync>> {
        let memory = HostMemory.allocate(bytes)?;
        let addresses = memory.bytes().as_ptr_range();
        let addresses = addresses.start.addr()..addresses.end.addr();
        self.made.fetch_add(1, Ordering::Relaxed);
        self.alive.lock().unwrap().push(addresses.clone());
        Ok(Box::new(Block { memory, addresses, blocks: self.clone() }))
    }
}

#[derive(Debug)]
struct Block {
    memory: Box<dyn BatchMemory>,
    addresses: Range<usize>,
    blocks: Blocks,
}

// SAFETY: the memory is that of another implementation, which no other owner has.
unsafe impl BatchMemory for Block {
    fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.blocks.alive.lock().unwrap().retain(|addresses| *addresses != self.addresses);
    }
}

/// The announced next images.
#[derive(Default)]
struct Ahead {
    /// Their id and content.
    promised: Option<(RowsId, Vec<u8>)>,
    fetched: usize,
}

impl Ahead {
    /// A pace that the loader keeps up with.
    const STEP: Duration = Duration::from_millis(3);

    fn compare(&mut self, id: RowsId, images: &[u8]) {
        thread::sleep(Self::STEP);
        if let Some((_, promised)) = self.promised.take().filter(|(promised, _)| *promised == id) {
            assert!(promised.starts_with(images), "the images have changed since they were fetched");
            self.fetched += 1;
        }
    }
}

/// The reference backend with its own memory for batches, in which some losses are NaN and some gradients
/// overflow.
struct Spoiling<'a> {
    inner: ReferenceBackend,
    passes: u32,
    spoilt: &'a [u32],
    overflowing: &'a [u32],
    lost: bool,
    infinite_after: Option<u32>,
    blocks: Blocks,
    ahead: Option<Ahead>,
}

impl TrainingBackend for Spoiling<'_> {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    fn batch_rows(&self) -> usize {
        self.inner.batch_rows()
    }

    fn batch_memory(&self) -> Result<Box<dyn MemoryProvider>, BackendError> {
        Ok(Box::new(self.blocks.clone()))
    }

    fn set_training_px(&mut self, px: usize) -> Result<(), BackendError> {
        self.inner.set_training_px(px)
    }

    fn accumulate(&mut self, rows: Rows<'_>, micro_batch: MicroBatch) -> Result<BatchMetrics, BackendError> {
        assert!(self.blocks.hold(rows.images), "images of a step were copied");
        if let Some(ahead) = &mut self.ahead {
            ahead.compare(micro_batch.id, rows.images);
        }
        let mut sums = self.inner.accumulate(rows, micro_batch)?;
        if self.spoilt.contains(&self.passes) {
            sums.loss = f64::NAN;
        }
        self.passes += 1;
        Ok(sums)
    }

    fn fetches_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    fn accumulate_and_fetch(
        &mut self,
        rows: Rows<'_>,
        micro_batch: MicroBatch,
        next: NextImages<'_>,
    ) -> Result<BatchMetrics, BackendError> {
        let sums = self.accumulate(rows, micro_batch)?;
        if let Some(ahead) = &mut self.ahead {
            ahead.promised = Some((next.id, next.images.to_vec()));
        }
        Ok(sums)
    }

    fn update(&mut self, update: Update) -> Result<Updated, BackendError> {
        if self.overflowing.contains(&(self.passes - 1)) {
            self.inner.reset_gradients();
            return Ok(Updated::Overflow { loss_scale: 0.5 });
        }
        self.inner.update(update)
    }

    fn end_part(&mut self) -> Result<(), BackendError> {
        self.inner.end_part()
    }

    fn lend_gradients(&mut self, sum: &mut Exchange<'_>) -> Result<(), BackendError> {
        self.inner.lend_gradients(sum)
    }

    fn squares(&mut self) -> Result<Vec<f64>, BackendError> {
        self.inner.squares()
    }

    fn lend_weights(&mut self, gather: &mut Exchange<'_>) -> Result<(), BackendError> {
        self.inner.lend_weights(gather)
    }

    fn lend_average(&mut self, gather: &mut Exchange<'_>) -> Result<(), BackendError> {
        self.inner.lend_average(gather)
    }

    fn lend_slots(&mut self, lend: &mut dyn FnMut(&[f32], &Shares)) -> Result<(), BackendError> {
        self.inner.lend_slots(lend)
    }

    fn reset_gradients(&mut self) {
        self.inner.reset_gradients();
        if let Some(ahead) = &mut self.ahead {
            ahead.promised = None;
        }
    }

    fn evaluate(&mut self, rows: Rows<'_>, probabilities: &mut [f32]) -> Result<BatchMetrics, BackendError> {
        assert!(self.blocks.hold(rows.images), "images of an evaluation were copied");
        self.inner.evaluate(rows, probabilities)
    }

    fn extremes(&mut self) -> Result<Vec<ParameterExtremes>, BackendError> {
        let mut extremes = self.inner.extremes()?;
        if self.lost {
            extremes[0].weight = f32::NAN;
        }
        Ok(extremes)
    }

    fn export_with(&mut self, slots: &[Vec<f32>], save: &mut Save<'_>) -> Result<(), BackendError> {
        if self.infinite_after.is_none_or(|passes| self.passes < passes) {
            return self.inner.export_with(slots, save);
        }
        self.inner.export_with(slots, &mut |tensors| {
            let infinite = vec![f32::INFINITY; tensors[0].1.values.len()];
            let mut tensors = tensors.to_vec();
            tensors[0].1.values = &infinite;
            save(&tensors);
        })
    }

    fn import(&mut self, state: Tensors) -> Result<(), BackendError> {
        self.inner.import(state)
    }
}

/// The results of a run, without times: tensors and state of the last checkpoint, steps, epochs.
pub fn traces(run: &Path) -> (Vec<u8>, Value, Vec<Value>, Vec<Vec<String>>) {
    let last = checkpoint::Store::new(run, 9).latest().unwrap();
    let tensors = fs::read(last.join("state.safetensors")).unwrap();
    let meta = serde_json::from_str(&fs::read_to_string(last.join("checkpoint.json")).unwrap()).unwrap();
    let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let steps = lines.lines().map(|line| {
        let mut step: Value = serde_json::from_str(line).unwrap();
        for timed in ["images_per_s", "data_wait"] {
            step.as_object_mut().unwrap().remove(timed).unwrap();
        }
        step
    });
    let table = fs::read_to_string(run.join("epochs.csv")).unwrap();
    let epochs = table.lines().map(|line| line.split(',').take(9).map(str::to_owned).collect());
    (tensors, meta, steps.collect(), epochs.collect())
}
