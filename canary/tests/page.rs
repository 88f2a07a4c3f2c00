//! The page in a real browser. Skipped, with a message, where there is no chromium-driver.
//!
//! `PAGE_PICTURE=FILE` saves the picture of docs/ in that file, and `PAGE_LOOKS=DIRECTORY` keeps pictures of
//! all looks.

mod common;

use common::{
    Fleet, Version,
    browser::{Browser, ENTER, ESCAPE, TAB},
    scripted::Scripted,
    serving::Serving,
    start,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::eventually;

/// A trial after `rounds` of four requests each. The canary answers the last one of each. `fails` says whether
/// it always fails.
fn state(decision: &str, sentence: &str, rounds: u32, fails: bool) -> Value {
    let (failed, rate, round) = if fails { (rounds, 1.0, "sssC") } else { (0, 0.0, "sssc") };
    let pod = |name: &str, release: &str, labels: Value, failed: u32| {
        json!({
            "name": name, "release": release, "present": true, "namespace": "", "labels": labels, "changed": [],
            "success": rounds - failed, "failure": failed
        })
    };
    let template = json!({"pod-template-hash": "567b989978"});
    let canary = json!({"canary": "broken", "pod-template-hash": "6d5f7c9b4"});
    let requests = rounds * 4;
    json!({
        "trial": "6d5f7c9b4", "seconds": f64::from(rounds) / 10.0, "title": "http://127.0.0.1:8080/v1/appinfo",
        "paused": false, "decision": decision, "sentence": sentence,
        "price_sentence": "The canary has cost about 85 failed requests, 0.33 % of a month's error budget.",
        "requests": requests, "rate": 40.0, "limit": 0.01, "alpha": 0.05,
        "evidence": {"ln_e_value": ln_e_value(rounds, fails), "ln_threshold": 20_f64.ln()},
        "sides": {"stable": side(rounds * 3, 0, 0.75), "canary": side(rounds, failed, 0.25)},
        "share_given": false, "unattributed": 0, "no_answer": 0, "causes": {},
        "dots": {"first": requests - 300, "outcomes": round.repeat(75)},
        "history": (1..=rounds).map(|seen| {
            let (stable, canary) = (bounds(0.0, seen * 3), bounds(rate, seen));
            let seconds = f64::from(seen) / 10.0;
            json!([seconds, 0.0, stable.0, stable.1, rate, canary.0, canary.1, ln_e_value(seen, fails)])
        }).collect::<Vec<_>>(),
        "pods": [
            pod("appinfo-567b989978-vvzlg", "stable", template.clone(), 0),
            pod("appinfo-567b989978-x2k4p", "stable", template.clone(), 0),
            pod("appinfo-567b989978-qq7dn", "stable", template, 0),
            pod("appinfo-canary-broken-6d5f7c9b4-8kzjw", "canary", canary, failed),
        ],
        "more_pods": 0, "rehearsal": null
    })
}

/// Made-up evidence and bounds in the form of the judge's. The page shows any values.
fn ln_e_value(seen: u32, fails: bool) -> f64 {
    if fails { f64::from(seen) * 1.1 } else { -f64::from(seen) / 60.0 }
}

fn bounds(rate: f64, requests: u32) -> (f64, f64) {
    let width = 8.0 / f64::from(requests + 8);
    (rate - rate * width, rate + (1.0 - rate) * width)
}

fn side(requests: u32, failed: u32, share: f64) -> Value {
    let (lower, upper) = bounds(f64::from(failed) / f64::from(requests), requests);
    json!({
        "success": requests - failed, "failure": failed, "slow": 0, "share": share, "expected_share": share,
        "lower": lower, "upper": upper, "p50_ms": 1.24, "p99_ms": 18.6
    })
}

fn broken_canary() -> Value {
    let sentence = "Roll back: the canary is worse than stable (clear after 9 of its answers). It has failed 85 of 85 \
        requests (between 90 % and 100 %), and stable 0 of 255 requests (between 0 % and 3.1 %).";
    let mut state = state("roll_back", sentence, 85, true);
    state["rehearsal"] = json!({
        "number": 4, "of": 8, "title": "Deploy the broken canary",
        "commands": ["kubectl create -f deployment/canary-broken.yaml"],
        "text": "A quarter of the requests fail, all of them the canary's. Yet the pod is ready: only its answers \
            show it.",
        "note": "", "next": "Roll back", "under_way": false
    });
    state
}

fn fixed_canary() -> Value {
    let sentence = "Not yet: the canary has failed 0 of 85 requests, so at most 4.3 % of its requests fail (the limit \
        is 1 %). Stable has failed 0 of 255 requests. A promotion takes about 290 more answers of the canary if all \
        of them succeed.";
    let mut state = state("not_yet", sentence, 85, false);
    state["price_sentence"] = json!("The canary has cost no requests beyond those that stable fails too.");
    state
}

/// A page that shows this state.
fn page_of(state: Value) -> Option<(Browser, Scripted)> {
    let browser = Browser::open(1280, 720)?;
    let server = Scripted::new(state);
    browser.prefers("light");
    browser.go(&server.url);
    // the page draws all parts of a state at once, but maybe a moment after it received it
    eventually("the first state is drawn", || !["", "Waiting"].contains(&browser.text("#word").as_str()));
    Some((browser, server))
}

fn is_without_complaints(browser: &Browser) {
    assert_eq!(browser.complaints(), [""; 0], "such as what the Content-Security-Policy forbids");
}

#[test]
fn the_verdict_is_in_large_letters_and_is_announced_when_it_changes() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    browser.until_shows("#word", "Not yet");
    browser.run(
        "window.announced = []; \
         new MutationObserver(() => announced.push(document.getElementById('announcement').textContent)) \
             .observe(document.getElementById('announcement'), {childList: true, characterData: true, subtree: true})",
    );
    let size = browser.run("return parseFloat(getComputedStyle(document.getElementById('word')).fontSize)");
    assert!(size.as_f64() >= Some(64.0), "{size} px");
    let told = browser.text("#sentence");
    assert!(told.starts_with("The canary has failed 0 of 85 requests"), "without the word above it: {told}");
    let verdicts = [
        ("promote", "Promote", "Promote: the canary has failed 0 of 700 requests."),
        ("hold", "Hold", "Hold: both releases fail more than 1 % of their requests."),
        ("roll_back", "Roll back", "Roll back: the canary is worse than stable."),
    ];
    let mut backgrounds = vec![background(&browser)];
    for (decision, word, sentence) in verdicts {
        server.edit(|state| {
            state["decision"] = json!(decision);
            state["sentence"] = json!(sentence);
        });
        browser.until_shows("#word", word);
        assert_eq!(browser.run("return document.title"), json!(format!("{word} · canary")));
        backgrounds.push(background(&browser));
    }
    backgrounds.sort();
    backgrounds.dedup();
    assert_eq!(backgrounds.len(), 4, "each verdict has its colour");
    server.edit(|state| state["sentence"] = json!("Roll back: one more answer."));
    browser.until_shows("#sentence", "One more answer.");
    let announced = browser.run("return announced");
    let expected = [
        "Verdict: Promote. The canary has failed 0 of 700 requests.",
        "Verdict: Hold. Both releases fail more than 1 % of their requests.",
        "Verdict: Roll back. The canary is worse than stable.",
    ];
    assert_eq!(announced, json!(expected), "not again for a new sentence");
    let live = browser.run("return document.getElementById('announcement').getAttribute('role')");
    assert_eq!(live, "status");
    is_without_complaints(&browser);
}

