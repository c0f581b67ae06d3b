//! From text to a complete recipe: bases, removed layers, overrides, and errors that name the key.

use std::io;
use std::path::{self, Path};

use fovea_files::read_regular;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::nearest::nearest;
use super::ranges::plain;
use super::{
    ActivationLayer, ConvLayer, DropoutLayer, Head, LinearLayer, LocalLayer, LrnLayer, PoolLayer, Recipe,
    RecipeError, built_in,
};

/// Longest chain of recipes that build upon each other.
const DEEPEST: usize = 8;
const KEYS_WITH_BASE: [&str; 5] = ["base", "description", "name", "set", "without"];

/// The recipe with this name or in this file, merged with its bases.
pub(super) fn complete_table(name_or_path: &str) -> Result<Table, RecipeError> {
    complete(name_or_path, Path::new(""), DEEPEST)
}

/// `folder` is the folder of the recipe that names this one.
fn complete(name_or_path: &str, folder: &Path, depth: usize) -> Result<Table, RecipeError> {
    if depth == 0 {
        return Err(RecipeError::EndlessBase { recipe: name_or_path.to_owned() });
    }
    if let Some((_, text)) = built_in::ALL.iter().find(|(name, _)| *name == name_or_path) {
        return merge_base(parse(text, name_or_path)?, name_or_path, folder, depth);
    }
    let path = folder.join(name_or_path);
    let looks_like_a_path = name_or_path.contains('/') || name_or_path.ends_with(".toml");
    if !looks_like_a_path && !path.exists() {
        return Err(RecipeError::UnknownRecipe {
            given: name_or_path.to_owned(),
            nearest: nearest(name_or_path, Recipe::built_in()),
            known: Recipe::built_in().map(str::to_owned).collect(),
        });
    }
    let text = read_regular(&path)
        .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
        .map_err(|reason| RecipeError::Read { path: path.clone(), reason })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut table = parse(&text, name_or_path)?;
    locate_files(&mut table, &folder).map_err(|reason| RecipeError::Read { path, reason })?;
    merge_base(table, name_or_path, &folder, depth)
}

/// Makes the paths of a network's files absolute.
fn locate_files(table: &mut Table, folder: &Path) -> io::Result<()> {
    for key in ["onnx", "weights"] {
        let file = table.get_mut("network").and_then(|network| network.get_mut(key));
        if let Some(Value::String(file)) = file
            && !file.is_empty()
            && let Some(absolute) = path::absolute(folder.join(&*file))?.to_str()
        {
            *file = absolute.to_owned();
        }
    }
    Ok(())
}

