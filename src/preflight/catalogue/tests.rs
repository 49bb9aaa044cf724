use super::*;

#[test]
fn codes_and_names_are_well_formed_and_single() {
    let mut names = std::collections::BTreeSet::new();
    for pair in ALL.windows(2) {
        assert!(pair[0].code < pair[1].code, "{} is out of order", pair[1].code);
    }
    for entry in ALL {
        let digits = entry.code.0.strip_prefix("NVL").expect("begins with NVL");
        assert!(digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()), "{}", entry.code);
        assert!(names.insert(entry.name), "{} twice", entry.name);
        assert!(find(&entry.code.0).is_some_and(|found| found.name == entry.name));
    }
    assert!(find("NVL999").is_none());
}

#[test]
fn every_text_has_all_sections_and_fits_the_terminal() {
    for entry in ALL {
        let code = &entry.code;
        assert!(entry.summary.len() <= 76 && !entry.summary.ends_with('.'), "{code}");
        let headings: Vec<_> =
            entry.text.lines().filter(|l| !l.is_empty() && !l.starts_with(' ')).collect();
        assert_eq!(headings, SECTIONS, "{code}");
        for line in entry.text.lines() {
            assert!(line.chars().count() <= 80, "{code}: too long: {line}");
            assert!(line.is_ascii(), "{code}: {line}");
        }
        for section in entry.text.split("\n\n") {
            assert!(section.lines().count() > 1, "{code}: an empty section: {section}");
        }
    }
}

#[test]
fn the_texts_warn_of_what_is_often_tried() {
    let mismatch = find("NVL001").expect("is there").text;
    for tried in
        ["NCCL_NVML_DISABLE", "modinfo", "cuda-compat", "pkill -f python", "metapackage", "PyTorch"]
    {
        assert!(mismatch.contains(tried), "{tried}");
    }
}