fn background(browser: &Browser) -> String {
    let colour = browser.run("return getComputedStyle(document.getElementById('verdict')).backgroundColor");
    colour.as_str().expect("a colour").to_owned()
}

#[test]
fn names_and_labels_that_hold_markup_are_shown_as_text() {
    let hostile = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>";
    let mut state = broken_canary();
    state["title"] = json!(format!("title {hostile}"));
    state["sentence"] = json!(format!("Roll back: sentence {hostile}"));
    state["price_sentence"] = json!(format!("price {hostile}"));
    state["causes"] = json!({hostile: 1});
    state["no_answer"] = json!(1);
    for field in ["title", "text", "note", "next"] {
        state["rehearsal"][field] = json!(format!("{field} {hostile}"));
    }
    state["rehearsal"]["commands"] = json!([hostile]);
    for field in ["name", "namespace", "release"] {
        state["pods"][0][field] = json!(format!("{field} {hostile}"));
    }
    state["pods"][0]["labels"] = json!({hostile: hostile, "__proto__": "x", "constructor": hostile});
    state["pods"][0]["changed"] = json!([hostile]);
    let Some((browser, _server)) = page_of(state) else { return };
    browser.until_shows("#pod-list", &format!("constructor={hostile}"));
    for shown in
        ["#title", "#sentence", "#price", "#neither", "#step", "#text", "#note", "#next", "#commands"]
    {
        assert!(browser.text(shown).contains(hostile), "{shown}: {}", browser.text(shown));
    }
    let labels = browser.text("#pod-list li:first-child");
    for label in
        [format!("name {hostile}"), format!("release=release {hostile}"), format!("{hostile}={hostile}")]
    {
        assert!(labels.contains(&label), "{label} is not in {labels}");
    }
    assert_eq!(browser.count("img, script:not([src='page.js'])"), 0);
    assert_eq!(browser.run("return window.ran ?? null"), Value::Null);
    assert_eq!(browser.count("#pod-list .changed"), 1);
    is_without_complaints(&browser);
}

