//! Headers against what NumPy was observed to read and write.

use serde_json::Value;

use super::display::tuple;
use super::dtype::Dtype;
use super::encoded::EncodedHeader;
use super::header::{HEADER_CAP, Header};
use super::write::{ARRAY_ALIGN, PAGE_ALIGN};
use crate::error::ErrorKind;

fn corpus(groups: &[&str]) -> Vec<Value> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/conformance.json")).unwrap();
    let Value::Array(mut cases) = serde_json::from_str(&text).unwrap() else { panic!("the corpus is a list") };
    cases.retain(|case| groups.contains(&text_of(&case["group"])));
    assert!(!cases.is_empty());
    cases
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0, |bits, &b| bits << 6 | u32::from(digit(b))) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

fn shape_of(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| usize::try_from(n.as_u64().unwrap()).unwrap()).collect()
}

/// `call.dtype` as the text of a descr.
fn descr_of(value: &Value) -> String {
    match value {
        Value::Null => "<f8".into(),
        Value::String(descr) => descr.clone(),
        fields => {
            let field = |field: &Value| {
                let (name, descr) = (text_of(&field[0]), descr_of(&field[1]));
                let descr = if descr.starts_with('[') { descr } else { format!("'{descr}'") };
                match field.get(2) {
                    Some(shape) => format!("('{name}', {descr}, {})", tuple(&shape_of(shape))),
                    None => format!("('{name}', {descr})"),
                }
            };
            format!("[{}]", fields.as_array().unwrap().iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

#[test]
fn headers_are_read_as_numpy_reads_them() {
    let (mut read, mut refused, mut later) = (0, 0, 0);
    for case in corpus(&["npy-read", "npy-bad", "npy-short", "npy-mode"]) {
        let (id, file, expect) = (text_of(&case["id"]), &case["initial_file"], &case["expect"]);
        if file.is_null() || text_of(&case["call"]["mode"]).contains(['w', 'x', 'b']) {
            continue;
        }
        assert_eq!(text_of(&file["fill"]), "base64", "{id}");
        let bytes = base64(text_of(&file["data"]));
        let cap = case["call"]["max_header_size"].as_u64().map_or(HEADER_CAP, |cap| usize::try_from(cap).unwrap());
        let found = Header::from_bytes_with_limit(&bytes, cap);
        if expect["ok"] == true {
            let header = found.unwrap_or_else(|e| panic!("{id}: {e}"));
            assert_eq!(header.shape(), shape_of(&expect["shape"]), "{id}");
            assert_eq!(Some(header.data_offset()), expect["offset"].as_u64(), "{id}");
            let contiguous = if header.fortran_order() { "f_contiguous" } else { "c_contiguous" };
            assert_eq!(expect[contiguous], true, "{id}");
            read += 1;
            continue;
        }
        let kind = found.as_ref().map_or_else(|e| Some(e.kind()), |_| None);
        match text_of(&expect["error_kind"]) {
            // What is wrong is the size of the array or of the file, of which a header knows nothing.
            "file-too-short" | "overflow" => {
                assert!(matches!(kind, None | Some(ErrorKind::Overflow)), "{id}: {found:?}");
                later += 1;
            }
            _ => {
                assert_eq!(kind, Some(ErrorKind::InvalidHeader), "{id}: {found:?}");
                refused += 1;
            }
        }
    }
    println!("read {read}, refused {refused}, left to others {later}");
    assert!(read > 40 && refused > 40);
}

#[test]
fn headers_are_written_as_numpy_writes_them() {
    let mut written = 0;
    for case in corpus(&["npy-create"]) {
        let (id, call, expect) = (text_of(&case["id"]), &case["call"], &case["expect"]);
        // NumPy can be told the version; we choose it.
        if expect["ok"] != true || !call["version"].is_null() {
            continue;
        }
        let theirs = base64(text_of(&expect["file_b64_after"]));
        let dtype: Dtype = descr_of(&call["dtype"]).parse().unwrap();
        let fortran_order = call["fortran_order"] == true;
        let shape = shape_of(&call["shape"]);
        let encoded = EncodedHeader::format(&dtype, &shape, fortran_order, ARRAY_ALIGN).unwrap();
        let ours = encoded.bytes();
        assert_eq!(ours.escape_ascii().to_string(), theirs[..ours.len()].escape_ascii().to_string(), "{id}");
        let header = Header::from_bytes(&theirs).unwrap();
        assert_eq!((header.fortran_order(), header.data_offset()), (fortran_order, ours.len() as u64), "{id}");
        written += 1;
    }
    println!("written {written}");
    assert!(written > 20);
}

#[test]
fn any_bytes_are_read_or_refused() {
    let files: Vec<Vec<u8>> = corpus(&["npy-read", "npy-bad", "npy-short"])
        .iter()
        .filter(|case| case["initial_file"]["fill"] == "base64")
        .map(|case| base64(text_of(&case["initial_file"]["data"])))
        .filter(|bytes| (90..1000).contains(&bytes.len()))
        .collect();
    let pieces = b"'\"()[]{},:\\#-+0123456789<>|=fiuSVUMO \n\x00\xe9\xff";
    // Marsaglia's xorshift: the same bytes in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut read = 0;
    for round in 0..20_000 {
        let mut bytes = files[round % files.len()].clone();
        for _ in 0..=random(2) {
            let at = 8 + random(80);
            match random(4) {
                0 => bytes[at] = pieces[random(pieces.len())],
                1 => bytes.insert(at, pieces[random(pieces.len())]),
                2 => _ = bytes.remove(at),
                _ => bytes.swap(at, at - 1),
            }
            bytes.push(b' ');
        }
        let Ok(header) = Header::from_bytes(&bytes) else { continue };
        read += 1;
        for align in [ARRAY_ALIGN, PAGE_ALIGN] {
            let (dtype, shape) = (header.dtype(), header.shape());
            let ours = EncodedHeader::format(dtype, shape, header.fortran_order(), align).unwrap();
            let ours = Header::from_bytes_with_limit(ours.bytes(), usize::MAX).unwrap();
            assert_eq!((ours.dtype(), ours.shape()), (dtype, shape));
            assert_eq!(ours.fortran_order(), header.fortran_order());
        }
        // Written over itself a header says the same; python 2's numbers lose their `L`, and so leave a blank.
        let (same, encoded) = EncodedHeader::parse(bytes, HEADER_CAP).unwrap();
        assert_eq!(same, header);
        for (axis, &rows) in header.shape().iter().enumerate() {
            let same = encoded.with_rows(axis, rows).unwrap();
            assert_eq!(Header::from_bytes(same.bytes()).unwrap(), header);
        }
    }
    println!("read {read}");
    assert!(read > 500);
}
