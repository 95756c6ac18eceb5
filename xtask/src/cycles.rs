//! Finds dependency cycles between the modules of a crate: modules that use each other, directly or
//! through other modules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, ImplItemFn, Item, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};
use thiserror::Error;

/// The path of a module from the root of its crate, whose own path is empty.
type Module = Vec<String>;

/// The longest chain of re-exports that is followed.
const MAX_REEXPORT_DEPTH: usize = 8;

#[derive(Debug, Error)]
pub(crate) enum CyclesError {
    #[error("{} could not be read: {source}", path.display())]
    NotRead { path: PathBuf, source: io::Error },

    #[error("{} could not be parsed: {source}", path.display())]
    NotParsed { path: PathBuf, source: syn::Error },

    #[error("modules need each other:\n{}", .0.iter().map(Cycle::to_string).collect::<String>())]
    Found(Vec<Cycle>),
}

/// Modules of one crate that all depend on each other, and the dependencies between them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cycle {
    root: PathBuf,
    edges: Vec<(Module, Module)>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |module: &Module| match module.is_empty() {
            true => "crate".to_owned(),
            false => module.join("::"),
        };
        writeln!(f, "  {}", self.root.display())?;
        self.edges
            .iter()
            .try_for_each(|(from, to)| writeln!(f, "    {} -> {}", name(from), name(to)))
    }
}

/// Checks the crates with these root files.
pub(crate) fn check(roots: &[PathBuf]) -> Result<(), CyclesError> {
    let mut found = Vec::new();
    for root in roots {
        let mut tree = Tree::default();
        tree.read(root, Vec::new())?;
        let cycles = cycles(&tree.edges());
        found.extend(cycles.into_iter().map(|edges| Cycle { root: root.clone(), edges }));
    }
    if found.is_empty() { Ok(()) } else { Err(CyclesError::Found(found)) }
}

/// The modules of a crate that have files.
#[derive(Default)]
struct Tree(BTreeMap<Module, Names>);

/// The names that a module uses, and those that it only re-exports.
#[derive(Default)]
struct Names {
    /// The paths as written, starting with `crate`, `self`, `super` or a name.
    used: Vec<Vec<String>>,
    /// The path of each re-exported name.
    reexported: BTreeMap<String, Vec<String>>,
}

impl Tree {
    /// Reads a file and the files of the modules that it declares.
    fn read(&mut self, path: &Path, module: Module) -> Result<(), CyclesError> {
        let text = fs::read_to_string(path)
            .map_err(|source| CyclesError::NotRead { path: path.to_owned(), source })?;
        let file = syn::parse_file(&text)
            .map_err(|source| CyclesError::NotParsed { path: path.to_owned(), source })?;
        let mut names = Names::default();
        names.visit_file(&file);
        self.0.insert(module.clone(), names);
        for item in &file.items {
            let Item::Mod(declared) = item else { continue };
            if declared.content.is_none() && !is_for_tests(&declared.attrs) {
                let name = declared.ident.to_string();
                let path = file_of(path, &module, &name);
                self.read(&path, [module.clone(), vec![name]].concat())?;
            }
        }
        Ok(())
    }

    /// Returns the dependencies between modules.
    fn edges(&self) -> BTreeSet<(Module, Module)> {
        let mut edges = BTreeSet::new();
        for (module, names) in &self.0 {
            let needed = names.used.iter().filter_map(|name| self.owner(module, name, 0));
            edges.extend(needed.filter(|to| to != module).map(|to| (module.clone(), to)));
        }
        edges
    }

    /// Returns the module that defines a name used by `module`, if it is a module of this crate.
    fn owner(&self, module: &Module, name: &[String], depth: usize) -> Option<Module> {
        // A re-export may refer to another one, but the depth is bounded.
        if depth > MAX_REEXPORT_DEPTH {
            return None;
        }
        let (mut at, mut rest) = match name.first()?.as_str() {
            "crate" => (Vec::new(), &name[1..]),
            "self" => (module.clone(), &name[1..]),
            "super" => (module.split_last()?.1.to_vec(), &name[1..]),
            first if self.0.contains_key(&child(module, first)) => (module.clone(), name),
            _ => return None,
        };
        while rest.first().is_some_and(|first| first == "super") {
            (at, rest) = (at.split_last()?.1.to_vec(), &rest[1..]);
        }
        while let Some(first) = rest.first() {
            if !self.0.contains_key(&child(&at, first)) {
                break;
            }
            (at, rest) = (child(&at, first), &rest[1..]);
        }
        let reexported = rest.first().and_then(|first| self.0.get(&at)?.reexported.get(first));
        match reexported {
            Some(target) => {
                let target = [target.as_slice(), &rest[1..]].concat();
                self.owner(&at, &target, depth + 1)
            }
            None => Some(at),
        }
    }
}

