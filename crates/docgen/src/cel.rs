//! Makes templates from CEL expressions of messages: texts joined by `+`, with `<placeholders>` for parts that differ
//! from request to request. An unknown part is an error, so that no message is missing on the page.

use anyhow::{Context as _, Result, bail};

/// The expressions that a message may contain, with their placeholders.
const PLACEHOLDERS: [(&str, &str); 7] = [
    ("variables.name", "<name>"),
    ("variables.address", "<host:port>"),
    ("variables.patterns.join(', ')", "<patterns>"),
    ("request.namespace", "<namespace>"),
    ("request.kind.kind", "<kind>"),
    ("object.metadata.name", "<name>"),
    ("(request.operation == 'DELETE' ? oldObject : object).metadata.name", "<name>"),
];
const VERB: &str = "[request.operation]";

/// Returns the messages that the expression can produce: one for each branch of its conditions.
pub fn templates(expression: &str) -> Result<Vec<String>> {
    let expression = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut templates = vec![String::new()];
    for part in split(&expression, "+") {
        let alternatives =
            alternatives(part.trim()).with_context(|| format!("the expression {expression}"))?;
        templates = templates
            .iter()
            .flat_map(|begin| alternatives.iter().map(move |end| format!("{begin}{end}")))
            .collect();
    }
    Ok(templates)
}

fn alternatives(part: &str) -> Result<Vec<String>> {
    if let Some(known) = PLACEHOLDERS.iter().find(|(expression, _)| *expression == part) {
        return Ok(vec![known.1.to_owned()]);
    }
    if let Some(text) = part.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Ok(vec![text.replace("\\'", "'")]);
    }
    if let Some(verbs) = part.strip_suffix(VERB) {
        let verbs = verbs.trim_matches(['{', '}']).split(',').filter_map(|pair| pair.split_once(':'));
        let verbs: Vec<&str> = verbs.map(|(_, verb)| verb.trim().trim_matches('\'')).collect();
        return Ok(vec![format!("<{}>", verbs.join("|"))]);
    }
    let inner = part.strip_prefix('(').and_then(|part| part.strip_suffix(')')).unwrap_or_default();
    let [_, branches] = split(inner, " ? ")[..] else { bail!("{part} is not known here") };
    let [yes, no] = split(branches, " : ")[..] else { bail!("{part} is not known here") };
    Ok([templates(yes)?, templates(no)?].concat())
}

/// Splits at separators that are neither in a text nor in brackets.
fn split<'a>(expression: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut begin, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_u32, false, false);
    for (index, c) in expression.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '\'' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            _ if !quoted && depth == 0 && index >= begin && expression[index..].starts_with(separator) => {
                parts.push(&expression[begin..index]);
                begin = index + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[begin..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_texts_and_placeholders() {
        let expression = "'SystemRegistry ' + variables.name + ' can\\'t be + ' +
            {'CREATE': 'created', 'DELETE': 'deleted'}[request.operation] + ' here'";
        assert_eq!(
            templates(expression).unwrap(),
            ["SystemRegistry <name> can't be + <created|deleted> here"]
        );
    }

    #[test]
    fn gives_each_branch_a_message() {
        let expression =
            "'It is ' + (request.namespace in ['a'] ? 'a system namespace' : 'no ' + request.namespace)";
        assert_eq!(templates(expression).unwrap(), ["It is a system namespace", "It is no <namespace>"]);
    }

    #[test]
    fn rejects_unknown_expressions() {
        assert!(templates("'a' + object.spec.surprise").is_err());
    }
}
