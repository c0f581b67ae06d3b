//! What holds of the source tree as a whole: no circles between files, one style of imports, comments that
//! fit, libraries that print nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Widest line of a comment, in characters.
const COMMENT_WIDTH: usize = 110;

/// A source file.
struct Source {
    /// Relative to the workspace.
    path: PathBuf,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace holds this crate").to_owned()
}

/// All source files, but for generated ones and what is built.
fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the source tree can be read") {
            let path = entry.expect("the source tree can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if name.ends_with(".rs") && name != "generated.rs" {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    paths.sort();
    assert!(paths.len() > 200, "only {} files were found", paths.len());
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("sources are text"),
        path: path.strip_prefix(root()).expect("it was found there").to_owned(),
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn comments_fit_their_width() {
    let mut wide = Vec::new();
    for Source { path, text } in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            let width = line.chars().count();
            // An address cannot be broken.
            if line.trim_start().starts_with("//") && width > COMMENT_WIDTH && !line.contains("://") {
                wide.push(format!("{}:{number}: {width}", path.display()));
            }
        }
    }
    assert!(wide.is_empty(), "comments wider than {COMMENT_WIDTH} columns:\n{}", wide.join("\n"));
}

#[test]
fn every_import_names_items_of_one_module() {
    let mut nested = Vec::new();
    for Source { path, text } in sources() {
        for import in imports(&text) {
            if import.tree.split_once('{').is_some_and(|(_, inside)| inside.contains("::")) {
                nested.push(format!("{}: use {};", path.display(), import.tree));
            }
        }
    }
    assert!(nested.is_empty(), "write one `use` for each module:\n{}", nested.join("\n"));
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let sources = sources();
    let mut circles = Vec::new();
    for modules in crates(&sources) {
        circles.extend(circles_of(&modules));
    }
    assert!(circles.is_empty(), "files that import each other:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_between_files_is_found_through_others_and_re_exports_and_inline_paths() {
    let modules = |files: &[(&[&str], &str)]| -> Modules {
        let module = |(names, text): &(&[&str], &str)| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let path = PathBuf::from(if names.is_empty() { "lib".to_owned() } else { names.join("/") });
            (names, Module { path, text: (*text).to_owned() })
        };
        files.iter().map(module).collect()
    };
    let clean = modules(&[
        (&[], "mod a;\nmod b;\npub use a::A;\n"),
        (&["a"], "pub struct A;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n"),
        (&["b"], "use crate::A;\n// See crate::b.\npub struct B;\n"),
    ]);
    assert_eq!(circles_of(&clean), [""; 0]);
    let circle = |a: &str, b: &str, c: &str| {
        let lib = "mod a;\nmod b;\nmod c;\npub use a::A;\npub use self::c::{C, D as E};\n";
        circles_of(&modules(&[(&[], lib), (&["a"], a), (&["b"], b), (&["c"], c)]))
    };
    assert_eq!(circle("use crate::b::B;\n", "use super::A;\n", ""), ["a, b"]);
    assert_eq!(
        circle("use crate::b::{\n    B,\n    Other,\n};\n", "use crate::{C, x};\n", "use crate::A;\n"),
        ["a, b, c"]
    );
    assert_eq!(
        circle("fn f() { crate::b::f() }\n", "use crate::E;\n", "fn f() -> super::A {}\n"),
        ["a, b, c"]
    );
    assert_eq!(circle("use crate::b::B;\n", "use self::x;\nuse super::{self, E};\n", ""), [""; 0]);
}

