//! The tests of cold ranks, once more with warm ones: the same functions, by [`harness::warm`].
//!
//! Every test of the files named in [`FILES`] is in [`again`]'s list or in [`NOT_AGAIN`].

use std::collections::BTreeSet;

use crate::harness;

/// What a template imports where the test does not need torch.
const LIGHT: &str = "json";
const TORCH: &str = "torch";

macro_rules! again {
    ($($name:ident = $path:path, $modules:expr => [$($test:ident),* $(,)?];)*) => {
        $(mod $name {
            use $path as cold;
            $(#[test]
            fn $test() {
                crate::harness::warm($modules, cold::$test);
            })*
        })*
        /// Their names.
        const AGAIN: &[&str] = &[$($(stringify!($test)),*),*];
    };
}

again! {
    ends = crate::behaviours::ends, super::LIGHT => [
        b12_the_others_are_told_at_once_and_the_code_is_that_of_the_rank,
        b13_the_grace_is_the_same_whoever_began_the_end,
        b14_a_signal_is_named_and_the_cause_comes_before_its_victims,
        b15_of_two_failures_the_earlier_is_the_cause,
        b16_b17_a_recorded_error_is_shown_and_handed_to_the_caller,
        b16_without_an_error_file_the_last_lines_are_shown,
        b18_a_rank_that_ends_well_early_ends_nothing,
        b19_term_reaches_each_rank_once_and_nothing_is_left,
        b20_asking_again_hurries_and_asking_three_times_kills,
        b21_no_rank_outlives_a_killed_nvlaunch,
        b22_children_of_a_rank_that_has_died_are_ended_too,
        b23_a_hangup_ends_the_job_unless_nohup_says_otherwise,
        b24_usr1_is_passed_on_and_ends_nothing,
    ];
    output = crate::behaviours::output, super::LIGHT => [
        b25_lines_of_several_ranks_are_whole_and_named,
        b25_a_progress_bar_stays_one_line,
        b25_files_are_complete_after_a_crash,
        b25_a_map_reaches_ranks_of_two_digits,
        b25_an_unfinished_last_line_is_shown_and_the_file_has_its_bytes,
    ];
    restart = crate::behaviours::restart, super::TORCH => [
        b09_a_restart_after_a_collective_comes_back,
        b10_the_restart_count_rises_on_all_ranks_and_the_budget_stays,
        b11_an_attempt_finds_nothing_of_the_one_before,
    ];
    start = crate::behaviours::start, super::LIGHT => [
        b01_each_rank_gets_the_arguments_and_its_number,
        b02_every_name_of_the_contract_is_set,
        b03_stale_names_of_the_caller_do_not_reach_the_ranks,
        b04_threads_are_limited_only_where_several_ranks_would_fight_and_it_is_said_once,
        b05_error_handling_of_nccl_is_the_callers_or_on,
        b26_python_does_not_buffer,
    ];
    start_torch = crate::behaviours::start, super::TORCH => [
        b06_b07_pytorch_initialises_without_arguments_and_knows_it_was_launched,
        b08_two_launches_at_once_of_real_pytorch_do_not_meet,
    ];
    orphans = crate::orphans, super::LIGHT => [
        whoever_ends_however_nothing_is_left,
        a_shim_that_is_stopped_forever_does_not_outlive_a_killed_launcher,
        keep_daemons_leaves_exactly_what_changed_its_session,
        a_leftover_of_a_clean_end_gets_term_then_the_grace_then_kill_and_is_named,
    ];
    signals = crate::signals, super::LIGHT => [
        a_request_to_end_reaches_the_ranks_as_it_came,
        the_grace_is_the_same_whoever_began_the_end_and_kill_comes_when_it_is_over,
        a_second_request_shortens_the_grace_and_a_third_ends_it,
        a_stop_is_asked_of_the_rank_alone_unless_the_scope_is_the_group,
        a_notice_reaches_who_listens_and_kills_nobody,
        a_signal_that_the_user_names_ends_the_job,
        a_scheduler_that_signals_everybody_at_once_is_named_and_no_rank_is,
        no_thread_but_the_first_takes_signals,
        a_hangup_that_the_caller_ignores_is_ignored,
        a_caller_that_blocks_or_ignores_signals_changes_nothing,
        in_the_background_of_a_script_an_interrupt_is_not_meant_for_the_job,
        the_standard_input_goes_where_it_was_sent,
        a_stopped_rank_is_ended_like_any_other,
    ];
    first_failure = crate::first_failure, super::LIGHT => [the_rank_that_failed_first_is_named];
    suspend = crate::suspend, super::LIGHT => [
        every_process_of_the_job_stops_and_goes_on,
        the_grace_does_not_run_while_the_job_is_stopped,
        a_continue_that_continues_nothing_does_not_lengthen_the_grace,
        a_request_to_end_while_stopped_begins_the_grace_when_it_goes_on,
    ];
    streams = crate::streams, super::LIGHT => [
        closed_streams_do_not_matter,
        a_reader_that_has_left_does_not_end_the_job,
        a_reader_that_does_not_read_does_not_end_or_hold_the_job,
    ];
}

const NO_PYTHON: &str = "its ranks are given by --no-python, which is cold";

/// Tests of these files that are not done again, and why.
const NOT_AGAIN: &[(&str, &str)] = &[
    ("b08_two_launches_at_once_never_take_the_same_port_where_rank_0_listens", NO_PYTHON),
    (
        "b26_modules_programs_and_interpreters",
        "an interpreter that prints does so in the template; modules are in the table of scripts",
    ),
    (
        "b25_bytes_of_a_rank_alone_reach_the_console_as_they_are",
        "nvlaunch's own note stands before them; the table of scripts has such a rank",
    ),
    ("b27_ranks_by_number_and_by_what_is_there", NO_PYTHON),
    ("b28_options_as_torchrun_spells_them", NO_PYTHON),
    ("b30_it_costs_little_and_leaves_nothing", NO_PYTHON),
    (
        "a_stop_that_is_taken_back_at_once_does_not_last",
        "hundreds of rounds about signals of nvlaunch, whatever its ranks are",
    ),
];

/// The files whose tests are done again.
const FILES: &[&str] = &[
    include_str!("../behaviours/ends.rs"),
    include_str!("../behaviours/output.rs"),
    include_str!("../behaviours/restart.rs"),
    include_str!("../behaviours/start.rs"),
    include_str!("../orphans.rs"),
    include_str!("../signals.rs"),
    include_str!("../first_failure.rs"),
    include_str!("../suspend.rs"),
    include_str!("../streams.rs"),
];

#[test]
fn every_test_of_cold_ranks_is_done_again_or_says_why_not() {
    let there: BTreeSet<&str> = FILES
        .iter()
        .flat_map(|text| text.split("#[test]\n").skip(1))
        .filter_map(|after| after.split("fn ").nth(1)?.split('(').next())
        .collect();
    let not_again = NOT_AGAIN.iter().map(|(test, why)| {
        assert!(!why.is_empty(), "{test}");
        *test
    });
    let listed: BTreeSet<&str> = AGAIN.iter().copied().chain(not_again).collect();
    assert_eq!(there, listed);
    assert_eq!(listed.len(), AGAIN.len() + NOT_AGAIN.len(), "a test is in both lists");
}

#[test]
#[should_panic(expected = "the ranks are not warm")]
fn a_launch_that_goes_cold_is_noticed() {
    harness::warm("no_such_module", || harness::Job::new().script("").run());
}
