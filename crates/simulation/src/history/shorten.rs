//! The shortest history that still fails (delta debugging): removes ever smaller parts, as long as the rest fails.

use super::SimulatedHistory;

/// Removes events as long as the history `fails` without them. Returns a history that fails, of which no single event can be removed.
pub fn shorten(
    history: SimulatedHistory,
    mut fails: impl FnMut(&SimulatedHistory) -> bool,
) -> SimulatedHistory {
    let mut shortest = history;
    let mut size = shortest.events.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        let mut removed = false;
        while start < shortest.events.len() {
            let mut candidate = shortest.clone();
            let end = (start + size).min(candidate.events.len());
            candidate.events.drain(start..end);
            if fails(&candidate) {
                (shortest, removed) = (candidate, true);
            } else {
                start = end;
            }
        }
        // With single events, once more: one may be needed only by another that went later.
        size = if size > 1 { size / 2 } else { usize::from(removed) };
    }
    shortest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::history::generate::history;

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let mut whole = history(1);
        whole.events.extend(history(2).events);
        whole.events.extend(history(3).events);
        let needed = [2, 7, 11].map(|index: usize| whole.events[index].clone());
        let fails = |history: &SimulatedHistory| needed.iter().all(|event| history.events.contains(event));
        let shortest = shorten(whole.clone(), fails);
        let left: BTreeSet<_> = shortest.events.iter().map(|event| event.at).collect();
        assert_eq!(left, needed.iter().map(|event| event.at).collect());
        assert_eq!(shortest.events.len(), 3);
    }
}