#[test]
fn each_request_is_a_mark_newest_last_and_each_kind_has_its_own() {
    let mut state = broken_canary();
    state["dots"] = json!({"first": 7, "outcomes": "sScCoOuU!s"});
    let Some((browser, server)) = page_of(state) else { return };
    let marks =
        || browser.run("return [...document.querySelectorAll('#wall use')].map(m => m.getAttribute('href'))");
    let each = [
        "stable",
        "stable-failed",
        "canary",
        "canary-failed",
        "other",
        "other-failed",
        "unnamed",
        "unnamed-failed",
        "no-answer",
        "stable",
    ];
    let expected: Vec<_> = each.iter().map(|name| format!("#{name}")).collect();
    assert_eq!(marks(), json!(expected));
    let defined = browser.run(
        "return [...document.querySelectorAll('symbol')].map(s => s.innerHTML.replace(/class=\"[^\"]*\"/g, ''))",
    );
    let mut shapes: Vec<_> = defined.as_array().expect("shapes").iter().map(Value::to_string).collect();
    shapes.sort();
    shapes.dedup();
    assert_eq!(shapes.len(), 9, "each kind has a shape of its own, so none is told by its colour alone");
    server.edit(|state| state["dots"] = json!({"first": 934, "outcomes": "sssC".repeat(75)}));
    eventually("300 marks", || browser.count("#wall use") == 300);
    let within = browser.run(
        "const wall = document.getElementById('wall').getBoundingClientRect(); \
         return [...document.querySelectorAll('#wall use')].every(mark => { \
             const {left, right, top, bottom} = mark.getBoundingClientRect(); \
             return left >= wall.left - 1 && right <= wall.right + 1 && top >= wall.top - 1 \
                 && bottom <= wall.bottom + 1 })",
    );
    assert_eq!(within, json!(true), "all of them fit");
    let newest = "const [old, last] = [...document.querySelectorAll('#wall use')].slice(-2) \
        .map(mark => mark.getBoundingClientRect()); return last.top > old.top || last.left > old.left";
    assert_eq!(browser.run(newest), json!(true));
    is_without_complaints(&browser);
}

