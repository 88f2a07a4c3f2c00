//! The page in the browser: three files, which are part of the program, and the states that they show. A phone that votes
//! has three files of its own.
//!
//! `state`: all of it, as JSON. `history`: the course of a trial. `progress`: the steps of a rehearsal. `versions`:
//! a line for each version that answers. `rules`: rules of thumb beside the judge.

mod history;
mod progress;
mod rules;
mod state;
mod versions;

pub(crate) use self::{
    history::{History, Present},
    progress::{Canary, Conditions, Progress, Round, Vote},
    rules::Rules,
    state::{Heading, Outage, State, Subject},
};

/// A file of the page by its path: its content type, and its bytes.
pub(crate) fn asset(path: &str) -> Option<(&'static str, &'static [u8])> {
    match path {
        "/" => Some(("text/html; charset=utf-8", include_bytes!("page/index.html"))),
        "/page.css" => Some(("text/css; charset=utf-8", include_bytes!("page/page.css"))),
        "/page.js" => Some(("text/javascript; charset=utf-8", include_bytes!("page/page.js"))),
        _ => None,
    }
}

/// A file of the page on which phones vote.
pub(crate) fn asset_for_phones(path: &str) -> Option<(&'static str, &'static [u8])> {
    match path {
        "/" => Some(("text/html; charset=utf-8", include_bytes!("page/vote.html"))),
        "/vote.css" => Some(("text/css; charset=utf-8", include_bytes!("page/vote.css"))),
        "/vote.js" => Some(("text/javascript; charset=utf-8", include_bytes!("page/vote.js"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> &'static str {
        std::str::from_utf8(asset(path).expect("a file").1).expect("UTF-8")
    }

    fn of_phones(path: &str) -> &'static str {
        std::str::from_utf8(asset_for_phones(path).expect("a file").1).expect("UTF-8")
    }

    #[test]
    fn all_that_the_page_names_is_part_of_it_and_nothing_comes_from_elsewhere() {
        for path in ["/", "/page.css", "/page.js"] {
            assert!(!text(path).contains("://"), "{path} has an absolute link");
        }
        for named in ["page.css", "page.js"] {
            assert!(text("/").contains(&format!("=\"{named}\"")), "{named}");
        }
        assert_eq!(asset("/index.html"), None);
        for path in ["/", "/vote.css", "/vote.js"] {
            assert!(!of_phones(path).contains("://"), "{path} has an absolute link");
        }
        for named in ["vote.css", "vote.js"] {
            assert!(of_phones("/").contains(&format!("=\"{named}\"")), "{named}");
            assert_eq!(asset(&format!("/{named}")), None, "the two pages have no file in common");
        }
    }

    #[test]
    fn the_strict_content_security_policy_finds_no_inline_script_and_no_inline_style() {
        for (page, script) in [(text("/"), text("/page.js")), (of_phones("/"), of_phones("/vote.js"))] {
            for inline in [" style=", "<style", " onclick=", " onload=", "<script>"] {
                assert!(!page.contains(inline), "{inline}");
            }
            for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!script.contains(markup), "{markup}");
            }
        }
    }
}
