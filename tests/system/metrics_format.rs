//! The text format in which metrics are exposed (Prometheus 0.0.4), read strictly: what Prometheus or its linter would pass over
//! or take for something else is an error here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

/// A metric family: what shares one name, one type and one help text.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// gauge, counter, histogram.
    pub kind: String,
    /// What it is, for people.
    pub help: String,
    /// Every sample.
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The name with its suffix.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// Reads an exposition.
pub fn parse(text: &str) -> Result<BTreeMap<String, Family>> {
    ensure!(text.ends_with('\n'), "it does not end with a line feed");
    let mut families = BTreeMap::new();
    let mut current: Option<(String, Family)> = None;
    for line in text.lines() {
        read(line, &mut current, &mut families).with_context(|| format!("line {line:?}"))?;
    }
    close(current, &mut families)?;
    Ok(families)
}

fn read(
    line: &str,
    current: &mut Option<(String, Family)>,
    families: &mut BTreeMap<String, Family>,
) -> Result<()> {
    let Some(comment) = line.strip_prefix("# ") else {
        let (name, family) = current.as_mut().context("a sample before any metadata")?;
        let sample = sample(line)?;
        belongs(&sample, name, &family.kind)?;
        family.samples.push(sample);
        return Ok(());
    };
    let mut words = comment.splitn(3, ' ');
    let (Some(word), Some(name), Some(text)) = (words.next(), words.next(), words.next()) else {
        bail!("metadata without a name or a text");
    };
    if current.as_ref().is_none_or(|(open, _)| open != name) {
        close(current.take(), families)?;
        ensure!(is_name(name), "{name:?} is no name of a metric");
        ensure!(!families.contains_key(name), "the family {name} comes twice");
        *current = Some((name.to_owned(), Family::default()));
    }
    let Some((_, family)) = current else { bail!("no family") };
    ensure!(family.samples.is_empty(), "metadata after samples");
    match word {
        "HELP" => text.clone_into(&mut family.help),
        "TYPE" => text.clone_into(&mut family.kind),
        other => bail!("unknown metadata {other}"),
    }
    Ok(())
}

fn close(family: Option<(String, Family)>, families: &mut BTreeMap<String, Family>) -> Result<()> {
    let Some((name, family)) = family else { return Ok(()) };
    ensure!(!family.help.is_empty(), "{name} has no help");
    ensure!(
        ["counter", "gauge", "histogram"].contains(&&*family.kind),
        "{name} is of the type {:?}",
        family.kind
    );
    ensure!(family.kind != "counter" || name.ends_with("_total"), "the counter {name} has no _total");
    let series: BTreeSet<_> = family.samples.iter().map(|sample| (&sample.name, &sample.labels)).collect();
    ensure!(series.len() == family.samples.len(), "{name} has a series twice");
    if family.kind == "histogram" {
        histogram(&name, &family)?;
    }
    families.insert(name, family);
    Ok(())
}

fn belongs(sample: &Sample, family: &str, kind: &str) -> Result<()> {
    let suffix = sample.name.strip_prefix(family).context("a sample of another family")?;
    let (allowed, least): (&[&str], f64) = match kind {
        "counter" => (&[""], 0.0),
        "histogram" => (&["_bucket", "_sum", "_count"], 0.0),
        _ => (&[""], f64::NEG_INFINITY),
    };
    ensure!(allowed.contains(&suffix), "a {kind} has no {suffix:?}");
    ensure!(!sample.value.is_nan() && sample.value >= least, "a {kind} of {}", sample.value);
    Ok(())
}

/// Buckets are cumulative and end with all.
fn histogram(name: &str, family: &Family) -> Result<()> {
    let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        match sample.name.strip_prefix(name) {
            Some("_bucket") => {
                let bound = labels.remove("le").context("a bucket without `le`")?;
                buckets.entry(labels).or_default().push((number(&bound)?, sample.value));
            }
            Some("_count") => drop(counts.insert(labels, sample.value)),
            _ => {}
        }
    }
    ensure!(buckets.len() == counts.len(), "{name}: buckets without a count");
    for (labels, buckets) in buckets {
        let rises = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        ensure!(rises, "{name}{labels:?}: {buckets:?} do not rise");
        let all = buckets.last().copied();
        let count = counts.get(&labels).copied();
        ensure!(
            all.is_some_and(|(bound, all)| bound.is_infinite() && Some(all) == count),
            "{name}{labels:?}: the last bucket {all:?} does not hold all {count:?}"
        );
    }
    Ok(())
}