#[test]
fn numbers_are_never_rounded_to_nothing() {
    let mut state = fixed_canary();
    state["sides"]["canary"] = json!({
        "success": 99_999, "failure": 1, "slow": 1, "share": 0.0004, "expected_share": null,
        "lower": 0.000_000_2, "upper": 0.000_061, "p50_ms": 0.04, "p99_ms": null
    });
    state["sides"]["stable"]["share"] = json!(0.9996);
    let Some((browser, server)) = page_of(state) else { return };
    let canary = browser.text("#side-canary").replace('\u{a0}', " ");
    for told in ["<0.1 %", "1 failed", "of 100,000, 1 slow", "0 % to 0.0061 %", "p50 <0.1 ms"] {
        assert!(canary.contains(told), "{told}: {canary}");
    }
    let stable = browser.text("#side-stable").replace('\u{a0}', " ");
    assert!(stable.contains(">99.9 %"), "{stable}");
    let evidence = |value: Value, told: &str| {
        server.edit(|state| state["evidence"]["ln_e_value"] = value);
        browser.until_shows("#evidence-title", told);
    };
    evidence(json!(-30.0), "<0.001");
    evidence(json!(900.0), "10³⁹⁰");
    evidence(Value::Null, "–");
}

#[test]
fn a_share_that_is_given_has_the_mark_and_says_so() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    browser.until_shows("#side-canary .expected-text", "expected 25.0\u{a0}%");
    server.edit(|state| {
        state["share_given"] = json!(true);
        state["sides"]["canary"]["expected_share"] = json!(0.0005);
        state["sides"]["stable"]["expected_share"] = json!(0.9995);
    });
    browser.until_shows("#side-canary .expected-text", "given 0.05\u{a0}%");
    browser.until_shows("#side-stable .expected-text", "given 99.95\u{a0}%");
    let place = "return document.querySelector('#side-canary .expected').style.insetInlineStart";
    assert_eq!(browser.run(place), "0.05%");
}

#[test]
fn evidence_rises_from_1_and_is_marked_where_it_crosses_the_threshold() {
    let mut state = broken_canary();
    state["history"] = json!([[4.0, 0, 0, 0.5, 1, 0.5, 1, 20_f64.ln() * 4.0]]);
    let Some((browser, server)) = page_of(state) else { return };
    browser.until_shows("#evidence-title", "Evidence against the canary: 10⁴⁰");
    let crossing = "const [mark, line] = ['.crossing', '.limit'] \
        .map(part => document.querySelector(`#evidence-chart ${part}`)); \
        if (mark === null) return null; \
        const [x1, x2] = [line.getAttribute('x1'), line.getAttribute('x2')]; \
        return [(mark.getAttribute('cx') - x1) / (x2 - x1), mark.getAttribute('cy') - line.getAttribute('y1')]";
    assert_eq!(browser.run(crossing), json!([0.25, 0]), "after a quarter of the time, on the line");
    server.edit(|state| state["history"] = json!([[4.0, 0, 0, 0.5, 0, 0, 0.5, 20_f64.ln() * 0.99]]));
    eventually("no crossing", || browser.run(crossing).is_null());
}

#[test]
fn a_page_without_anything_seen_yet_says_so() {
    let mut state = fixed_canary();
    let nobody = json!({
        "success": 0, "failure": 0, "slow": 0, "share": null, "expected_share": null, "lower": 0, "upper": 1,
        "p50_ms": null, "p99_ms": null
    });
    state["sides"] = json!({"stable": nobody, "canary": nobody});
    state["requests"] = json!(0);
    state["price_sentence"] = Value::Null;
    state["evidence"]["ln_e_value"] = json!(0.0);
    state["dots"] = json!({"first": 0, "outcomes": ""});
    state["history"] = json!([]);
    state["pods"] = json!([]);
    let Some((browser, server)) = page_of(state) else { return };
    browser.until_shows("#side-canary", "no answer yet");
    browser.until_shows("#pods-title", "Pods: 0");
    assert_eq!(browser.text("#price"), "");
    server.edit(|state| state["history"] = json!([[0.2, null, null, null, null, null, null, null]]));
    server.edit(|state| state["title"] = json!("one point"));
    browser.until_shows("#title", "one point");
    is_without_complaints(&browser);
}