#[test]
fn libraries_print_nothing() {
    let libraries = [
        "pipeline/src",
        "pipeline/files",
        "datasets/src",
        "trainer/src",
        "trainer/graph/src",
        "trainer/runtime/src",
        "trainer/analysis/src",
    ];
    let mut printing = Vec::new();
    for Source { path, text } in sources() {
        let stem = path.with_extension("");
        let is_for_tests = stem
            .iter()
            .any(|part| ["conformance", "gradcheck", "testing", "tests"].iter().any(|name| part == *name));
        if is_for_tests || !libraries.iter().any(|library| path.starts_with(library)) {
            continue;
        }
        for (number, line) in (1..).zip(code(&text).lines()) {
            if ["println!", "print!", "dbg!"].iter().any(|printer| line.contains(printer)) {
                printing.push(format!("{}, line {number} of its code: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(printing.is_empty(), "only binaries print:\n{}", printing.join("\n"));
}

#[test]
fn figures_know_nothing_else() {
    let mut known = Vec::new();
    for Source { path, text } in sources() {
        if !path.starts_with("trainer/analysis/src/figure") {
            continue;
        }
        for import in imports(&code(&text)) {
            let inside = import.tree.starts_with("crate::figure") || !import.tree.starts_with("crate::");
            if !inside || import.tree.starts_with("fovea_") {
                known.push(format!("{}: use {};", path.display(), import.tree));
            }
        }
    }
    assert!(known.is_empty(), "figures are drawn from plain data:\n{}", known.join("\n"));
}

/// The files of a crate by their module paths.
type Modules = BTreeMap<Vec<String>, Module>;

struct Module {
    path: PathBuf,
    text: String,
}

/// The modules of every crate, each binary a crate of its own; without modules that only tests have.
fn crates(sources: &[Source]) -> Vec<Modules> {
    let mut crates: BTreeMap<PathBuf, Modules> = BTreeMap::new();
    for Source { path, text } in sources {
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        let Some(src) = parts.iter().rposition(|part| *part == "src") else { continue };
        let is_binary = parts.get(src + 1) == Some(&"bin") && parts.len() > src + 3;
        let top = if is_binary { src + 3 } else { src + 1 };
        let mut names: Vec<String> =
            parts[top..].iter().map(|part| part.trim_end_matches(".rs").to_owned()).collect();
        if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            names.pop();
        }
        let module = Module { path: path.clone(), text: text.clone() };
        crates.entry(parts[..top].iter().collect()).or_default().insert(names, module);
    }
    for modules in crates.values_mut() {
        let for_tests: Vec<Vec<String>> =
            modules.iter().flat_map(|(names, module)| test_modules(names, &module.text)).collect();
        modules.retain(|names, _| !for_tests.iter().any(|test| names.starts_with(test)));
    }
    crates.into_values().collect()
}

/// The modules that `text` declares for tests alone.
fn test_modules(names: &[String], text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| pair[0].starts_with("#[cfg(") && pair[0].contains("test"));
    let name = |pair: &[&str]| pair[1].split("mod ").nth(1)?.strip_suffix(';').map(str::to_owned);
    declared.filter_map(name).map(|name| [names, &[name]].concat()).collect()
}

/// What a file imports, as paths from the crate's root: name in the file, path, whether it is re-exported.
struct Import {
    /// As it stands between `use` and the semicolon, without white space.
    tree: String,
    is_public: bool,
}

impl Import {
    /// The names that it brings in, with the paths of the items.
    fn items(&self) -> Vec<(String, Vec<String>)> {
        let (module, list) = match self.tree.split_once('{') {
            Some((module, list)) => (module, list.trim_end_matches('}')),
            None => ("", self.tree.as_str()),
        };
        let module: Vec<String> =
            module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let item = |item: &str| {
            let (path, name) =
                item.split_once(" as ").map_or((item, None), |(path, name)| (path, Some(name)));
            // In a list `self` is the module.
            let own = path.split("::").filter(|part| !part.is_empty() && path != "self").map(str::to_owned);
            let path: Vec<String> = module.iter().cloned().chain(own).collect();
            let name = name.map(str::to_owned).or_else(|| path.last().cloned()).unwrap_or_default();
            (name, path)
        };
        list.split(',').filter(|item| !item.is_empty()).map(item).collect()
    }
}

/// What follows `use` where an import begins, and whether it is a re-export.
fn import_of(line: &str) -> Option<(&str, bool)> {
    let line = line.trim_start();
    let visibilities = ["pub(crate) ", "pub(super) ", "pub "];
    let visible = visibilities.iter().find_map(|visibility| line.strip_prefix(visibility));
    Some((visible.unwrap_or(line).strip_prefix("use ")?, visible.is_some()))
}

/// The `use` statements of a file.
fn imports(text: &str) -> Vec<Import> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((start, is_public)) = import_of(line) else { continue };
        let mut statement = start.to_owned();
        while !statement.contains(';') {
            let Some(next) = lines.next() else { break };
            statement.push(' ');
            statement.push_str(next.trim());
        }
        let statement = statement.split(';').next().unwrap_or_default();
        let mut tree = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        for sign in ["{", "}", ",", "::"] {
            tree = tree.replace(&format!("{sign} "), sign).replace(&format!(" {sign}"), sign);
        }
        found.push(Import { tree, is_public });
    }
    found
}

/// A file without its tests and comments.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.ends_with("mod tests {"));
    lines.filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// A path as it is written in the module `names`, from the crate's root; none if it leads out of the crate.
fn absolute(names: &[String], path: &[String], modules: &Modules) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([names, &path[1..]].concat()),
        "super" => Some([names.get(..names.len().checked_sub(ups)?)?, &path[ups..]].concat()),
        first => {
            let child = [names, &[first.to_owned()]].concat();
            modules.contains_key(&child).then(|| [names, path].concat())
        }
    }
}

