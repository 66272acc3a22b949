//! The README names what there is, and links to what everybody can open. (Its code is a doctest: `src/doc.rs`.)

use std::path::Path;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_names_every_feature() {
    let manifest = include_str!("../../Cargo.toml");
    let features = manifest.split("[features]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let names =
        features.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once(" = ")).map(|(name, _)| name);
    let mut count = 0;
    for name in names.filter(|&name| name != "default") {
        assert!(README.contains(&format!("| `{name}` |")), "feature {name} is not in the README");
        count += 1;
    }
    assert_ne!(count, 0);
}

/// On GitHub and crates.io too, which know nothing of Rust's paths.
#[test]
fn the_readme_links_to_nothing_that_only_rustdoc_finds() {
    let known: Vec<_> = README.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: https://")).collect();
    assert!(known.len() > 10);
    for (at, _) in README.match_indices("](") {
        let (target, _) = README[at + 2..].split_once(')').unwrap();
        let packaged = || Path::new(env!("CARGO_MANIFEST_DIR")).join(target).is_file();
        assert!(target.starts_with("https://") || target.starts_with('#') || packaged(), "{target}");
    }
    // `[text][name]`, and no `[`Name`]` alone.
    for (at, _) in README.match_indices("[`") {
        let link = &README[at..];
        let (_, after) = link.split_once("`]").unwrap();
        assert!(after.starts_with('(') || after.starts_with('['), "{}", &link[..20]);
    }
    for (at, _) in README.match_indices("][") {
        let (name, _) = README[at + 2..].split_once(']').unwrap();
        assert!(known.iter().any(|(known, _)| *known == name), "{name}");
    }
    for (name, _) in known {
        assert!(README.contains(&format!("][{name}]")), "{name} is not used");
    }
}