#[test]
fn without_single_requests_and_pods_the_charts_have_the_room() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    let width = || browser.run("return document.getElementById('rates').offsetWidth").as_u64();
    let before = width();
    server.edit(|state| {
        state["dots"] = json!({"first": 340, "outcomes": ""});
        state["pods"] = json!([]);
    });
    eventually("no wall", || browser.text("#requests").is_empty());
    assert_eq!(browser.text("#pods"), "");
    assert!(width() > before, "{before:?}");
    keep(&browser, "counters");
    server.show(fixed_canary());
    eventually("a wall", || browser.count("#wall use") == 300 && !browser.text("#requests").is_empty());
}

#[test]
fn a_lost_connection_is_shown_and_mended() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    server.set_reachable(false);
    browser.until_shows("#lost", "The connection is lost. What you see is from ");
    let opacity = || browser.run("return getComputedStyle(document.getElementById('state')).opacity");
    assert_eq!(opacity(), "0.6", "what is old looks so");
    keep(&browser, "lost");
    assert_eq!(browser.text("#connection"), "Not connected");
    assert_eq!(browser.text("#word"), "Not yet", "the last state stays");
    browser.complaints(); // connections that fail
    server.show(broken_canary());
    server.set_reachable(true);
    browser.until_shows("#word", "Roll back");
    assert_eq!((browser.text("#connection"), browser.text("#lost")), ("Live".to_owned(), String::new()));
    assert_eq!(opacity(), "1");
}

#[test]
fn the_trial_in_the_pages_address_is_the_one_that_is_watched() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    browser.go(&format!("{}?trial=a%26b", server.url));
    eventually("it is asked for", || {
        server.asked().last().is_some_and(|path| path == "/v1/events?trial=a%26b")
    });
}

/// Presses Tab until an element has the focus.
fn tab_to(browser: &Browser, id: &str) {
    for _ in 0..10 {
        browser.press(TAB);
        if browser.run("return document.activeElement.id") == *id {
            let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
            assert_eq!(outline, "solid", "who uses a keyboard sees where {id} is");
            return;
        }
    }
    panic!("Tab does not reach {id}");
}

#[test]
fn the_next_step_is_a_button_that_works_by_keyboard_and_keeps_the_focus() {
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    browser.until_shows("#step", "Step 4 of 8: Deploy the broken canary");
    browser.until_shows("#commands", "kubectl create -f deployment/canary-broken.yaml");
    browser.until_shows("#text", "Yet the pod is ready");
    tab_to(&browser, "next");
    browser.press(ENTER);
    let step = ("/v1/step".to_owned(), json!({"step": 5}));
    eventually("the step is asked for", || server.posted() == [step.clone()]);
    server.edit(|state| state["rehearsal"]["under_way"] = json!(true));
    browser.until_shows("#next", "Under way");
    browser.press(ENTER);
    browser.click("#next");
    server.edit(|state| {
        state["rehearsal"]["under_way"] = json!(false);
        state["rehearsal"]["number"] = json!(5);
        state["rehearsal"]["next"] = json!("Deploy the fixed canary");
    });
    browser.until_shows("#next", "Next: Deploy the fixed canary");
    assert_eq!(browser.run("return document.activeElement.id"), "next");
    assert_eq!(server.posted(), [step], "not while a step is under way");
    browser.click("#next");
    eventually("the step after it", || server.posted().last().is_some_and(|(_, body)| body["step"] == 6));
    server.edit(|state| state["rehearsal"]["next"] = Value::Null);
    browser.until_shows("#next", "That was the last step");
    browser.press(ENTER);
    browser.click("#next");
    assert_eq!(server.posted().len(), 2, "there is none to ask for");
    assert_eq!(browser.run("return document.activeElement.id"), "next");
    is_without_complaints(&browser);
}

