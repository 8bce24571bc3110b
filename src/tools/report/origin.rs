//! Where runs come from: the program, the commands, the days and the data.

use maud::{Markup, html};

use crate::device::environment::Environment;
use crate::store::run_record::{Execution, RunRecord};
use crate::tools::shell::quoted;

/// Works that one command did with one program.
struct Work<'a> {
    /// Each kind of work, and how often.
    kinds: Vec<(&'a str, usize)>,
    command: &'a [String],
    environment: &'a Environment,
    started: &'a str,
    ended: &'a str,
}

/// The section; nothing without records.
pub(super) fn section(records: &[&RunRecord]) -> Markup {
    let works = works(records.iter().flat_map(|record| &record.history));
    let mut data: Vec<(&str, &str)> = Vec::new();
    for RunRecord { dataset, .. } in records {
        let set = (dataset.name.as_str(), dataset.fingerprint.as_str());
        if !data.contains(&set) {
            data.push(set);
        }
    }
    html! {
        @if !records.is_empty() {
            section {
                h2 { "Where it comes from" }
                @if !works.is_empty() {
                    div.wide { table.protocol {
                        thead { tr { th { "what" } th { "when (UTC)" } th { "rotnet" } th { "command" } } }
                        tbody {
                            @for work in &works {
                                tr {
                                    th scope="row" { (work.in_words()) }
                                    td data-label="when" { (work.started) " to " (work.ended) }
                                    td data-label="rotnet" { (program(work.environment)) }
                                    td data-label="command" { code { (typed(work.command)) } }
                                }
                            }
                        }
                    } }
                } @else {
                    p { "Made by rotnet " (program(&records[0].environment)) "; the commands were not recorded." }
                }
                dl.data {
                    @for (name, fingerprint) in data {
                        div { dt { "Data set" } dd { (name) } }
                        div { dt { "Fingerprint" } dd { code { (fingerprint) } } }
                    }
                }
                p.caption {
                    "The same command, with the same version of the program and the same data, gives the same numbers "
                    "again, except for times. The fingerprint is a SHA-256 of the data."
                }
            }
        }
    }
}

fn works<'a>(history: impl Iterator<Item = &'a Execution>) -> Vec<Work<'a>> {
    let mut works: Vec<Work<'a>> = Vec::new();
    for Execution { work, command, started, ended, environment } in history {
        let same = |other: &&mut Work<'_>| {
            other.command == &command[..]
                && (&other.environment.rotnet, &other.environment.source)
                    == (&environment.rotnet, &environment.source)
        };
        let Some(known) = works.iter_mut().find(same) else {
            works.push(Work { kinds: vec![(work, 1)], command, environment, started, ended });
            continue;
        };
        // All times are UTC in one form, whose order is that of its letters.
        known.started = known.started.min(started);
        known.ended = known.ended.max(ended);
        match known.kinds.iter_mut().find(|(kind, _)| kind == work) {
            Some((_, count)) => *count += 1,
            None => known.kinds.push((work, 1)),
        }
    }
    works
}

impl Work<'_> {
    fn in_words(&self) -> String {
        let kind = |(kind, count): &(&str, usize)| match count {
            1 => (*kind).to_owned(),
            count => format!("{kind} ({count} times)"),
        };
        self.kinds.iter().map(kind).collect::<Vec<_>>().join(", ")
    }
}

/// Version and commit.
fn program(environment: &Environment) -> String {
    let source = environment
        .source
        .as_ref()
        .map_or_else(|| ", commit unknown".to_owned(), |source| format!(", {source}"));
    environment.rotnet.clone() + &source
}

/// A command as it is typed in a shell.
fn typed(command: &[String]) -> String {
    command.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(works: &[(&str, &str, &str)]) -> RunRecord {
        let environment = json!({
            "rotnet": "9.8.7", "source": {"commit": "0123456789abcdef", "clean": false}, "processor": "p",
            "kernels": "k", "threads": 1, "device": "flex"
        });
        let history = works.iter().map(|(work, word, time)| {
            json!({
                "work": work, "command": ["rotnet", "run", word], "started": time, "ended": time,
                "environment": environment
            })
        });
        let history: Vec<_> = history.collect();
        let dataset = json!({"name": "<cats>", "fingerprint": "f00d"});
        let record = json!({
            "environment": environment, "dataset": dataset, "test_evaluations": 0, "history": history
        });
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn commands_are_named_once_with_program_times_and_data() {
        let one = record(&[
            ("pretrain", "a b", "2026-01-02"),
            ("finetune", "a b", "2026-01-03"),
            ("evaluate", "<c>", "2026-01-04"),
        ]);
        let other = record(&[("finetune", "a b", "2026-01-01")]);
        let page = section(&[&one, &other]).into_string();
        assert!(
            page.contains("pretrain, finetune (2 times)") && page.contains("2026-01-01 to 2026-01-03"),
            "{page}"
        );
        assert!(
            page.matches("<code>rotnet run &#39;").count() + page.matches("<code>rotnet run '").count() == 2,
            "{page}"
        );
        assert!(page.contains("9.8.7, commit 0123456789ab, changed"), "{page}");
        assert!(
            page.matches("f00d").count() == 1 && page.contains("&lt;cats&gt;") && page.contains("&lt;c&gt;")
        );
        assert_eq!(section(&[]).into_string(), "");
        assert!(section(&[&record(&[])]).into_string().contains("commands were not recorded"));
    }
}
