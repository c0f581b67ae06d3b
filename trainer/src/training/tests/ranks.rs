//! Runs of several processes, which are threads here.

use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fovea_pipeline::loader::OnBadRecord;
use fovea_pipeline::shard_files::ShardFiles;
use fovea_pipeline::{Dataset, DatasetError, LabelKind, ShardInfo};

use super::support::*;
use crate::backend::{Precision, ReferenceBackend, Setup, TrainingBackend};
use crate::collective::fake::{Fake, Faults, ranks_with, run, with_ranks};
use crate::collective::{Collective, CollectiveError, Ranks};
use crate::recipe::Recipe;
use crate::training::{
    Observer, Outcome, Report, RunFolder, RunOptions, Session, TrainingData, TrainingError, Warning,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Makes a backend of a precision.
pub type Make = fn(&Setup<'_>, Precision) -> Box<dyn TrainingBackend>;

/// A run of several ranks.
pub struct Together<'a> {
    pub place: &'a Place,
    pub data: &'a str,
    pub run: &'a str,
    pub recipe: Recipe,
    pub options: RunOptions,
    pub backend: Make,
    pub resumes: bool,
    /// The update after which a rank is asked to stop.
    pub stops: Option<(usize, u64)>,
    /// A rank, and the shard that it cannot get.
    pub lacks: Option<(usize, &'static str)>,
}

/// The files of a folder, but for one.
#[derive(Debug)]
struct Lacking {
    folder: PathBuf,
    missing: &'static str,
}

impl ShardFiles for Lacking {
    fn are_permanent(&self) -> bool {
        false
    }

    fn check(&self, _: &[ShardInfo]) -> Result<(), DatasetError> {
        Ok(())
    }

    fn fetch(&self, shard: &ShardInfo, _: &dyn Fn() -> bool) -> Result<PathBuf, DatasetError> {
        match shard.file == self.missing {
            true => Err(DatasetError::NotFetched { file: shard.file.clone(), reason: "gone".into() }),
            false => Ok(self.folder.join(&shard.file)),
        }
    }

    fn fetch_ahead(&self, _: &[&ShardInfo]) {}

    fn set_aside(&self, _: &ShardInfo) {}

    fn release(&self, _: &ShardInfo) {}
}

pub fn reference(setup: &Setup<'_>, _: Precision) -> Box<dyn TrainingBackend> {
    Box::new(ReferenceBackend::new(setup).unwrap_or_else(|error| panic!("{error}")))
}

/// Sets a flag after some updates.
struct Stopping<'a> {
    after: Option<u64>,
    stop: &'a AtomicBool,
    warnings: usize,
}

impl Observer for Stopping<'_> {
    fn step(&mut self, step: &crate::metrics::Step, _: u64) {
        if self.after == Some(step.step) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn warn(&mut self, _: &Warning) {
        self.warnings += 1;
    }
}

impl<'a> Together<'a> {
    pub fn new(place: &'a Place, run: &'a str, parts: usize) -> Self {
        let (mut options, recipe) = (options(), recipe(&[]));
        options.settings.parts = parts;
        Self {
            place,
            data: "data",
            run,
            recipe,
            options,
            backend: reference,
            resumes: false,
            stops: None,
            lacks: None,
        }
    }

    /// What one rank does.
    pub fn as_rank(&self, fake: Fake) -> Result<Outcome, TrainingError> {
        let rank = fake.rank();
        let mut ranks = Ranks::new(Box::new(fake), DEADLINE);
        let folder = self.place.path(self.data);
        let dataset = match self.lacks {
            Some((of, missing)) if of == rank => {
                Dataset::open_with_files(&folder, Arc::new(Lacking { folder: folder.clone(), missing }))?
            }
            _ => Dataset::open(&folder)?,
        };
        let data = TrainingData::new(&dataset, &self.recipe)?;
        let path = self.place.path(self.run);
        let folder = match (rank, self.resumes) {
            (0, true) => Some(RunFolder::open(&path, 2)?),
            (0, false) => Some(RunFolder::create(&path, 2)?),
            _ => None,
        };
        let options = self.options.clone();
        let session = match &folder {
            Some(folder) => Session::open(&self.recipe, &data, options, folder)?,
            None => Session::follow(&self.recipe, &data, options),
        };
        let setup = session.setup()?.of_rank(rank, ranks.world());
        let mut backend = (self.backend)(&setup, self.options.settings.precision);
        ranks.handshake(&session.fingerprint(&*backend))?;
        let stop = AtomicBool::new(false);
        let after = self.stops.filter(|&(of, _)| of == rank).map(|(_, after)| after);
        let mut observer = Stopping { after, stop: &stop, warnings: 0 };
        session.train_with(&mut ranks, &mut *backend, &stop, &mut observer)
    }

    pub fn by(&self, world: usize) -> Vec<Outcome> {
        let outcomes = with_ranks(world, |fake| self.as_rank(fake));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    pub fn finish_by(&self, world: usize) -> Report {
        let outcomes = self.by(world);
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:?}");
        match &outcomes[0] {
            Outcome::Finished(report) => report.clone(),
            interrupted => panic!("{interrupted:?}"),
        }
    }
}

#[test]
fn any_number_of_ranks_trains_to_the_same_bits() {
    let place = Place::new();
    let alone = Together::new(&place, "one", 4).finish_by(1);
    for (run, world) in [("two", 2), ("four", 4)] {
        let report = Together::new(&place, run, 4).finish_by(world);
        assert_eq!(report, alone, "{world} ranks");
        assert_eq!(traces(&place.path(run)), traces(&place.path("one")), "{world} ranks");
    }
    // Other parts, other sums.
    Together::new(&place, "whole", 1).finish_by(1);
    assert_ne!(traces(&place.path("whole")).0, traces(&place.path("one")).0);
}

#[test]
fn ranks_with_other_numbers_of_epochs_are_refused_though_their_recipes_have_one_hash() {
    let place = Place::new();
    let of_rank = ["training.epochs=1", "training.epochs=2"].map(|epochs| {
        let recipe = recipe(&[epochs]);
        Together { recipe, ..Together::new(&place, "run", 2) }
    });
    assert_eq!(of_rank[0].recipe.hash(), of_rank[1].recipe.hash());
    let outcomes = with_ranks(2, |fake| of_rank[fake.rank()].as_rank(fake));
    let errors: Vec<String> = outcomes.into_iter().map(|outcome| outcome.unwrap_err().to_string()).collect();
    assert!(errors.iter().all(|error| error.contains("--epochs")), "{errors:?}");
}

#[test]
fn mixed_images_are_the_same_for_any_number_of_ranks_and_after_a_stop() {
    let place = Place::new();
    let mixing =
        ["augmentation.mixup_alpha=0.8", "augmentation.cutmix_alpha=1", "training.label_smoothing=0.1"];
    let together =
        |run, parts, set: &[&str]| Together { recipe: recipe(set), ..Together::new(&place, run, parts) };
    together("one", 4, &mixing).finish_by(1);
    for world in [2, 4] {
        let run = ["two", "four"][world / 4];
        together(run, 4, &mixing).finish_by(world);
        assert_eq!(traces(&place.path(run)), traces(&place.path("one")), "{world} ranks");
    }
    let stopped = Together { stops: Some((1, 3)), ..together("stopped", 4, &mixing) };
    assert!(stopped.by(2).iter().all(|outcome| *outcome == Outcome::Interrupted { step: 3 }));
    Together { resumes: true, ..together("stopped", 4, &mixing) }.finish_by(4);
    assert_eq!(traces(&place.path("stopped")), traces(&place.path("one")));
    together("plain", 4, &mixing[2..]).finish_by(1);
    assert_ne!(traces(&place.path("plain")).0, traces(&place.path("one")).0);
}

#[test]
fn runs_with_several_labels_or_numbers_are_the_same_for_any_number_of_ranks_and_after_a_stop() {
    for (kind, loss) in [
        (LabelKind::MultiHot, "training.loss=\"binary_cross_entropy\""),
        (LabelKind::Values, "training.loss=\"mean_squared_error\""),
    ] {
        let place = Place::new();
        place.prepare_labelled("labelled", kind);
        let set = [loss, "augmentation.mixup_alpha=0.8", "augmentation.cutmix_alpha=1"];
        let together =
            |run| Together { data: "labelled", recipe: recipe(&set), ..Together::new(&place, run, 4) };
        let report = together("one").finish_by(1);
        assert!(report.score.loss.is_finite() && report.score.top5 > 0.0, "{report:?}");
        let four = Together { stops: Some((1, 3)), ..together("four") };
        assert!(four.by(4).iter().all(|outcome| *outcome == Outcome::Interrupted { step: 3 }));
        Together { resumes: true, ..together("four") }.finish_by(2);
        assert_eq!(traces(&place.path("four")), traces(&place.path("one")), "{kind}");
    }
}

#[test]
fn a_loss_for_other_labels_is_refused_with_the_one_for_these() {
    let place = Place::new();
    let folder = place.prepare_labelled("labelled", LabelKind::Values);
    let error = TrainingData::open(&folder, &recipe(&[])).unwrap_err();
    assert!(error.is_usage());
    let error = error.to_string();
    assert!(
        error.contains("labels are of the kind values, and the loss `cross_entropy` is for class"),
        "{error}"
    );
    assert!(error.contains("--set training.loss=mean_squared_error"), "{error}");
    let squared = recipe(&["training.loss=\"mean_squared_error\""]);
    TrainingData::open(&folder, &squared).unwrap();
    assert!(TrainingData::open(&place.path("data"), &squared).is_err());
}

#[test]
fn parts_of_mixed_batches_are_whole_pairs() {
    let place = Place::new();
    let recipe = recipe(&["augmentation.cutmix_alpha=1"]);
    let data = TrainingData::open(&place.path("data"), &recipe).unwrap();
    data.check_batch(&recipe, 4).unwrap();
    let error = data.check_batch(&recipe, 8).unwrap_err();
    assert!(error.is_usage());
    assert!(error.to_string().starts_with("8 parts of a batch of 8 images have an odd number"), "{error}");
    let plain = super::support::recipe(&[]);
    TrainingData::open(&place.path("data"), &plain).unwrap().check_batch(&plain, 8).unwrap();
}

#[test]
fn parts_have_all_views_of_their_photos() {
    let place = Place::new();
    let data = |more: &[&str]| {
        let recipe = recipe(&[&["augmentation.views=4"], more].concat());
        (TrainingData::open(&place.path("data"), &recipe).unwrap(), recipe)
    };
    let (plain, of_plain) = data(&[]);
    plain.check_batch(&of_plain, 2).unwrap();
    let error = plain.check_batch(&of_plain, 4).unwrap_err();
    assert!(error.is_usage());
    assert!(
        error.to_string().starts_with("4 parts of a batch of 8 images do not have all 4 views"),
        "{error}"
    );
    // Two photos in each part, which are mixed.
    let (mixed, of_mixed) = data(&["augmentation.mixup_alpha=1", "training.batch_size=16"]);
    mixed.check_batch(&of_mixed, 2).unwrap();
    assert!(matches!(mixed.check_batch(&of_mixed, 4), Err(TrainingError::Pairs { .. })));
}

#[test]
fn several_views_are_trained_on_alike_by_one_and_by_two_ranks() {
    let place = Place::new();
    let attempt = |run, world| {
        let mut together = Together::new(&place, run, 2);
        together.recipe = recipe(&["augmentation.views=2", "augmentation.mixup_alpha=0.5"]);
        together.options.settings.micro_batch = Some(3);
        together.finish_by(world)
    };
    let (one, two) = (attempt("one", 1), attempt("two", 2));
    assert_eq!(one, two);
    assert_eq!(traces(&place.path("one")), traces(&place.path("two")));
}

#[test]
fn micro_batches_within_parts_and_damaged_images_keep_the_bits() {
    let place = Place::new();
    let data = place.path("data");
    let shard = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let shard =
        shard.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("train"));
    let shard = shard.unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    // Somewhere in the pixels of an image.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let attempt = |run, world| {
        let mut together = Together::new(&place, run, 2);
        together.options.settings.micro_batch = Some(3);
        together.options.settings.on_bad_record = OnBadRecord::Skip;
        together.finish_by(world)
    };
    let (one, two) = (attempt("one", 1), attempt("two", 2));
    assert_eq!(one, two);
    assert_eq!(traces(&place.path("one")), traces(&place.path("two")));
}