pub(super) fn parse(text: &str, recipe: &str) -> Result<Table, RecipeError> {
    text.parse().map_err(|error: toml::de::Error| RecipeError::Syntax {
        recipe: recipe.to_owned(),
        // The parser's message has several lines, with a caret; ours have one.
        reason: error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

fn merge_base(table: Table, recipe: &str, folder: &Path, depth: usize) -> Result<Table, RecipeError> {
    let Some(base) = table.get("base") else { return Ok(table) };
    let wrong = |key: &str, reason: &str| RecipeError::WrongType {
        recipe: recipe.to_owned(),
        key: key.to_owned(),
        reason: reason.to_owned(),
    };
    if let Some(key) = table.keys().find(|key| !KEYS_WITH_BASE.contains(&key.as_str())) {
        return Err(unknown(recipe, "", key, &KEYS_WITH_BASE));
    }
    let base = base.as_str().ok_or_else(|| wrong("base", "expected the name of a recipe or a file"))?;
    let mut result = complete(base, folder, depth - 1)?;
    if let Some(names) = table.get("without") {
        let names = names
            .as_array()
            .and_then(|names| names.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
            .ok_or_else(|| wrong("without", "expected a list of layer names"))?;
        remove_layers(&mut result, &names, recipe)?;
    }
    if let Some(values) = table.get("set") {
        let values = values.as_table().ok_or_else(|| wrong("set", "expected a table"))?;
        for (key, value) in values {
            assign(&mut result, key, value, recipe)?;
        }
    }
    for key in ["name", "description"] {
        if let Some(value) = table.get(key) {
            result.insert(key.to_owned(), value.clone());
        }
    }
    Ok(result)
}

fn remove_layers(table: &mut Table, names: &[&str], recipe: &str) -> Result<(), RecipeError> {
    let layers =
        table.get_mut("network").and_then(|network| network.get_mut("layer")).and_then(Value::as_array_mut);
    let Some(layers) = layers else { return Ok(()) };
    for name in names {
        let before = layers.len();
        let known: Vec<String> =
            layers.iter().filter_map(|layer| word(layer, "name")).map(str::to_owned).collect();
        layers.retain(|layer| word(layer, "name") != Some(*name));
        if layers.len() == before {
            return Err(unknown(recipe, "network.layer.", name, &known));
        }
    }
    Ok(())
}

/// Applies `key=value` from the command line. The value is TOML; otherwise it is taken as a string.
pub(super) fn apply_override(table: &mut Table, recipe: &str, text: &str) -> Result<(), RecipeError> {
    let bad = || RecipeError::BadOverride { given: text.to_owned() };
    let (key, value) = text.split_once('=').ok_or_else(bad)?;
    let (key, value) = (key.trim(), value.trim());
    if key.split('.').any(str::is_empty) {
        return Err(bad());
    }
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    assign(table, key, &parsed.unwrap_or_else(|| Value::String(value.to_owned())), recipe)
}

/// Puts the network of `file` in the place of the recipe's layers; what else the recipe says of its network
/// stays.
pub(super) fn replace_network(table: &mut Table, file: &str, classes: Option<Head>) {
    let network = table.entry("network").or_insert_with(|| Value::Table(Table::new()));
    let Value::Table(network) = network else { return };
    for key in ["layer", "architecture"] {
        network.remove(key);
    }
    network.insert("onnx".to_owned(), file.into());
    if let Some(classes) = classes {
        network.insert("classes".to_owned(), classes.name().into());
    }
}

/// Sets the value of a dotted key. A part of the key that stands for an element of a list is its number, its
/// name, or its kind (`op` in an augmentation); a kind may stand for several.
fn assign(table: &mut Table, key: &str, value: &Value, recipe: &str) -> Result<(), RecipeError> {
    let parts: Vec<&str> = key.split('.').collect();
    assign_in_table(table, &parts, 0, value, recipe)
}

fn assign_in_table(
    table: &mut Table,
    parts: &[&str],
    depth: usize,
    value: &Value,
    recipe: &str,
) -> Result<(), RecipeError> {
    let part = parts[depth];
    if depth + 1 == parts.len() {
        table.insert(part.to_owned(), value.clone());
        return Ok(());
    }
    let known: Vec<String> = table.keys().cloned().collect();
    match table.get_mut(part) {
        Some(next) => assign_in(next, parts, depth + 1, value, recipe),
        None => Err(unknown(recipe, &prefix(parts, depth), part, &known)),
    }
}

fn assign_in(
    place: &mut Value,
    parts: &[&str],
    depth: usize,
    value: &Value,
    recipe: &str,
) -> Result<(), RecipeError> {
    match place {
        Value::Table(table) => assign_in_table(table, parts, depth, value, recipe),
        Value::Array(list) => {
            let chosen = chosen(list, parts[depth]);
            if chosen.is_empty() {
                let known: Vec<&str> = list.iter().filter_map(label).collect();
                return Err(unknown(recipe, &prefix(parts, depth), parts[depth], &known));
            }
            for index in chosen {
                match depth + 1 == parts.len() {
                    true => list[index] = value.clone(),
                    false => assign_in(&mut list[index], parts, depth + 1, value, recipe)?,
                }
            }
            Ok(())
        }
        other => Err(RecipeError::WrongType {
            recipe: recipe.to_owned(),
            key: parts[..depth].join("."),
            reason: format!("it is a {} and has no keys", other.type_str()),
        }),
    }
}

/// The elements of a list that a part of a key stands for.
fn chosen(list: &[Value], part: &str) -> Vec<usize> {
    if let Ok(index) = part.parse::<usize>() {
        return if index < list.len() { vec![index] } else { Vec::new() };
    }
    let with = |key: &str| -> Vec<usize> {
        (0..list.len()).filter(|index| word(&list[*index], key) == Some(part)).collect()
    };
    ["name", "kind", "op"].into_iter().map(with).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The name of an element of a list.
fn label(element: &Value) -> Option<&str> {
    word(element, "name").or_else(|| word(element, "op"))
}

fn word<'a>(element: &'a Value, key: &str) -> Option<&'a str> {
    element.get(key).and_then(Value::as_str)
}

fn prefix(parts: &[&str], depth: usize) -> String {
    parts[..depth].iter().map(|part| format!("{part}.")).collect()
}

/// The error for an unknown key, with the nearest known one.
pub(super) fn unknown(recipe: &str, prefix: &str, key: &str, known: &[impl AsRef<str>]) -> RecipeError {
    let mut known: Vec<String> = known.iter().map(|word| word.as_ref().to_owned()).collect();
    known.sort();
    RecipeError::UnknownKey {
        recipe: recipe.to_owned(),
        key: format!("{prefix}{key}"),
        nearest: nearest(key, known.iter().map(String::as_str)).map(|word| format!("{prefix}{word}")),
        known,
    }
}

/// The recipe of a complete table; its values are not validated yet.
pub(super) fn typed(table: Table, recipe: &str) -> Result<Recipe, RecipeError> {
    let value = Value::Table(table);
    serde_path_to_error::deserialize(value.clone()).map_err(|error| {
        let mut key = dotted(error.path(), &value);
        let message = error.inner().message().to_owned();
        let Some((field, known)) = unknown_field(&message) else {
            let key = in_layer(&value, &key).unwrap_or(key);
            let reason = plain(&message, &key);
            return RecipeError::WrongType { recipe: recipe.to_owned(), key, reason };
        };
        // Whether the path ends with the unknown key depends on the depth in the types at which it was found.
        if let Some(parent) = key.strip_suffix(field) {
            key = parent.trim_end_matches('.').to_owned();
        }
        let prefix = if key.is_empty() { key } else { format!("{key}.") };
        unknown(recipe, &prefix, field, &known)
    })
}

/// The key of the value that the layer `key` cannot have: the path of an error ends at a layer, since its
/// kind is a key among the others.
fn in_layer(recipe: &Value, key: &str) -> Option<String> {
    fn wrong<T: DeserializeOwned>(fields: Table) -> Option<String> {
        let error = serde_path_to_error::deserialize::<_, T>(Value::Table(fields)).err()?;
        Some(error.path().to_string())
    }

    let name = key.strip_prefix("network.layer.")?;
    let layers = recipe.get("network")?.get("layer")?.as_array()?;
    let layer = layers.iter().find(|layer| label(layer) == Some(name))?;
    let mut fields = layer.as_table()?.clone();
    fields.remove("name");
    let field = match fields.remove("kind")?.as_str()? {
        "conv" => wrong::<ConvLayer>(fields),
        "local" => wrong::<LocalLayer>(fields),
        "linear" => wrong::<LinearLayer>(fields),
        "activation" => wrong::<ActivationLayer>(fields),
        "lrn" => wrong::<LrnLayer>(fields),
        "pool" => wrong::<PoolLayer>(fields),
        "dropout" => wrong::<DropoutLayer>(fields),
        _ => None,
    }?;
    (field != ".").then(|| format!("{key}.{field}"))
}

/// The unknown field and the known ones in serde's "unknown field `a`, expected one of `b`, `c`".
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field ")?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let field = quoted.next()?;
    Some((field, quoted.collect()))
}

/// The path as a key for `--set`, with elements of a list by name.
fn dotted(path: &serde_path_to_error::Path, root: &Value) -> String {
    use serde_path_to_error::Segment;
    let mut at = Some(root);
    let mut parts = Vec::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => {
                at = at.and_then(|value| value.get(*index));
                parts.push(at.and_then(label).map_or_else(|| index.to_string(), str::to_owned));
            }
            Segment::Map { key } => {
                at = at.and_then(|value| value.get(key.as_str()));
                parts.push(key.clone());
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    parts.join(".")
}
