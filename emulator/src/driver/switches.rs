//! The debug switches that the driver reads from the environment when it is initialised.

use crate::{AsyncCopies, Options, Schedule};

/// What the environment asks for.
pub(crate) struct Switches {
    pub(crate) options: Options,
    pub(crate) statistics: bool,
}

/// Reads every `EMO_EMULATOR_` variable. A value that is not understood is an error: a debug run must not silently be
/// an ordinary one.
pub(crate) fn read() -> Result<Switches, String> {
    parse(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Switches, String> {
    let mut switches = Switches { options: Options::default(), statistics: false };
    let options = &mut switches.options;
    let of = |name: &str, expected: &str, value: &str| format!("{name} is `{value}`; expected {expected}");
    if let Some(value) = variable("EMO_EMULATOR_SCHEDULE") {
        let seed = value.strip_prefix("random:").and_then(|seed| seed.parse().ok());
        options.schedule = match (value.as_str(), seed) {
            ("round-robin", _) => Schedule::RoundRobin,
            ("greedy", _) => Schedule::Greedy,
            (_, Some(seed)) => Schedule::Random(seed),
            _ => return Err(of("EMO_EMULATOR_SCHEDULE", "round-robin, greedy or random:SEED", &value)),
        };
    }
    if let Some(value) = variable("EMO_EMULATOR_COPIES") {
        options.async_copies = match value.as_str() {
            "early" => AsyncCopies::Early,
            "late" => AsyncCopies::Late,
            _ => return Err(of("EMO_EMULATOR_COPIES", "early or late", &value)),
        };
    }
    if let Some(value) = variable("EMO_EMULATOR_CHECKS") {
        (options.checks, options.lane_races) = match value.as_str() {
            "strict" => (true, true),
            "on" => (true, false),
            "off" => (false, false),
            _ => return Err(of("EMO_EMULATOR_CHECKS", "strict, on or off", &value)),
        };
    }
    if let Some(value) = variable("EMO_EMULATOR_THREADS") {
        let threads = value.parse().ok().filter(|threads| (1..=256).contains(threads));
        options.threads =
            threads.ok_or_else(|| of("EMO_EMULATOR_THREADS", "a number from 1 to 256", &value))?;
    }
    if let Some(value) = variable("EMO_EMULATOR_STATS") {
        switches.statistics = match value.as_str() {
            "1" => true,
            "0" => false,
            _ => return Err(of("EMO_EMULATOR_STATS", "0 or 1", &value)),
        };
    }
    Ok(switches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> Result<Switches, String> {
        parse(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn switches_change_what_they_name_and_nothing_else() {
        let base = Options::default();
        let random = with("EMO_EMULATOR_SCHEDULE", "random:7").unwrap().options;
        assert_eq!(random, Options { schedule: Schedule::Random(7), ..base.clone() });
        let late = with("EMO_EMULATOR_COPIES", "late").unwrap().options;
        assert_eq!(late, Options { async_copies: AsyncCopies::Late, ..base.clone() });
        let quick = with("EMO_EMULATOR_CHECKS", "off").unwrap().options;
        assert_eq!(quick, Options { checks: false, ..base.clone() });
        let strict = with("EMO_EMULATOR_CHECKS", "strict").unwrap().options;
        assert_eq!(strict, Options { lane_races: true, ..base.clone() });
        let threads = with("EMO_EMULATOR_THREADS", "3").unwrap().options;
        assert_eq!(threads, Options { threads: 3, ..base });
        assert!(with("EMO_EMULATOR_STATS", "1").unwrap().statistics);
    }

    #[test]
    fn a_value_that_is_not_understood_is_an_error_that_names_the_switch() {
        for name in ["SCHEDULE", "COPIES", "CHECKS", "THREADS", "STATS"] {
            let full = format!("EMO_EMULATOR_{name}");
            let error = parse(|asked| (asked == full).then(|| "often".to_owned())).err().expect("an error");
            assert!(error.starts_with(&full), "{error}");
        }
    }
}
