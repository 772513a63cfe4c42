//! A page whose verdict comes bit by bit: first the page up to it, then each layer as soon as it is known, then the rest. Needs no script:
//! browsers show what has arrived.

use std::{convert::Infallible, sync::Arc};

use askama::Template;
use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use futures::stream;
use http::{StatusCode, header};
use registry_api::RegistryStatus;
use registry_check::check::Learned;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{
    pages::{AddPage, LayerPart, VERDICT, VerdictPart},
    verdict::{LayerRow, VerdictView, known_layers},
    visible::with_visible_text,
};

const LIST: &str = "<ol class=\"layers\">";
const END_OF_LIST: &str = "</ol>";

/// The answer with that page. `check` is told whom to report to, and is dropped when the browser goes away.
pub fn page<C, F>(page: &AddPage, check: C) -> Response
where
    C: FnOnce(Arc<Learned>) -> F,
    F: Future<Output = Result<VerdictView, String>> + Send + 'static,
{
    let Ok(text) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let (head, tail) = text.split_once(VERDICT).unwrap_or((&text, ""));
    let (chunks, mut received) = unbounded_channel::<String>();
    // If nobody receives it any more, the task ends by that.
    let _ = chunks.send(with_visible_text(format!("{head}{LIST}")));
    let (layers, mut known) = unbounded_channel();
    let learned = move |status: &RegistryStatus| {
        let _ = layers.send(known_layers(status));
    };
    let (check, tail) = (check(Arc::new(learned)), tail.to_owned());
    tokio::spawn(async move {
        let mut check = Box::pin(check);
        let mut shown = Vec::new();
        let verdict = loop {
            tokio::select! {
                biased;
                () = chunks.closed() => return,
                Some(rows) = known.recv() => show(&chunks, &mut shown, &rows),
                verdict = &mut check => break verdict,
            }
        };
        let _ = chunks.send(with_visible_text(format!("{}{tail}", rest(&shown, verdict))));
    });
    let body = stream::poll_fn(move |context| {
        received.poll_recv(context).map(|chunk| chunk.map(Ok::<_, Infallible>))
    });
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], Body::from_stream(body)).into_response()
}

/// Shows the layers that are new.
fn show(chunks: &UnboundedSender<String>, shown: &mut Vec<LayerRow>, known: &[LayerRow]) {
    for row in known.iter().skip(shown.len()) {
        let _ = chunks.send(with_visible_text(item(row)));
        shown.push(row.clone());
    }
}

/// The end of the list, and what comes below it. If a layer that was shown is another one in the end, for example because the token
/// service's certificate is worse than the registry's, all layers come again; the style sheet hides the first list then.
fn rest(shown: &[LayerRow], verdict: Result<VerdictView, String>) -> String {
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(why) => VerdictView::failed(why),
    };
    let (start, open) = if verdict.layers.starts_with(shown) {
        (shown.len(), String::new())
    } else {
        (0, format!("{END_OF_LIST}{LIST}"))
    };
    let items: String = verdict.layers.iter().skip(start).map(item).collect();
    let below = VerdictPart { verdict }.render().unwrap_or_default();
    format!("{open}{items}{END_OF_LIST}{below}")
}

fn item(row: &LayerRow) -> String {
    LayerPart { layer: row.clone() }.render().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Badge;

    fn row(name: &str, status: &str) -> LayerRow {
        LayerRow { name: name.to_owned(), badge: Badge::new(status, "Reason"), message: String::new() }
    }

    fn verdict(layers: Vec<LayerRow>) -> VerdictView {
        VerdictView { layers, ..VerdictView::failed("the end".to_owned()) }
    }

    #[test]
    fn layers_that_were_shown_do_not_come_again() {
        let (first, second) = (row("First", "True"), row("Second", "True"));
        let rest = rest(std::slice::from_ref(&first), Ok(verdict(vec![first.clone(), second])));
        assert!(!rest.contains("First") && rest.contains("Second") && rest.contains("the end"), "{rest}");
        assert_eq!(rest.matches("</ol>").count(), 1);
    }

    #[tokio::test]
    async fn check_ends_with_its_browser() {
        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let chrome = crate::pages::Chrome::signed_out();
        let place = crate::pages::AddPlace::default();
        let form = crate::form::RegistryForm::default();
        let form = AddPage::new(chrome, form, place, &crate::draft::FormDraft::default());
        let answer = page(&AddPage { is_checked: true, ..form }, |_| async move {
            let _alive = alive;
            std::future::pending().await
        });
        drop(answer);
        assert_eq!(ended.recv().await, None);
    }

    #[test]
    fn layer_that_changed_makes_a_new_list() {
        let rest = rest(&[row("First", "True")], Ok(verdict(vec![row("First", "False")])));
        assert!(rest.starts_with("</ol><ol class=\"layers\">") && rest.contains("✗"), "{rest}");
    }
}
