//! Keys of earlier versions' recipes.
//!
//! They are converted to today's keys, with a note. A recipe's hash is made from the old keys, so that
//! checkpoints of earlier versions still match their recipe.

use toml::{Table, Value};

/// Old and new names of the schedules.
const SCHEDULES: [(&str, &str); 2] = [("plateau", "reduce_on_plateau"), ("steps", "multi_step")];

/// Replaces old keys of `table` by today's; returns a note for each.
pub(super) fn modernise(table: &mut Table) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(Value::Table(schedule)) = table.get_mut("schedule") else { return notes };
    if let Some(Value::String(kind)) = schedule.get_mut("kind")
        && let Some((old, new)) = SCHEDULES.iter().find(|(old, _)| old == kind)
    {
        *kind = (*new).to_owned();
        notes.push(format!("`schedule.kind` {old} is now {new}"));
    }
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|value| value as f64));
    if let Some(divisor) = schedule.get("divide_by").and_then(number) {
        schedule.remove("divide_by");
        schedule.insert("gamma".into(), (1.0 / divisor).into());
        notes.push(format!("`schedule.divide_by` {divisor} is now `schedule.gamma` {}", 1.0 / divisor));
    }
    if let Some(epochs) = schedule.remove("at_epochs") {
        schedule.insert("milestones".into(), epochs);
        notes.push("`schedule.at_epochs` is now `schedule.milestones`".into());
    }
    notes
}

/// Replaces the keys of `schedule`, in JSON, by those that the hash is made from.
pub(super) fn age_schedule(schedule: &mut serde_json::Map<String, serde_json::Value>) {
    let kind = schedule.get("kind").and_then(serde_json::Value::as_str);
    if let Some((old, _)) = SCHEDULES.iter().find(|(_, new)| Some(*new) == kind) {
        schedule.insert("kind".into(), (*old).into());
    }
    if let Some(gamma) = schedule.remove("gamma").and_then(|gamma| gamma.as_f64()) {
        schedule.insert("divide_by".into(), (1.0 / gamma).into());
    }
    if let Some(milestones) = schedule.remove("milestones") {
        schedule.insert("at_epochs".into(), milestones);
    }
}

#[cfg(test)]
mod tests {
    use crate::optimizer::Rule;
    use crate::recipe::Recipe;

    #[test]
    fn old_keys_mean_what_they_meant_on_the_command_line_and_in_files() {
        let load = |set: &[&str]| {
            Recipe::load("alexnet", &set.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let today = load(&["schedule={kind=\"multi_step\", gamma=0.25, milestones=[30, 60]}"]);
        let old = load(&["schedule={kind=\"steps\", divide_by=4, at_epochs=[30, 60]}"]);
        assert_eq!(today.schedule, Rule::MultiStep { gamma: 0.25, milestones: vec![30, 60] });
        assert_eq!((old.schedule.clone(), old.hash()), (today.schedule.clone(), today.hash()));
        let Rule::ReduceOnPlateau { gamma, .. } = load(&["schedule.divide_by=5"]).schedule else { panic!() };
        assert_eq!(gamma, 0.2);
        assert_eq!(Recipe::from_toml(&today.to_toml(), "again").unwrap(), today);
    }
}