#[test]
fn a_reset_is_asked_for_twice_and_a_refusal_is_told() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    let is_open = || browser.run("return document.getElementById('confirm').open") == true;
    tab_to(&browser, "reset");
    browser.press(ENTER);
    browser.until_shows("#confirm", "Each reset is another chance for the judge to err");
    browser.press(ESCAPE);
    eventually("the question is gone", || !is_open());
    browser.click("#reset");
    browser.click("#cancel");
    assert!(!is_open() && server.posted().is_empty());
    let reset = ("/v1/reset".to_owned(), json!({"trial": "6d5f7c9b4"}));
    browser.click("#reset");
    browser.click("#do-reset");
    eventually("it is asked for", || server.posted() == [reset.clone()]);
    assert_eq!(browser.text("#message"), "");
    server.refuse("a reset needs --allow-reset");
    browser.click("#reset");
    browser.click("#do-reset");
    browser.until_shows("#message", "a reset needs --allow-reset");
}

/// Whether the whole element is in the window, without scrolling.
fn is_in_the_window(browser: &Browser, id: &str) -> bool {
    let script = format!(
        "const {{left, right, top, bottom}} = document.getElementById({}).getBoundingClientRect(); \
         return top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth && bottom > top",
        json!(id)
    );
    browser.run(&script) == true
}

fn all_is_in_the_window(browser: &Browser) {
    for id in ["next", "word", "sentence", "price", "sides", "wall", "rate-chart", "evidence-chart", "pods"] {
        assert!(is_in_the_window(browser, id), "{id} is seen without scrolling");
    }
}

fn overflows_sideways(browser: &Browser) -> bool {
    browser.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth") == true
}

#[test]
fn it_fits_a_projector_and_a_phone() {
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    browser.until_shows("#word", "Roll back");
    all_is_in_the_window(&browser);
    let mark = browser.run("return document.querySelector('#wall use').getBoundingClientRect().width");
    assert!(mark.as_f64() >= Some(12.0), "a mark is {mark} px wide");
    let name = "a-name-without-a-space".repeat(10);
    server.edit(|state| {
        state["pods"][0]["name"] = json!(name);
        state["pods"][0]["labels"] = json!({&name: &name});
        state["rehearsal"]["commands"] = json!([name]);
        state["title"] = json!(name);
        state["sentence"] = json!(name);
    });
    browser.until_shows("#title", &name);
    for (width, height) in
        [(1280, 720), (1920, 1080), (1024, 768), (1000, 700), (999, 700), (768, 1024), (390, 844), (320, 600)]
    {
        browser.resize(width, height);
        assert!(!overflows_sideways(&browser), "{width}×{height} must not scroll sideways");
    }
    browser.resize(1024, 768);
    server.show(fixed_canary());
    browser.until_shows("#word", "Not yet");
    keep(&browser, "small");
    server.show(broken_canary());
    browser.resize(390, 844);
    browser.until_shows("#title", "http://127.0.0.1:8080");
    for id in ["next", "word", "sentence", "price"] {
        assert!(is_in_the_window(&browser, id), "{id} is seen on a phone without scrolling");
    }
    keep(&browser, "phone");
    is_without_complaints(&browser);
}

#[test]
fn light_and_dark_are_both_legible() {
    let Some((browser, _server)) = page_of(broken_canary()) else { return };
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        keep(&browser, scheme);
        let low = browser.run(CONTRAST);
        assert_eq!(low, json!([]), "{scheme}: text with a contrast under 4.5 (3 where it is large)");
    }
    browser.prefers("dark");
    let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(13, 17, 23)");
}