fn child(module: &Module, name: &str) -> Module {
    let mut path = module.clone();
    path.push(name.to_owned());
    path
}

/// Returns the file of a module that is declared in the file at `parent`.
fn file_of(parent: &Path, module: &Module, name: &str) -> PathBuf {
    let directory = parent.parent().unwrap_or(Path::new(""));
    let is_named = !module.is_empty() && parent.file_stem().is_some_and(|stem| stem != "mod");
    let directory = match module.last() {
        Some(own) if is_named => directory.join(own),
        _ => directory.to_owned(),
    };
    let file = directory.join(format!("{name}.rs"));
    if file.exists() { file } else { directory.join(name).join("mod.rs") }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

impl<'a> Visit<'a> for Names {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        let mut names = Vec::new();
        spread(&item.tree, &mut Vec::new(), &mut names);
        for (name, alias) in names {
            match item.vis {
                Visibility::Inherited => self.used.push(name),
                _ => drop(self.reexported.insert(alias, name)),
            }
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.segments.len() > 1 {
            let names = path.segments.iter().map(|segment| segment.ident.to_string());
            self.used.push(names.collect());
        }
        visit::visit_path(self, path);
    }
}

/// Returns the names of a `use`, each with its local alias.
fn spread(tree: &UseTree, before: &mut Vec<String>, names: &mut Vec<(Vec<String>, String)>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            spread(&path.tree, before, names);
            before.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| spread(tree, before, names)),
        UseTree::Name(name) if name.ident == "self" => {
            names.push((before.clone(), before.last().cloned().unwrap_or_default()));
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            names.push(([before.as_slice(), std::slice::from_ref(&name)].concat(), name));
        }
        UseTree::Rename(rename) => {
            let name = [before.as_slice(), &[rename.ident.to_string()]].concat();
            names.push((name, rename.rename.to_string()));
        }
        UseTree::Glob(_) => names.push((before.clone(), "*".to_owned())),
    }
}

/// Returns the edges of each cycle: those between modules that reach each other.
fn cycles(edges: &BTreeSet<(Module, Module)>) -> Vec<Vec<(Module, Module)>> {
    let reached = |from: &Module| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = open.pop() {
            let next = edges.iter().filter(|(from, _)| *from == module).map(|(_, to)| to.clone());
            open.extend(next.filter(|to| seen.insert(to.clone())));
        }
        seen
    };
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        edges.iter().map(|(from, _)| (from, reached(from))).collect();
    let both = |one: &Module, other: &Module| {
        reach.get(one).is_some_and(|seen| seen.contains(other))
            && reach.get(other).is_some_and(|seen| seen.contains(one))
    };
    let mut cycles: Vec<Vec<(Module, Module)>> = Vec::new();
    for edge in edges.iter().filter(|(from, to)| both(from, to)) {
        match cycles.iter_mut().find(|cycle| both(&cycle[0].0, &edge.0)) {
            Some(cycle) => cycle.push(edge.clone()),
            None => cycles.push(vec![edge.clone()]),
        }
    }
    cycles
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use tempfile::TempDir;

    use super::{CyclesError, check};

    /// Writes a crate of these files, and checks it.
    fn checked(files: &[(&str, &str)]) -> Result<(), CyclesError> {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        check(&[directory.path().join("lib.rs")])
    }

    #[test]
    fn modules_that_depend_on_each_other_are_named() {
        let planted = checked(&[
            ("lib.rs", "mod store; mod acquire; mod apart;"),
            ("store.rs", "use crate::acquire::acquire; pub struct Store;"),
            ("acquire.rs", "use crate::{apart, store::Store}; pub fn acquire() {}"),
            ("apart.rs", "pub fn apart() {}"),
        ]);
        let text = planted.unwrap_err().to_string();
        assert!(
            text.contains("store -> acquire\n") && text.contains("acquire -> store\n"),
            "{text}"
        );
        assert!(!text.contains("apart"), "{text}");
    }

    #[test]
    fn a_cycle_through_a_third_module_and_a_path_without_a_use_is_found() {
        let planted = checked(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod c; pub use c::Deep; pub struct A(crate::b::B);"),
            ("a/c.rs", "pub struct Deep;"),
            ("b.rs", "pub struct B; pub fn b() { let _ = super::a::A::new(); }"),
        ]);
        let text = planted.unwrap_err().to_string();
        assert!(text.contains("a -> b\n") && text.contains("b -> a\n"), "{text}");
    }

    #[test]
    fn re_exports_and_tests_are_not_dependencies() {
        checked(&[
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::B; }"),
            ("b.rs", "use crate::A; pub struct B(A);"),
        ])
        .unwrap();
    }

    #[test]
    fn the_error_names_a_missing_file() {
        let missing = check(&[PathBuf::from("missing/lib.rs")]).unwrap_err();
        assert!(missing.to_string().contains("missing/lib.rs"), "{missing}");
    }
}
