//! The report as one page of HTML that needs nothing else.

use fovea_trainer::metrics::Epoch;
use fovea_trainer::training::RunSettings;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::Section;
use super::record::Record;
use crate::figure::{self, compact};

const STYLE: &str = include_str!("page.css");
/// Width from which a figure is wider than a phone, which shows it at full size, to be pushed sideways: its texts would be too small.
const WIDE_PX: f64 = 340.0;

/// The page; `checkpoint` tells which one the sections about the network show. It asks to be loaded again every `refresh_s` seconds, if given.
pub(super) fn page(
    record: &Record,
    checkpoint: &str,
    sections: &[Section],
    refresh_s: Option<u64>,
) -> String {
    let notes: Vec<&String> =
        record.damage.iter().chain(sections.iter().flat_map(|section| &section.left_out)).collect();
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
                @if !notes.is_empty() {
                    div.notes { @for note in &notes { p { "Left out: " (note) } } }
                }
                @for section in sections.iter().filter(|section| !section.figures.is_empty()) {
                    h2 { (section.title) }
                    div.figures {
                        @for figure in &section.figures {
                            figure.wide[width_px(&figure.svg) > WIDE_PX] id=(figure.name) {
                                div.frame { div.scroll { (PreEscaped(&figure.svg)) } }
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
    markup.into_string()
}

/// The width that a figure says it has.
fn width_px(svg: &str) -> f64 {
    let width = svg.split(" width=\"").nth(1).and_then(|rest| rest.split('"').next());
    width.and_then(|width| width.parse().ok()).unwrap_or(0.0)
}

/// The numbers that one looks for first.
fn facts(record: &Record) -> Markup {
    let planned = record.recipe.training.epochs;
    let done = record.epochs.last().map_or(0, |epoch| epoch.epoch);
    let updates = record.steps.last().map(|step| step.step).or(record.epochs.last().map(|epoch| epoch.step));
    let best = record
        .epochs
        .iter()
        .filter(|epoch| epoch.val_top1.is_finite())
        .min_by(|a, b| a.val_top1.total_cmp(&b.val_top1));
    let top5 = record.classes().is_none_or(|classes| classes > 5);
    let mut facts = vec![("epochs".to_owned(), format!("{done} of {planned}"))];
    if let Some(updates) = updates {
        facts.push(("updates".into(), updates.to_string()));
    }
    if let Some(best) = best {
        facts.push((format!("best top-1 error, epoch {}", best.epoch), percent(best.val_top1)));
        if top5 {
            facts.push(("top-5 error there".into(), percent(best.val_top5)));
        }
    }
    if let Some((views, top1)) = final_test(record) {
        facts.push((format!("top-1 error at the end, {views}"), percent(top1)));
    }
    if let Some(speed) = typical_speed(&record.epochs) {
        facts.push(("images per second".into(), format!("{speed:.0}")));
    }
    html! {
        dl.facts { @for (what, value) in &facts { div { dt { (what) } dd { (value) } } } }
    }
}

/// Views and error of the evaluation after the last epoch.
fn final_test(record: &Record) -> Option<(String, f64)> {
    let result = record.result.as_ref()?;
    let views = match result["views"].as_str()?.strip_suffix("-crop") {
        Some(count) => format!("{count} views"),
        None => "centre view".into(),
    };
    Some((views, result["score"]["top1"].as_f64()?))
}

/// The median over the epochs.
fn typical_speed(epochs: &[Epoch]) -> Option<f64> {
    let mut speeds: Vec<f64> = epochs.iter().map(|epoch| epoch.images_per_s).collect();
    speeds.sort_by(f64::total_cmp);
    speeds.get(speeds.len() / 2).copied()
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 10.0 { format!("{percent:.2} %") } else { format!("{percent:.1} %") }
}

/// What the run was told of batches, and what it computes with.
fn batches(record: &Record, settings: &RunSettings) -> Vec<(String, String)> {
    let batch_size = record.recipe.training.batch_size;
    let whole = record.data.map(|data| (data.train_images / batch_size as u64).max(1));
    let of_epoch = match (settings.limit_batches, whole) {
        (Some(limit), Some(whole)) if limit < whole => Some(format!("{limit} of {whole}")),
        (_, Some(whole)) => Some(whole.to_string()),
        (Some(limit), None) => Some(format!("at most {limit}")),
        (None, None) => None,
    };
    let at_once = match settings.micro_batch {
        Some(rows) => format!("{rows} of a batch of {batch_size}"),
        None => format!("a whole batch of {batch_size}"),
    };
    let of_epoch = of_epoch.map(|batches| ("batches of an epoch".to_owned(), batches));
    let others =
        [("images at once".to_owned(), at_once), ("precision".to_owned(), settings.precision.to_string())];
    of_epoch.into_iter().chain(others).collect()
}

fn environment(record: &Record) -> Markup {
    let mut rows: Vec<(String, String)> = Vec::new();
    if let Some(Value::Object(environment)) = &record.environment {
        for (name, value) in environment {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
                other => other.to_string(),
            };
            rows.push((name.clone(), text));
        }
    }
    if let Some(settings) = &record.settings {
        rows.push(("data set".into(), settings.data.display().to_string()));
        rows.extend(batches(record, settings));
    }
    if let Some(meta) = &record.meta {
        rows.push(("classes".into(), meta.classes.len().to_string()));
        rows.push(("seed".into(), meta.seed.to_string()));
        if meta.discarded > 0 {
            rows.push(("batches left out".into(), meta.discarded.to_string()));
        }
    }
    html! {
        table { @for (name, text) in &rows { tr { th { (name) } td { (text) } } } }
    }
}

#[cfg(test)]
mod tests {
    use fovea_pipeline::loader::OnBadRecord;
    use fovea_trainer::backend::Precision;
    use fovea_trainer::training::OnNan;

    use super::super::record::{DataFacts, examples};
    use super::*;

    #[test]
    fn the_table_tells_how_much_of_an_epoch_and_of_a_batch_was_taken() {
        let settings = |limit_batches, micro_batch| RunSettings {
            data: "shards".into(),
            limit_batches,
            micro_batch,
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
    fn views_of_the_last_evaluation_are_called_what_they_are() {
        for (views, expected) in
            [("ten-crop", "ten views"), ("nine-crop", "nine views"), ("center", "centre view")]
        {
            let result = serde_json::json!({ "views": views, "score": { "top1": 0.25 } });
            let record = Record { result: Some(result), ..examples::record(&[]) };
            assert_eq!(final_test(&record), Some((expected.to_owned(), 0.25)));
        }
    }

    #[test]
    fn a_run_whose_weights_are_lost_does_not_look_healthy() {
        let of = |loss| page(&examples::record(&[(1, 2.0), (1, loss)]), "", &[], None);
        assert!(of(1e12).contains("has diverged: the last loss is 10¹²"), "{}", of(1e12));
        assert!(!of(1.9).contains("diverged"));
    }

    #[test]
    fn figures_wider_than_a_phone_are_pushed_sideways() {
        assert_eq!(
            width_px("<svg viewBox=\"0 0 9 9\" width=\"560\" height=\"9\"><rect width=\"3\"/>"),
            560.0
        );
        assert_eq!(width_px("<svg>"), 0.0);
    }
}