/// What the page at this address must show for a service with three stable pods and a canary that always fails.
fn shows_a_broken_canary(browser: &Browser, url: &str) {
    browser.go(url);
    browser.until_shows("#word", "Roll back");
    browser.until_shows("#sentence", "The canary is worse than stable");
    browser.until_shows("#price", "The canary has cost about");
    browser.until_shows("#side-canary", "expected 25.0\u{a0}%");
    browser.until_shows("#side-stable", "0 failed");
    browser.until_shows("#pods-title", "Pods: 4");
    eventually("300 marks", || browser.count("#wall use") == 300);
    // counted in one call, because the marks change all the time
    let marks = browser.run(
        "return ['canary-failed', 'stable'] \
             .map(name => document.querySelectorAll(`#wall use[href='#${name}']`).length)",
    );
    let [canary, stable] = [0, 1].map(|side| marks[side].as_u64().expect("a count"));
    assert_eq!(canary + stable, 300);
    assert!((30..=120).contains(&canary), "about each fourth: {canary}");
    for chart in ["rate", "evidence"] {
        assert!(browser.count(&format!("#{chart}-chart .line")) > 0, "{chart}");
    }
    assert_eq!(browser.count("#evidence-chart .crossing"), 1);
    assert!(!overflows_sideways(browser));
    keep(browser, "served");
}

#[test]
fn what_canary_serve_watches_is_to_be_seen() {
    let Some(browser) = Browser::open(1280, 720) else { return };
    let fleet = Fleet::with_canary(Version::Broken);
    let serving = Serving::start(&fleet.url(), &["--rate=100"]);
    let (address, url) = (serving.address, format!("http://{}/", serving.address));
    shows_a_broken_canary(&browser, &url);
    let hostile = "<script>window.ran=1</script><img src=x onerror=window.ran=2>";
    fleet.relabel("appinfo-2", &format!("release=\"stable\"\nnewlabel=\"{hostile}\""));
    browser.until_shows("#pod-list .changed", &format!("newlabel={hostile}"));
    assert_eq!(browser.run("return window.ran ?? null"), Value::Null);
    keep(&browser, "changed");

    browser.run(
        "window.fewest = Infinity; const wall = document.getElementById('wall'); \
         new MutationObserver(() => fewest = Math.min(fewest, wall.childElementCount)) \
             .observe(wall, {childList: true})",
    );
    browser.click("#reset");
    browser.click("#do-reset");
    eventually("the trial begins anew", || browser.run("return fewest").as_u64() < Some(300));
    assert_eq!(browser.text("#message"), "");
    is_without_complaints(&browser);

    drop(serving);
    browser.until_shows("#lost", "The connection is lost");
    let child = start(&["serve", &fleet.url(), "--rate=100", "--listen", &address.to_string()]);
    let _again = Serving { child, address };
    eventually("it is there again", || browser.text("#connection") == "Live");
    browser.until_shows("#word", "Roll back");
    assert_eq!(browser.text("#lost"), "");
}

/// The texts with too little contrast. <https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio> has the formula and
/// the limits.
const CONTRAST: &str = "
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => {
        const [r, g, b] = numbers(colour).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        const { backgroundColor } = getComputedStyle(element);
        return numbers(backgroundColor)[3] === 0 ? ground(element.parentElement) : backgroundColor;
    };
    const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const pale = (element) => {
        const { color, fill, fontSize, fontWeight } = getComputedStyle(element);
        const [one, other] = [element.closest('svg') ? fill : color, ground(element)].map(luminance);
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        const size = parseFloat(fontSize);
        return ratio < (size >= 24 || (size >= 18.66 && fontWeight >= 700) ? 3 : 4.5);
    };
    return [...document.querySelectorAll('header *, main *')]
        .filter((element) => hasText(element) && element.checkVisibility() && pale(element))
        .map((element) => element.textContent);
";