/// `name{label="value",…} 1.0`, without timestamp or exemplar.
fn sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("neither labels nor value")?;
    let (name, rest) = line.split_at(end);
    ensure!(is_name(name), "{name:?} is no name of a metric");
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = value.strip_prefix(' ').context("no space before the value")?;
    Ok(Sample { name: name.to_owned(), labels, value: number(value)? })
}

/// Reads up to the closing brace; returns what comes after it.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        if !labels.is_empty() {
            rest = rest.strip_prefix(',').context("no comma between labels")?;
        }
        let (name, after) = rest.split_once("=\"").context("a label without a value")?;
        ensure!(is_label(name), "{name:?} is no name of a label");
        let (value, after) = quoted(after)?;
        ensure!(labels.insert(name.to_owned(), value).is_none(), "the label {name} comes twice");
        rest = after;
    }
}

fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                other => bail!("the escape {other:?}"),
            },
            character => value.push(character),
        }
    }
    bail!("a label's value does not end")
}

fn number(text: &str) -> Result<f64> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        text => {
            ensure!(
                text.starts_with(|first: char| first.is_ascii_digit() || first == '-'),
                "{text:?} is no number"
            );
            text.parse().with_context(|| format!("{text:?} is no number"))
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.contains("__")
}

fn is_label(name: &str) -> bool {
    is_name(name) && !name.starts_with('_')
}

#[test]
fn accepts_well_formed_exposition() -> Result<()> {
    let text = "# HELP waits_seconds Waits.\n# TYPE waits_seconds histogram\n\
                waits_seconds_sum{of=\"a\\\"b\"} 0.5\nwaits_seconds_count{of=\"a\\\"b\"} 2\n\
                waits_seconds_bucket{le=\"1.0\",of=\"a\\\"b\"} 1\n\
                waits_seconds_bucket{le=\"+Inf\",of=\"a\\\"b\"} 2\n";
    let families = parse(text)?;
    let family = families.get("waits_seconds").context("the family")?;
    ensure!(family.samples.len() == 4 && family.samples[0].labels["of"] == "a\"b", "{family:?}");
    Ok(())
}

#[test]
fn rejects_malformed_exposition() {
    let family = |kind: &str, samples: &str| format!("# HELP m Help.\n# TYPE m {kind}\n{samples}");
    let wrong = [
        "m 1\n".to_owned(),
        "# TYPE m gauge\nm 1\n".to_owned(),
        "# HELP m Help.\nm 1\n".to_owned(),
        family("gauge", "m 1"),
        family("gauge", "m 1\n# EOF\n"),
        family("counter", "m 1\n"),
        family("counter", "m_total 1\n"),
        "# HELP m_total Help.\n# TYPE m_total counter\nm_total -1\n".to_owned(),
        family("gauge", "m_total 1\n"),
        family("gauge", "other 1\n"),
        family("gauge", "m NaN\n"),
        family("gauge", "m one\n"),
        family("gauge", "m 1\nm 2\n"),
        family("gauge", "m{a=\"1\",a=\"2\"} 1\n"),
        family("gauge", "m{a=\"1\"b=\"2\"} 1\n"),
        family("gauge", "m{a=\"1} 1\n"),
        family("gauge", "m{a=\"\\t\"} 1\n"),
        family("gauge", "m{A=\"1\"} 1\n"),
        family("gauge", "# UNIT m seconds\nm 1\n"),
        family("gauge", "m 1\n# HELP n Help.\n# TYPE n gauge\nn 1\n# HELP m Help.\n# TYPE m gauge\n"),
        family("histogram", "m_count 1\nm_bucket{le=\"1.0\"} 1\n"),
        family("histogram", "m_count 2\nm_bucket{le=\"+Inf\"} 1\n"),
        family("histogram", "m_count 1\nm_bucket{le=\"1.0\"} 2\nm_bucket{le=\"+Inf\"} 1\n"),
    ];
    for text in wrong {
        assert!(parse(&text).is_err(), "{text}");
    }
}
