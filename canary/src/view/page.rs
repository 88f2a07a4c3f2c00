//! The page that a browser shows.

/// The content type and the bytes of the page's file under that path.
pub(crate) fn asset(path: &str) -> Option<(&'static str, &'static [u8])> {
    (path == "/").then_some(("text/html; charset=utf-8", include_bytes!("page/index.html")))
}
