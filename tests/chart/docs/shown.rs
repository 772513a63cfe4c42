//! Whether a command printed what the page shows. Every word must be there, in its place; the width of columns does not count.
//! Spans of time and times differ from run to run. `…` stands for any part of a word, any words of a line, or any lines.

/// Whether the printed output matches the shown one.
pub fn is_printed(shown: &str, printed: &str) -> bool {
    let (shown, mut printed) = (lines(shown), lines(printed));
    printed.retain(|words| !is_chatter(words[0]));
    fits(&shown, &printed, &|line| line == &[GAP], &|one, other| {
        fits(one, other, &|word| *word == GAP, &same)
    })
}

const GAP: &str = "…";

fn lines(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect()
}

/// How a line begins that kubectl's libraries log on standard error, now and then: I1122. It answers nothing.
fn is_chatter(word: &str) -> bool {
    let day = word.strip_prefix(['I', 'W', 'E']);
    day.is_some_and(|day| day.len() == 4 && day.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether each of `shown` is the same as its counterpart, where a gap is as many as need be.
fn fits<T>(shown: &[T], printed: &[T], is_gap: &dyn Fn(&T) -> bool, same: &dyn Fn(&T, &T) -> bool) -> bool {
    match (shown, printed) {
        ([], []) => true,
        ([gap, rest @ ..], _) if is_gap(gap) => {
            (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..], is_gap, same))
        }
        ([one, rest @ ..], [other, others @ ..]) => same(one, other) && fits(rest, others, is_gap, same),
        _ => false,
    }
}

fn same(shown: &&str, printed: &&str) -> bool {
    let both = |is: fn(&str) -> bool| is(shown) && is(printed);
    if shown == printed || both(is_span) || both(is_time) {
        return true;
    }
    let parts: Vec<&str> = shown.split(GAP).collect();
    parts.len() > 1 && has_parts(&parts, printed)
}

/// Whether the word consists of these, in their order, and of anything between.
fn has_parts(parts: &[&str], word: &str) -> bool {
    match parts {
        [last] => word.ends_with(last),
        [first, rest @ ..] => {
            word.match_indices(first).any(|(at, _)| has_parts(rest, &word[at + first.len()..]))
        }
        [] => false,
    }
}

/// 10m, 3m20s
fn is_span(word: &str) -> bool {
    let mut parts = word.split_inclusive(|c: char| !c.is_ascii_digit()).peekable();
    let is_part = |part: &str| part.len() > 1 && part.ends_with(['s', 'm', 'h', 'd']);
    parts.peek().is_some() && parts.all(is_part)
}

/// 2026-11-22T10:40:16Z
fn is_time(word: &str) -> bool {
    let shape: String =
        word.trim_matches('"').chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00Z"
}

#[test]
fn ignores_only_what_differs_between_runs() {
    for (shown, printed) in [
        ("NAME   AGE\npacks  5s", "NAME  AGE\npacks 3m20s\n"),
        ("ends 2026-11-22T10:40:16Z", "ends 2027-01-02T03:04:05Z"),
        ("a: …", "a: eyJhdXR more"),
        ("{\"password\":\"…\",\"user\":\"me\"}", "{\"password\":\"x,y\",\"user\":\"me\"}"),
        ("…\nlast", "first\nsecond\n\nlast"),
        ("met", "I1122 15:33:34.945434    4563 reflector.go:664] watch ended\nmet\n"),
    ] {
        assert!(is_printed(shown, printed), "{shown} | {printed}");
    }
    for (shown, printed) in [
        ("packs True", "packs False"),
        ("packs", "packs True"),
        ("packs 5s", "packs 5"),
        ("one", "one\ntwo"),
        ("{\"namespaces\":9}", "{\"namespaces\":3}"),
        ("ends …Z", "ends 5X"),
    ] {
        assert!(!is_printed(shown, printed), "{shown} | {printed}");
    }
}
