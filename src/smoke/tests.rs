use super::*;

#[test]
fn the_steps_are_those_of_the_program_in_its_order() {
    let mut from = 0;
    for step in STEPS.iter().filter(|step| !step.starts_with("all_reduce")) {
        let needle = format!("\"{step}\", ");
        let at = PROGRAM[from..].find(&needle);
        from += at.unwrap_or_else(|| panic!("{step} is not there, or comes earlier"));
    }
}
