//! The HTML page of a report, which needs no other file.

use fovea_pipeline::summary::median;
use fovea_pipeline::text::printable_lines;
use fovea_trainer::metrics::Epoch;
use fovea_trainer::recipe::Loss;
use fovea_trainer::training::{Best, Environment, RunSettings, Score};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::record::Record;
use super::section::Section;
use crate::figure::{self, compact};

const STYLE: &str = include_str!("page.css");
/// Width above which a figure scrolls sideways on a phone, where its texts would be too small otherwise.
const WIDE_PX: f64 = 340.0;

/// The page; `checkpoint` describes the checkpoint of the sections about the network. The page reloads itself
/// every `refresh_s` seconds, if given.
pub(super) fn page(
    record: &Record,
    checkpoint: &str,
    sections: &[Section],
    refresh_s: Option<u64>,
) -> String {
    let omissions: Vec<&String> =
        record.damage.iter().chain(sections.iter().flat_map(|section| &section.omissions)).collect();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh_s { meta http-equiv="refresh" content=(seconds); }
                title { (record.name) " – Fovea" }
                style { (PreEscaped(figure::style())) (PreEscaped(STYLE)) }
            }
            body {
                h1 { (record.name) }
                p.about { "Recipe " strong { (record.recipe.name) } ": " (record.recipe.description) }
                @if !checkpoint.is_empty() { p.checkpoint { (checkpoint) } }
                (facts(record))
                @if let Some(loss) = record.diverged() {
                    div.notes { p {
                        "The training has diverged: the last loss is " (compact(loss, 3))
                        ", far above that of guessing. A lower learning rate may help."
                    } }
                }
                @if !omissions.is_empty() {
                    div.notes { @for omission in &omissions { p { "Left out: " (omission) } } }
                }
                @for section in sections.iter().filter(|section| !section.figures.is_empty()) {
                    h2 { (section.title) }
                    div.figures {
                        @for figure in &section.figures {
                            figure.wide[figure.svg.width > WIDE_PX] id=(figure.name) {
                                div.frame { div.scroll { (PreEscaped(figure.svg.to_string())) } }
                                figcaption { (figure.caption) }
                            }
                        }
                    }
                }
                h2 { "Recipe and environment" }
                (environment(record))
                details { summary { "The recipe" } pre { (record.recipe.to_toml()) } }
                footer { "Made by " code { "trainer report" } " of Fovea " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    };
    printable_lines(&markup.into_string()).into_owned()
}

/// The most important numbers.
fn facts(record: &Record) -> Markup {
    let planned = record.recipe.training.epochs;
    let done = record.epochs.last().map_or(0, |epoch| epoch.epoch);
    let updates = record.steps.last().map(|step| step.step).or(record.epochs.last().map(|epoch| epoch.step));
    let best = record
        .epochs
        .iter()
        .filter(|epoch| epoch.val_top1.is_finite())
        .min_by(|a, b| a.val_top1.total_cmp(&b.val_top1));
    let loss = record.recipe.training.loss;
    let [first, second] = loss.measures();
    let has_second = loss != Loss::CrossEntropy || record.classes().is_none_or(|classes| classes > 5);
    let mut facts = vec![("epochs".to_owned(), format!("{done} of {planned}"))];
    if let Some(updates) = updates {
        facts.push(("updates".into(), updates.to_string()));
    }
    let of = if record.has_validation() { "" } else { " of training images" };
    if let Some(best) = best {
        facts.push((format!("best {}{of}, epoch {}", first.name, best.epoch), first.value(best.val_top1)));
        if has_second {
            facts.push((format!("{} there", second.name), second.value(best.val_top5)));
        }
    }
    if let Some(result) = &record.result {
        let views = result.views.title();
        let mut fact = |which: &str, epoch: u32, score: &Score| {
            let what = format!("{}{of}, {views}, {which} weights (epoch {epoch})", first.name);
            facts.push((what, first.value(score.top1)));
        };
        if let Some(Best { epoch, score, .. }) = result.best.as_ref().filter(|best| best.step != result.step)
        {
            fact("best", *epoch, score);
        }
        fact("last", result.epochs, &result.score);
    }
    if let Some(speed) = typical_speed(&record.epochs) {
        facts.push(("images per second".into(), format!("{speed:.0}")));
    }
    html! {
        dl.facts { @for (what, value) in &facts { div { dt { (what) } dd { (value) } } } }
    }
}

/// The median over the epochs.
fn typical_speed(epochs: &[Epoch]) -> Option<f64> {
    median(&epochs.iter().map(|epoch| epoch.images_per_s).collect::<Vec<_>>())
}

/// Settings of batches and precision.
fn batches(record: &Record, settings: &RunSettings) -> Vec<(&'static str, String)> {
    let batch_size = record.recipe.training.batch_size;
    let whole = record.data.map(|data| (data.train_images / batch_size as u64).max(1));
    let of_epoch = match (settings.limit_batches, whole) {
        (Some(limit), Some(whole)) if limit < whole => Some(format!("{limit} of {whole}")),
        (_, Some(whole)) => Some(whole.to_string()),
        (Some(limit), None) => Some(format!("at most {limit}")),
        (None, None) => None,
    };
    let at_once = match settings.rows_at_once(batch_size) {
        rows if rows < batch_size => format!("{rows} of a batch of {batch_size}"),
        _ => format!("a whole batch of {batch_size}"),
    };
    let of_epoch = of_epoch.map(|batches| ("batches of an epoch", batches));
    let others = [("images at once", at_once), ("precision", settings.precision.to_string())];
    of_epoch.into_iter().chain(others).collect()
}

