//! The report as one page of HTML that needs nothing else.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::{Section, record::Record};
use crate::{figure, metrics::Epoch};

const STYLE: &str = include_str!("page.css");
/// Figures that a phone shows at full size, to be pushed sideways: their texts would be too small.
const WIDE: [&str; 4] = ["kernels", "answers", "nearest", "confusion"];

/// The page; it asks to be loaded again every `refresh_s` seconds, if given.
pub(super) fn page(record: &Record, sections: &[Section], refresh_s: Option<u64>) -> String {
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
                (facts(record))
                @if !notes.is_empty() {
                    div.notes { @for note in &notes { p { "Left out: " (note) } } }
                }
                @for section in sections.iter().filter(|section| !section.figures.is_empty()) {
                    h2 { (section.title) }
                    div.figures {
                        @for figure in &section.figures {
                            figure.wide[WIDE.contains(&figure.name)] id=(figure.name) {
                                div { (PreEscaped(&figure.svg)) }
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
    let views = result["views"].as_str()?.replace('-', " ");
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
