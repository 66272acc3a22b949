//! The README is the crate's documentation, and its commands are those that exist.

const README: &str = include_str!("../README.md");

#[test]
fn the_readme_is_the_crate_documentation() {
    let lib = include_str!("../src/lib.rs");
    assert_eq!(lib.lines().next(), Some("#![doc = include_str!(\"../README.md\")]"));
}

#[test]
fn the_readme_names_every_feature() {
    let manifest = include_str!("../Cargo.toml");
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