/// The module in whose file the item of this path is defined, re-exports followed.
fn home(path: &[String], modules: &Modules, depth: usize) -> Option<Vec<String>> {
    let length = (0..=path.len()).rev().find(|&length| modules.contains_key(&path[..length]))?;
    let (module, rest) = path.split_at(length);
    let Some(name) = rest.first().filter(|_| depth < 8) else { return Some(module.to_vec()) };
    let imported = imports(&code(&modules[module].text)).into_iter().flat_map(|import| import.items());
    for (known, path) in imported {
        if &known == name
            && let Some(path) = absolute(module, &path, modules)
        {
            return home(&[&path[..], &rest[1..]].concat(), modules, depth + 1);
        }
    }
    Some(module.to_vec())
}

/// The files that import each other, directly or through others, one line for each such group.
fn circles_of(modules: &Modules) -> Vec<String> {
    let names: Vec<&Vec<String>> = modules.keys().collect();
    let index: BTreeMap<&Vec<String>, usize> =
        names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
    let mut reaches = vec![vec![false; names.len()]; names.len()];
    for (&module, &at) in &index {
        let text = code(&modules[module].text);
        let imported = imports(&text).into_iter().filter(|import| !import.is_public);
        let mut paths: Vec<Vec<String>> =
            imported.flat_map(|import| import.items()).map(|(_, path)| path).collect();
        paths.extend(inline_paths(&text));
        let homes = paths.iter().filter_map(|path| absolute(module, path, modules));
        for home in homes.filter_map(|path| home(&path, modules, 0)).filter(|home| home != module) {
            reaches[at][index[&home]] = true;
        }
    }
    for through in 0..names.len() {
        for from in 0..names.len() {
            if reaches[from][through] {
                let further = reaches[through].clone();
                for (reached, further) in reaches[from].iter_mut().zip(further) {
                    *reached |= further;
                }
            }
        }
    }
    let mut circles = Vec::new();
    for (at, reached) in reaches.iter().enumerate() {
        let group: Vec<usize> =
            (0..names.len()).filter(|&other| reached[other] && reaches[other][at]).collect();
        if group.first() == Some(&at) && group.len() > 1 {
            let paths = group.iter().map(|&other| modules[names[other]].path.display().to_string());
            circles.push(paths.collect::<Vec<_>>().join(", "));
        }
    }
    circles
}

/// Paths that begin with `crate::` or `super::` outside imports.
fn inline_paths(text: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let lines = text.lines().filter(|line| import_of(line).is_none());
    let words = lines.flat_map(|line| line.split(|c: char| !is_word(c)));
    let paths = words.filter(|word| word.starts_with("crate::") || word.starts_with("super::"));
    paths.map(|path| path.split("::").map(str::to_owned).collect()).collect()
}