/// Waits until the rehearsal's step with this number and title is done, and checks the text of its button.
fn until_done(browser: &Browser, (number, title): (usize, &str), button: &str) {
    browser.until_shows("#step", &format!("Step {number} of 10: {title}"));
    browser.until_shows("#next", button);
}

#[test]
fn a_rehearsal_goes_on_step_by_step_with_the_button_by_mouse_and_keyboard() {
    let Some(browser) = Browser::open(1280, 720) else { return };
    let mut rehearsal = Serving::rehearse(&["--rate=200", "--fault-percent=50"]);
    browser.prefers("light");
    browser.go(&format!("http://{}/", rehearsal.address));
    browser.until_shows("#step", "A rehearsal with no cluster");
    browser.until_shows("#text", "Left out: the kubelet");
    browser.until_shows("#totals", "0 requests · paused");
    browser.until_shows("#next", "Next: Deploy");
    tab_to(&browser, "next");
    browser.press(ENTER);
    until_done(&browser, (1, "Deploy"), "Next: Scale");
    browser.until_shows("#pods-title", "Pods: 1");
    browser.run("const next = document.getElementById('next'); next.click(); next.click()");
    until_done(&browser, (2, "Scale"), "Next: Change a label");
    browser.until_shows("#pods-title", "Pods: 3");
    assert_eq!(browser.text("#message"), "", "a double click is one step, and no fault");
    browser.press(ENTER);
    until_done(&browser, (3, "Change a label"), "Next: Deploy the broken canary");
    browser.until_shows("#pod-list .changed", "newlabel=realtime");
    assert_eq!(browser.text("#word"), "Not yet");
    browser.click("#next");
    until_done(&browser, (4, "Deploy the broken canary"), "Next: Roll back");
    browser.until_shows("#commands", "kubectl create -f deployment/canary-broken.yaml");
    browser.until_shows("#note", "is ready and gets connections");
    browser.until_shows("#word", "Roll back");
    eventually("300 marks", || browser.count("#wall use") == 300);
    all_is_in_the_window(&browser);
    is_the_picture_in_the_documents(&browser);

    for (number, title, next, words) in [
        (5, "Roll back", "Next: Deploy the fixed canary", &["Roll back"][..]),
        (6, "Deploy the fixed canary", "Next: Make some requests fail", &["Promote"]),
        (7, "Make some requests fail", "Next: End the fault", &["Roll back"]),
        (8, "End the fault", "Next: Promote it", &["Promote"]),
        (9, "Promote it", "Next: Clean up the canary", &["Promote"]),
        (10, "Clean up the canary", "That was the last step", &["Promote"]),
    ] {
        if number % 2 == 0 {
            browser.press(ENTER);
        } else {
            browser.click("#next");
        }
        until_done(&browser, (number, title), next);
        for word in words {
            browser.until_shows("#word", word);
        }
        assert_eq!(browser.run("return document.activeElement.id"), "next", "{title}");
    }
    browser.until_shows("#pods-title", "Pods: 3");
    browser.until_shows("#pod-list", "namespace=default");
    is_without_complaints(&browser);
    rehearsal.signal(Signal::INT);
    assert_eq!(rehearsal.end(), Some(0));
    browser.until_shows("#lost", "The connection is lost");
}

fn is_the_picture_in_the_documents(browser: &Browser) {
    let picture = picture(browser);
    assert!(picture.len() < 200_000, "{} bytes", picture.len());
    if let Some(file) = std::env::var_os("PAGE_PICTURE") {
        std::fs::write(file, picture).expect("written");
    }
}

/// Saves a picture for developers of the page, if `PAGE_LOOKS` names a directory.
fn keep(browser: &Browser, name: &str) {
    if let Ok(directory) = std::env::var("PAGE_LOOKS") {
        std::fs::write(format!("{directory}/{name}.png"), picture(browser)).expect("written");
    }
}

fn picture(browser: &Browser) -> Vec<u8> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.decode(browser.picture()).expect("base 64")
}
