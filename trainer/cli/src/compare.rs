//! `compare`: trains and compares recipes.

use std::mem::replace;
use std::process::ExitCode;

use fovea_analysis::comparison::{
    self, Candidate, Event, Metric, Plan, Rates, SweepContext, SweepObserver, default_folder,
};
use fovea_pipeline::{EvalCrops, summary};
use fovea_tools::terminal::{INTERRUPTED, print, print_json};
use fovea_tools::{errln, outln};
use fovea_trainer::metrics;
use fovea_trainer::recipe::Recipe;
use fovea_trainer::training::{self, Observer, Warning};

use super::args::CompareArgs;
use super::progress::Terminal;
use super::{STOP, data, demo, device, finish_first, train};

pub fn compare(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let plan = plan(args)?;
    // Each recipe has a data set of its own.
    let settings = train::new_settings(&args.training, &plan.out, &args.cache, 0, 1)?;
    let open = |candidate: &Candidate| data::open(&args.cache, &candidate.data);
    let datasets = plan.candidates.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let mut progress = Progress {
        metric: plan.metric,
        title: String::new(),
        terminal: Terminal::default(),
        told_of_images: false,
    };
    let precision = args.training.device.runtime.precision.unwrap_or_default();
    let mut context = SweepContext {
        options: train::options(&args.training, settings),
        keep: args.training.keep.get(),
        backend: &mut |setup| {
            device::backend(&args.training.device, Some(&args.training.step), setup, precision)
        },
        stop: &STOP,
        observer: &mut progress,
    };
    let _finish = finish_first("the step");
    let Some(comparison) = comparison::compare(&plan, &datasets, &mut context)? else {
        errln!("stopped; the same command resumes it");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    if args.json {
        print_json(&comparison)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&comparison.to_string())?;
    outln!("\nruns, chart, comparison.json and comparison.csv are in {}", plan.out.display())?;
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &CompareArgs) -> anyhow::Result<Plan> {
    let overrides = train::overrides(&args.training);
    let load = |name: &String| Recipe::load(name, &overrides);
    let recipes = args.recipes.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let out = args.out.clone().unwrap_or_else(|| default_folder(&recipes));
    let candidate = |recipe: Recipe| {
        let data = match &args.data {
            Some(data) => data.clone(),
            None => demo::prepared_sample(&recipe)?,
        };
        anyhow::Ok(Candidate { data: train::absolute(&data)?, recipe })
    };
    Ok(Plan {
        candidates: recipes.into_iter().map(candidate).collect::<Result<_, _>>()?,
        metric: args.metric,
        until: args.until,
        seeds: args.seeds.get().into(),
        rates: match args.rates.as_slice() {
            _ if args.no_tuning => Rates::Own,
            [] => Rates::AroundOwn,
            given => Rates::Given(given.to_vec()),
        },
        out,
    })
}

/// Prints a line for each epoch and each decision above the bar of the current trial.
struct Progress {
    metric: Metric,
    /// Of the current trial.
    title: String,
    terminal: Terminal,
    /// Whether the lack of validation images has been said.
    told_of_images: bool,
}

impl SweepObserver for Progress {
    fn on_event(&mut self, event: &Event<'_>) {
        let line = match event {
            Event::Started { trial } => {
                self.title = format!("{trial}, ");
                return;
            }
            Event::Epoch { trial, epoch } => {
                let value = self.metric.text(self.metric.value(epoch));
                format!(
                    "{trial}, epoch {}: {} {value}, {:.1} s",
                    epoch.epoch,
                    self.metric.title(),
                    epoch.seconds
                )
            }
            Event::Pruned { trial, reason } => format!("{trial}: pruned, {reason}"),
            Event::Extended { recipe, best: Some(best), rate } => {
                let (best, rate) = (summary::rate(*best), summary::rate(*rate));
                format!("{recipe}: the best rate, {best}, is at the end of the range; trying {rate}")
            }
            Event::Extended { recipe, best: None, rate } => {
                format!("{recipe}: no rate is left; trying {}", summary::rate(*rate))
            }
            Event::Tuned { recipe, rate: Some(rate) } => {
                format!("{recipe}: the best rate is {}", summary::rate(*rate))
            }
            Event::Tuned { recipe, rate: None } => format!("{recipe}: no rate is left"),
        };
        Terminal::print(&line);
    }
}

impl Observer for Progress {
    fn started(&mut self, plan: &training::RunPlan) {
        self.terminal.watch(plan, self.title.clone());
    }

    fn step(&mut self, step: &metrics::Step, batch: u64) {
        self.terminal.step(step, batch);
    }

    fn evaluating(&mut self, views: EvalCrops, images: u64, of: u64) {
        self.terminal.evaluating(views, images, of);
    }

    fn warn(&mut self, warning: &Warning) {
        // All trials have the same images.
        if !matches!(warning, Warning::NoValidation) || !replace(&mut self.told_of_images, true) {
            self.terminal.warn(warning);
        }
    }
}