/// The table of program, machine and settings.
fn environment(record: &Record) -> Markup {
    let mut rows: Vec<(&str, String)> = record.environment.as_ref().map(machine).unwrap_or_default();
    if let Some(settings) = &record.settings {
        rows.push(("data set", settings.data.display().to_string()));
        rows.extend(batches(record, settings));
    }
    if let Some(meta) = &record.meta {
        rows.push(("classes", meta.classes.len().to_string()));
        rows.push(("seed", meta.seed.to_string()));
        if meta.discarded > 0 {
            rows.push(("batches left out", meta.discarded.to_string()));
        }
    }
    html! {
        table { @for (name, text) in &rows { tr { th { (name) } td { (text) } } } }
    }
}

/// Program and machine.
fn machine(environment: &Environment) -> Vec<(&'static str, String)> {
    let Environment { program, backend, device, library, system, processor, cores, threads, arguments } =
        environment;
    let rows = [
        ("program", Some(program.clone())),
        ("arguments", Some(arguments.join(" "))),
        ("backend", Some(backend.clone())),
        ("device", Some(device.clone())),
        ("library", Some(library.clone())),
        ("system", Some(system.clone())),
        ("processor", processor.clone()),
        ("cores", Some(cores.to_string())),
        ("threads", threads.map(|threads| threads.to_string())),
    ];
    rows.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

#[cfg(test)]
mod tests {
    use fovea_pipeline::loader::OnBadRecord;
    use fovea_pipeline::{EvalCrops, Split};
    use fovea_trainer::backend::Precision;
    use fovea_trainer::training::{OnNan, Report};

    use super::super::record::{DataFacts, examples};
    use super::super::section::Figure;
    use super::*;
    use crate::figure::Svg;

    #[test]
    fn the_table_has_the_share_of_an_epoch_and_of_a_batch() {
        let settings = |limit_batches, micro_batch| RunSettings {
            cache: None,
            cache_limit: None,
            data: "shards".into(),
            limit_batches,
            micro_batch,
            parts: 1,
            window: None,
            precision: Precision::F32,
            seed: 0,
            on_nan: OnNan::Stop,
            on_bad_record: OnBadRecord::Stop,
        };
        let mut record = examples::record(&[]);
        record.recipe.training.batch_size = 64;
        let texts = |record: &Record, settings: &RunSettings| -> Vec<String> {
            batches(record, settings).into_iter().map(|(name, text)| format!("{name}: {text}")).collect()
        };
        let short = settings(Some(60), Some(16));
        let others = ["images at once: 16 of a batch of 64", "precision: f32"];
        assert_eq!(texts(&record, &short), [&["batches of an epoch: at most 60"], &others[..]].concat());
        record.data = Some(DataFacts { classes: 10, train_images: 6000, val_images: 10 });
        assert_eq!(texts(&record, &short), [&["batches of an epoch: 60 of 93"], &others[..]].concat());
        assert_eq!(
            texts(&record, &settings(None, None)),
            ["batches of an epoch: 93", "images at once: a whole batch of 64", "precision: f32"]
        );
    }

    #[test]
    fn the_last_evaluation_is_shown_with_the_name_of_its_views() {
        for (views, expected) in [
            (EvalCrops::TenCrop, "ten crops"),
            (EvalCrops::NineCrop, "nine crops"),
            (EvalCrops::Center, "centre crop"),
        ] {
            let score = Score { images: 8, loss: 1.0, top1: 0.25, top5: 0.0 };
            let best = Some(Best { epoch: 2, step: 6, score: Score { top1: 0.125, ..score } });
            let result = Report {
                epochs: 3,
                step: 9,
                discarded: 0,
                best_top1: None,
                views,
                score,
                best,
                split: Split::Val,
            };
            let mut record = Record { result: Some(result), ..examples::record(&[]) };
            let of_validation = facts(&record).into_string();
            for (which, value) in [("best weights (epoch 2)", "12.5"), ("last weights (epoch 3)", "25.0")] {
                let expected = format!("<dt>top-1 error, {expected}, {which}</dt><dd>{value} %</dd>");
                assert!(of_validation.contains(&expected), "{of_validation}");
            }
            record.split = Some(Split::Train);
            let of_training = facts(&record).into_string();
            let expected =
                format!("<dt>top-1 error of training images, {expected}, best weights (epoch 2)</dt>");
            assert!(of_training.contains(&expected), "{of_training}");
        }
    }

    #[test]
    fn names_do_not_turn_the_text_of_the_page() {
        let mut record = examples::record(&[]);
        record.name = "gpj.\u{202e}cat\u{9b}".into();
        let page = page(&record, "step 1\u{2066}", &[], None);
        assert!(page.contains("<h1>gpj.\\u{202e}cat\\u{9b}</h1>"), "{page}");
        assert!(page.contains("step 1\\u{2066}") && !page.contains(['\u{202e}', '\u{2066}', '\u{9b}']));
    }

    #[test]
    fn a_run_that_diverged_has_a_note() {
        let of = |loss| page(&examples::record(&[(1, 2.0), (1, loss)]), "", &[], None);
        assert!(of(1e12).contains("has diverged: the last loss is 10¹²"), "{}", of(1e12));
        assert!(!of(1.9).contains("diverged"));
    }

    #[test]
    fn figures_wider_than_a_phone_scroll_sideways() {
        let figure = |name, width| {
            let svg = Svg { width, height: 9.0, title: String::new(), body: String::new() };
            Figure { name, svg, caption: String::new() }
        };
        let figures = vec![figure("narrow", 340.0), figure("broad", 560.0)];
        let page = page(&examples::record(&[]), "", &[Section { figures, ..Section::default() }], None);
        assert!(page.contains("<figure class=\"\" id=\"narrow\""), "{page}");
        assert!(page.contains("<figure class=\"wide\" id=\"broad\""), "{page}");
    }
}