#[test]
fn a_stop_in_any_rank_stops_all_and_another_number_of_ranks_resumes_to_the_same_bits() {
    let place = Place::new();
    Together::new(&place, "whole", 4).finish_by(1);
    let first = Together { stops: Some((2, 3)), ..Together::new(&place, "run", 4) };
    for outcome in first.by(4) {
        assert_eq!(outcome, Outcome::Interrupted { step: 3 });
    }
    let second = Together { stops: Some((0, 7)), resumes: true, ..Together::new(&place, "run", 4) };
    for outcome in second.by(2) {
        assert_eq!(outcome, Outcome::Interrupted { step: 7 });
    }
    Together { resumes: true, ..Together::new(&place, "run", 4) }.finish_by(1);
    assert_eq!(traces(&place.path("run")), traces(&place.path("whole")));
}

#[test]
fn a_rank_that_is_lost_ends_the_others_with_an_error() {
    let place = Place::new();
    let together = Together::new(&place, "run", 2);
    let dead = Faults { dies_after: Some(9), ..Faults::default() };
    let outcomes = run(ranks_with(&[Faults::default(), dead]), |fake| together.as_rank(fake));
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(error, TrainingError::Collective(CollectiveError::Failed { .. })), "{error}");
    }
}

#[test]
fn when_the_data_of_a_rank_go_all_save_together_and_end_with_its_error() {
    let place = Place::new();
    place.prepare_small_shards("shards");
    fn together<'a>(place: &'a Place, run: &'a str) -> Together<'a> {
        let mut together = Together { data: "shards", ..Together::new(place, run, 4) };
        together.options.settings.window = NonZeroU32::new(1);
        together
    }
    together(&place, "whole").finish_by(1);
    for (of, missing) in [(1, "train-00002.arrow"), (0, "train-00003.arrow"), (1, "val-00001.arrow")] {
        let run = format!("without-{missing}");
        let lacking = Together { lacks: Some((of, missing)), ..together(&place, &run) };
        for outcome in with_ranks(2, |fake| lacking.as_rank(fake)) {
            let message = outcome.unwrap_err().to_string();
            assert!(
                message.starts_with(&format!("rank {of} of 2: ")) && message.contains(missing),
                "{message}"
            );
        }
        assert_eq!(fs::read_dir(place.path(&run).join("checkpoints")).unwrap().count(), 1, "{missing}");
        Together { resumes: true, ..together(&place, &run) }.finish_by(1);
        assert!(traces(&place.path(&run)) == traces(&place.path("whole")), "{missing}");
    }
}

#[test]
fn ranks_with_other_settings_are_named() {
    let place = Place::new();
    let together = Together::new(&place, "run", 2);
    let mut other = Together::new(&place, "run", 2);
    other.options.settings.seed = 6;
    let outcomes =
        with_ranks(2, |fake| if fake.rank() == 1 { other.as_rank(fake) } else { together.as_rank(fake) });
    for outcome in outcomes {
        let message = outcome.unwrap_err().to_string();
        assert!(message.starts_with("rank 1 has --seed 6, rank 0 has 5"), "{message}");
    }
}
