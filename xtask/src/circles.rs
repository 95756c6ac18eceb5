//! Finds circles between the modules of a crate: modules that need each other, directly or through others.

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

#[derive(Debug, Error)]
pub(crate) enum CirclesError {
    #[error("{} could not be read: {source}", path.display())]
    NotRead { path: PathBuf, source: io::Error },

    #[error("{} could not be parsed: {source}", path.display())]
    NotParsed { path: PathBuf, source: syn::Error },

    #[error("modules need each other:\n{}", .0.iter().map(Circle::to_string).collect::<String>())]
    Found(Vec<Circle>),
}

/// Modules of one crate, each of which needs each other one, and the arrows among them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    root: PathBuf,
    arrows: Vec<(Module, Module)>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |module: &Module| match module.is_empty() {
            true => "crate".to_owned(),
            false => module.join("::"),
        };
        writeln!(f, "  {}", self.root.display())?;
        self.arrows
            .iter()
            .try_for_each(|(from, to)| writeln!(f, "    {} -> {}", name(from), name(to)))
    }
}

/// Checks the crates with these root files.
pub(crate) fn check(roots: &[PathBuf]) -> Result<(), CirclesError> {
    let mut found = Vec::new();
    for root in roots {
        let mut tree = Tree::default();
        tree.read(root, Vec::new())?;
        let circles = circles(&tree.arrows());
        found.extend(circles.into_iter().map(|arrows| Circle { root: root.clone(), arrows }));
    }
    if found.is_empty() { Ok(()) } else { Err(CirclesError::Found(found)) }
}

/// The modules of a crate that have files.
#[derive(Default)]
struct Tree(BTreeMap<Module, Names>);

/// The names that a module uses, and those that it only passes on.
#[derive(Default)]
struct Names {
    /// As they are written, from `crate`, `self`, `super` or a name.
    used: Vec<Vec<String>>,
    /// What stands for a name that is re-exported.
    reexported: BTreeMap<String, Vec<String>>,
}

impl Tree {
    /// Reads a file and those of the modules that it declares.
    fn read(&mut self, path: &Path, module: Module) -> Result<(), CirclesError> {
        let text = fs::read_to_string(path)
            .map_err(|source| CirclesError::NotRead { path: path.to_owned(), source })?;
        let file = syn::parse_file(&text)
            .map_err(|source| CirclesError::NotParsed { path: path.to_owned(), source })?;
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

    /// Returns which modules need which others.
    fn arrows(&self) -> BTreeSet<(Module, Module)> {
        let mut arrows = BTreeSet::new();
        for (module, names) in &self.0 {
            let needed = names.used.iter().filter_map(|name| self.owner(module, name, 0));
            arrows.extend(needed.filter(|to| to != module).map(|to| (module.clone(), to)));
        }
        arrows
    }

    /// Returns the module in which a name is defined that `module` uses, if it is one of this crate.
    fn owner(&self, module: &Module, name: &[String], depth: usize) -> Option<Module> {
        // A re-export may lead to another one, but not forever.
        if depth > 8 {
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

/// Returns the names of a `use`, each with what it is called from there on.
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

/// Returns the arrows of each circle: those between modules that reach each other.
fn circles(arrows: &BTreeSet<(Module, Module)>) -> Vec<Vec<(Module, Module)>> {
    let reached = |from: &Module| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = open.pop() {
            let next = arrows.iter().filter(|(from, _)| *from == module).map(|(_, to)| to.clone());
            open.extend(next.filter(|to| seen.insert(to.clone())));
        }
        seen
    };
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        arrows.iter().map(|(from, _)| (from, reached(from))).collect();
    let both = |one: &Module, other: &Module| {
        reach.get(one).is_some_and(|seen| seen.contains(other))
            && reach.get(other).is_some_and(|seen| seen.contains(one))
    };
    let mut circles: Vec<Vec<(Module, Module)>> = Vec::new();
    for arrow in arrows.iter().filter(|(from, to)| both(from, to)) {
        match circles.iter_mut().find(|circle| both(&circle[0].0, &arrow.0)) {
            Some(circle) => circle.push(arrow.clone()),
            None => circles.push(vec![arrow.clone()]),
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use tempfile::TempDir;

    use super::{CirclesError, check};

    /// Writes a crate of these files, and checks it.
    fn checked(files: &[(&str, &str)]) -> Result<(), CirclesError> {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        check(&[directory.path().join("lib.rs")])
    }

    #[test]
    fn modules_that_need_each_other_are_named() {
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
    fn a_circle_through_a_third_module_and_a_path_without_a_use_is_found() {
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
    fn re_exports_and_tests_are_no_arrows() {
        checked(&[
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::B; }"),
            ("b.rs", "use crate::A; pub struct B(A);"),
        ])
        .unwrap();
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let missing = check(&[PathBuf::from("missing/lib.rs")]).unwrap_err();
        assert!(missing.to_string().contains("missing/lib.rs"), "{missing}");
    }
}
