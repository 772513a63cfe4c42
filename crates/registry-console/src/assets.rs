//! Style, script and icon, in the program itself. Their names hold a digest of what they hold, so browsers may keep them for good.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// How long browsers may keep an asset.
pub const KEEP: &str = "public, max-age=31536000, immutable";

/// A file that pages refer to.
#[derive(Debug)]
pub struct Asset {
    /// Its path on this server.
    pub path: String,
    /// Its media type.
    pub media_type: &'static str,
    /// What it holds.
    pub content: &'static [u8],
}

impl Asset {
    fn new(stem: &str, extension: &str, media_type: &'static str, content: &'static [u8]) -> Self {
        let digest = digest(&SHA256, content);
        let hash = BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..9]);
        Self { path: format!("/assets/{stem}-{hash}.{extension}"), media_type, content }
    }
}

/// The style sheet.
pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("console", "css", "text/css; charset=utf-8", include_bytes!("../assets/console.css"))
});
/// The script. Every page works without it.
pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("console", "js", "text/javascript; charset=utf-8", include_bytes!("../assets/console.js"))
});
/// The icon.
pub static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_bytes!("../assets/icon.svg")));

/// The asset at that path.
pub fn find(path: &str) -> Option<&'static Asset> {
    let all: [&'static Asset; 3] = [&STYLE, &SCRIPT, &ICON];
    all.into_iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_stay_small() {
        assert!(STYLE.content.len() <= 12 * 1024, "{}", STYLE.content.len());
        assert!(SCRIPT.content.len() <= 8 * 1024, "{}", SCRIPT.content.len());
    }

    #[test]
    fn is_found_by_its_whole_path() {
        assert!(find(&STYLE.path).is_some());
        assert!(find("/assets/console.css").is_none());
        assert!(STYLE.path.starts_with("/assets/console-") && STYLE.path.len() > 30);
    }

    #[test]
    fn stopped_form_can_be_sent_again() {
        let script = str::from_utf8(SCRIPT.content).unwrap();
        for way in ["\"Escape\" && again()", "setTimeout(again", "addEventListener(\"pageshow\", again)"] {
            assert!(script.contains(way), "{way}");
        }
    }

    #[test]
    fn script_makes_no_markup_of_text() {
        let script = str::from_utf8(SCRIPT.content).unwrap();
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("] {
            assert!(!script.contains(way), "{way}");
        }
    }
}
