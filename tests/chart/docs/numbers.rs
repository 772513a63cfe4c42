//! Pauses and limits, as pages state them: each is the code's. A sentence with a series of pauses has to be one of [`stated`].

use anyhow::{Result, ensure};
use registry_probe::Backoff;
use registry_testbed::in_repository;
use registry_verdict::rejections::table::{MOST_AT_A_HOST, MOST_OF_THE_SAME};

use super::{links::all_pages, structure::all_sources};
use crate::programs::text_of;

/// Each place that states a pause: the page, what is before the pause, and the pause.
fn pauses() -> Vec<(&'static str, &'static str, Backoff)> {
    vec![
        ("docs/availability.md", "The operator checks again after", Backoff::FOREIGN_SECRET),
        ("docs/conditions.md", "the same credentials at the same host after", Backoff::REJECTED_CREDENTIALS),
        ("docs/conditions.md", "| a transient failure | after", Backoff::TRANSIENT),
        ("docs/conditions.md", "| `Rejected` | after", Backoff::REJECTED_CREDENTIALS),
        ("docs/conditions.md", "| another definite failure | after", Backoff::DEFINITE),
        (
            "docs/decisions/0061-rejections-over-a-restart.md",
            "are retried after",
            Backoff::REJECTED_CREDENTIALS,
        ),
        ("docs/decisions/0068-api-server-errors.md", "one back-off (", Backoff::API_CALL),
        ("docs/decisions/0074-forward-proxies.md", "A rejected login waits", Backoff::PROXY_LOGIN),
        ("docs/ecr.md", "| throttling and internal errors |", Backoff::AWS_TRANSIENT),
        ("docs/ecr.md", "| rejected or expired keys |", Backoff::REJECTED_CREDENTIALS),
        ("docs/ecr.md", "| other refusals |", Backoff::AWS_REFUSED),
        ("docs/operations.md", "the operator retries after", Backoff::PROXY_LOGIN),
        (
            "docs/registries.md",
            "The operator retries a rejected password after",
            Backoff::REJECTED_CREDENTIALS,
        ),
        ("docs/security.md", "After `Rejected`, the operator pauses for", Backoff::REJECTED_CREDENTIALS),
    ]
}

/// Each place that states a limit, with the number in its words.
fn limits() -> Vec<(&'static str, String)> {
    let (in_all, of_the_same) = (in_words(MOST_AT_A_HOST), in_words(MOST_OF_THE_SAME));
    vec![
        ("docs/conditions.md", format!("changes, at most {of_the_same} times a minute.")),
        ("docs/conditions.md", format!("it makes at most {in_all} attempts a minute that a host rejects.")),
        ("docs/conditions.md", format!("other credentials of this tenant {in_all} times within a minute")),
        ("docs/security.md", format!("A host rejects at most {in_all} attempts a minute per tenant")),
        ("docs/tenancy.md", format!("one host rejects at most {in_all} attempts a minute of one tenant.")),
        ("docs/tenancy.md", format!("A registry with several names allows {in_all} attempts for each.")),
    ]
}

fn in_words(number: usize) -> String {
    const WORDS: [&str; 13] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve",
    ];
    WORDS.get(number).map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

/// The text of a page as one line.
fn line_of(page: &str) -> Result<String> {
    Ok(text_of(page)?.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// How many series of pauses there are, such as `1, 2, 4 … 60`.
fn series(text: &str) -> usize {
    let ends_with_a_list = |before: &str| {
        let numbers: Vec<&str> = before.rsplit(", ").take(3).collect();
        let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let first = numbers.last().and_then(|first| first.rsplit([' ', '(']).next()).unwrap_or_default();
        numbers.len() == 3 && is_number(first) && numbers[..2].iter().all(|number| is_number(number))
    };
    text.match_indices(" …").filter(|(at, _)| ends_with_a_list(&text[..*at])).count()
}

#[test]
fn pages_state_the_pauses_of_the_code() -> Result<()> {
    let mut wrong = Vec::new();
    for page in all_pages()? {
        let text = line_of(&page)?;
        let here: Vec<_> = pauses().into_iter().filter(|(of, ..)| *of == page).collect();
        let count = series(&text);
        if count != here.len() {
            wrong.push(format!("{page} has {count} series of pauses, but numbers.rs knows {}", here.len()));
        }
        for (_, before, backoff) in here {
            let space = if before.ends_with('(') { "" } else { " " };
            let expected = format!("{before}{space}{backoff}");
            if !text.contains(&expected) {
                wrong.push(format!("{page} must say: {expected}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn pages_state_the_limits_of_the_code() -> Result<()> {
    let mut wrong = Vec::new();
    for (page, expected) in limits() {
        if !line_of(page)?.contains(&expected) {
            wrong.push(format!("{page} must say: {expected}"));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The numbers stand where the pauses are defined, and in no comment beside.
#[test]
fn comments_state_no_pauses() -> Result<()> {
    let mut wrong = Vec::new();
    for file in all_sources(["src", "crates"].map(in_repository))? {
        for line in std::fs::read_to_string(&file)?.lines() {
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            if series(comment) > 0 {
                wrong.push(format!("{}: name the constant instead: {line}", file.display()));
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn finds_series_of_numbers() {
    assert_eq!(series("waits 1, 2, 4 … 60 minutes, or (5, 10, 20 … seconds)"), 2);
    assert_eq!(series("a, b, c … d; 1, 2 … 3; … 4, 5, 6"), 0);
}
