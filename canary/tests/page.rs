//! The page in a real browser. Skipped, with a message, where there is no chromium-driver.
//!
//! `PAGE_PICTURE=docs/page.png` saves the pictures of docs/ in this directory. `PAGE_LOOKS=DIRECTORY` keeps pictures of
//! all looks. `AXE=FILE` names axe-core's axe.min.js (from `npm install axe-core`), which then looks for barriers.

mod common;

use common::{
    Fleet, Version,
    browser::{ARROW_RIGHT, Browser, ENTER, ESCAPE, PAGE_DOWN, TAB},
    scripted::Scripted,
    serving::{PATIENT, Serving},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{PATIENCE, eventually, eventually_within, free_port, http};

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
    let mut state = json!({
        "trial": "6d5f7c9b4", "seconds": f64::from(rounds) / 10.0, "title": "http://127.0.0.1:8080/v1/appinfo",
        "paused": false, "decision": decision, "sentence": sentence,
        "price_sentence": "The canary has cost about 85 failed requests, 0.33 % of a month's error budget.",
        "standing": decision, "requests": requests, "rate": 40.0, "limit": 0.01, "alpha": 0.05,
        "present": {"rate": 40.0, "requests": requests, "failures": failed},
        "promotion_bound": bounds(rate, rounds).1, "more_answers": if fails { Value::Null } else { json!(290) },
        "max_share": 0.12, "strata": [],
        "judged": {
            "stable": {"answers": rounds * 3, "failures": 0, "slow": 0},
            "canary": {"answers": rounds, "failures": failed, "slow": 0},
        },
        "trial_began": "2026-11-29T10:00:00Z", "counting_since": "2026-11-29T10:00:00Z",
        "process_started": "2026-11-29T10:00:00Z", "reason": null, "gap": null, "others": [], "outage": null,
        "failing": {"statuses": if fails { json!({"500": failed}) } else { json!({}) }, "last": null},
        "rules": {"setting": "measured in 1,000 trials of 10 min with 40 requests/s, of which the canary gets 1 in 4; both \
            fail 0.8 %", "list": [
            {"name": "At its first failure", "said": if fails { json!(0.1) } else { Value::Null }, "answers": 1, "wrong": 100,
                "judge": false},
            {"name": "Above 5 % of its last 50", "said": if fails { json!(123.4) } else { Value::Null }, "answers": 50, "wrong": 89,
                "judge": false},
            {"name": "p < 5 %, at each second", "said": null, "answers": null, "wrong": 23, "judge": false},
            {"name": "Under 99 % in 4 minutes", "said": null, "answers": null, "wrong": 20, "judge": false},
            {"name": "The judge", "said": if fails { json!(0.4) } else { Value::Null }, "answers": 4, "wrong": 3, "judge": true},
        ]},
        "versions": [line("stable", 3, "appinfo-567b989978-…", rounds * 3, 0), line("canary", 1,
            "appinfo-canary-broken-6d5f7c9b4-8kzjw", rounds, failed)],
        "more_versions": 0,
        "evidence": {"ln_e_value": ln_e_value(rounds, fails), "ln_threshold": 20_f64.ln()},
        "sides": {"stable": side(rounds * 3, 0, 0.75), "canary": side(rounds, failed, 0.25)},
        "share_given": false, "unattributed": 0, "no_answer": 0, "causes": {},
        "dots": {"first": requests - 300, "outcomes": round.repeat(75)},
        "history": (1..=rounds).map(|seen| {
            let (stable, canary) = (bounds(0.0, seen * 3), bounds(rate, seen));
            let seconds = f64::from(seen) / 10.0;
            let evidence = ln_e_value(seen, fails);
            json!([seconds, 0.0, stable.0, stable.1, rate, canary.0, canary.1, evidence, canary.1])
        }).collect::<Vec<_>>(),
        "pods": [
            pod("appinfo-567b989978-vvzlg", "stable", template.clone(), 0),
            pod("appinfo-567b989978-x2k4p", "stable", template.clone(), 0),
            pod("appinfo-567b989978-qq7dn", "stable", template, 0),
            pod("appinfo-canary-broken-6d5f7c9b4-8kzjw", "canary", canary, failed),
        ],
        "more_pods": 0, "rehearsal": null
    });
    state["sure_after"] = if decision == "roll_back" { json!(0.4) } else { Value::Null };
    state
}

fn line(release: &str, pods: u32, name: &str, requests: u32, failures: u32) -> Value {
    let labels = json!([{"text": "pod-template-hash=567b989978", "changed": false}]);
    json!({"release": release, "name": name, "pods": pods, "requests": requests, "failures": failures, "labels": labels})
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
        "number": 4, "of": 11, "before": 0, "title": "Deploy the broken canary",
        "commands": ["kubectl create -f deployment/canary-broken.yaml"],
        "text": "A pod of a new version starts, and Kubernetes says that it is ready. Watch its answers.",
        "note": "", "began": "", "next": "Roll back", "under_way": false, "held": false, "curtain": false, "conditions": {
            "canary": "fixed", "share": null, "fails": 5, "delay_ms": 0, "rate": 40, "incident": false
        }
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

/// The same, in a rehearsal, with the judge hidden.
fn fixed_canary_in_a_rehearsal() -> Value {
    let mut state = fixed_canary();
    state["rehearsal"] = broken_canary()["rehearsal"].clone();
    state["rehearsal"]["curtain"] = json!(true);
    state
}

/// A state in a rehearsal with a vote.
fn with_a_vote(mut state: Value, round: &Value) -> Value {
    state["rehearsal"]["vote"] = json!({"url": "http://192.168.100.200:8091", "round": round});
    state
}

/// A round with these votes for promote, wait and roll back.
fn round(open: bool, [promote, wait, roll_back]: [u32; 3]) -> Value {
    json!({"number": 1, "open": open, "promote": promote, "wait": wait, "roll_back": roll_back})
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
fn the_verdict_is_in_large_letters_with_one_fact_and_is_announced_when_it_changes() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    browser.until_shows("#word", "Not yet");
    browser.until_shows("#fact", "0 of 85 failed");
    browser.until_shows("#more", "290 more good answers, about 29 s");
    browser.until_shows("#meaning", "at most 8.7\u{a0}% of its requests fail");
    browser.run(
        "window.announced = []; \
         new MutationObserver(() => announced.push(document.getElementById('announcement').textContent)) \
             .observe(document.getElementById('announcement'), {childList: true, characterData: true, subtree: true})",
    );
    let size = browser.run("return parseFloat(getComputedStyle(document.getElementById('word')).fontSize)");
    assert!(size.as_f64() >= Some(56.0), "{size} px");
    let verdicts = [
        ("promote", "Promote", "Promote: the canary has failed 0 of 700 requests."),
        ("hold", "Hold", "Hold: both releases fail more than 1 % of their requests."),
        ("roll_back", "Roll back", "Roll back: the canary is worse than stable."),
    ];
    let mut backgrounds = vec![background(&browser)];
    let mut icons = vec![icon(&browser)];
    for (decision, word, sentence) in verdicts {
        server.edit(|state| {
            state["decision"] = json!(decision);
            state["standing"] = json!(decision);
            state["sentence"] = json!(sentence);
        });
        browser.until_shows("#word", word);
        assert_eq!(browser.run("return document.title"), json!(format!("{word} · canary")));
        backgrounds.push(background(&browser));
        icons.push(icon(&browser));
    }
    for kinds in [&mut backgrounds, &mut icons] {
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), 4, "each verdict has its colour, and its sign in the tab");
    }
    browser.press("d");
    server.edit(|state| state["sentence"] = json!("Roll back: one more answer."));
    browser.until_shows("#sentence", "Roll back: one more answer.");
    let announced = browser.run("return announced");
    let expected = verdicts.map(|(_, word, sentence)| format!("Verdict: {word}. {sentence}"));
    assert_eq!(announced, json!(expected), "not again for a new sentence");
    let live = browser.run("return document.getElementById('announcement').getAttribute('role')");
    assert_eq!(live, "status");
    is_without_complaints(&browser);
}

fn icon(browser: &Browser) -> String {
    let icon = browser.run("return document.getElementById('icon').href");
    icon.as_str().expect("an address").to_owned()
}

#[test]
fn a_canary_that_is_not_there_is_said_to_be_missing_and_not_to_be_judged() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    for (standing, word) in
        [("no_canary", "No canary"), ("gone", "Canary gone"), ("rolled_back", "Rolled back")]
    {
        server.edit(|state| state["standing"] = json!(standing));
        browser.until_shows("#word", word);
        assert_eq!(background(&browser), "rgb(57, 67, 79)", "{word} asks for nothing");
    }
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
    for field in ["title", "text", "note", "began", "next"] {
        state["rehearsal"][field] = json!(format!("{field} {hostile}"));
    }
    state["rehearsal"]["commands"] = json!([hostile]);
    state["outage"] = json!({
        "kind": "no_answer", "since": "2026-11-29T10:00:00Z", "seconds": 9, "requests": 90, "cause": format!("cause {hostile}")
    });
    state["failing"]["last"] = json!({
        "at": "2026-11-29T10:00:00Z", "status": 500, "release": "canary", "pod": hostile, "body": format!("body {hostile}")
    });
    state["versions"][0]["name"] = json!(format!("version {hostile}"));
    state["versions"][0]["labels"] = json!([{"text": format!("text {hostile}"), "changed": true}]);
    for field in ["name", "namespace", "release"] {
        state["pods"][0][field] = json!(format!("{field} {hostile}"));
    }
    state["pods"][0]["labels"] = json!({hostile: hostile, "__proto__": "x", "constructor": hostile});
    state["pods"][0]["changed"] = json!([hostile]);
    let Some((browser, server)) = page_of(state) else { return };
    server.tell_rights(true, true);
    browser.until_shows("#next", hostile);
    browser.press("d");
    browser.until_shows("#pod-list", &format!("constructor={hostile}"));
    for shown in [
        "#sentence",
        "#price",
        "#neither",
        "#step",
        "#text",
        "#note",
        "#next",
        "#commands",
        "#outage",
        "#versions",
        "#last-failure",
        "#versions .changed",
    ] {
        assert!(browser.text(shown).contains(hostile), "{shown}: {}", browser.text(shown));
    }
    let labels = browser.text("#pod-list li:first-child");
    for label in
        [format!("name {hostile}"), format!("release=release {hostile}"), format!("{hostile}={hostile}")]
    {
        assert!(labels.contains(&label), "{label} is not in {labels}");
    }
    assert_eq!(browser.count("img:not(#scan-code, #place-code), script:not([src='page.js'])"), 0);
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
    state["promotion_bound"] = json!(0.000_061);
    let Some((browser, server)) = page_of(state) else { return };
    browser.until_shows("#bound-title", "The canary fails at most 0.0061\u{a0}%");
    browser.press("d");
    browser.until_shows("#sides", "<0.1\u{a0}%");
    let sides = browser.text("#sides").replace('\u{a0}', " ");
    for told in ["<0.1 %", "100,000", "0 % and 0.0061 %", "<0.1 ms", ">99.9 %"] {
        assert!(sides.contains(told), "{told}: {sides}");
    }
    let evidence = |value: Value, told: &str| {
        server.edit(|state| state["evidence"]["ln_e_value"] = value);
        browser.until_shows("#evidence-title", told);
    };
    evidence(json!(-30.0), "less than 0.1 to 1");
    evidence(json!(900.0), "over 100,000 to 1");
    evidence(json!(20_f64.ln()), "20 to 1");
    evidence(Value::Null, "–");
}

#[test]
fn a_share_that_is_given_is_said_to_be_given() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    browser.press("d");
    browser.until_shows("#sides", "25.0\u{a0}%");
    server.edit(|state| {
        state["share_given"] = json!(true);
        state["sides"]["canary"]["expected_share"] = json!(0.0005);
        state["sides"]["stable"]["expected_share"] = json!(0.9995);
    });
    browser.until_shows("#sides", "given 0.05\u{a0}%");
    browser.until_shows("#sides", "given 99.95\u{a0}%");
}

#[test]
fn evidence_is_marked_where_it_crosses_the_threshold() {
    let mut state = broken_canary();
    let ln = 20_f64.ln();
    state["history"] = json!([[4.0, 0, 0, 0.5, 1, 0.5, 1, ln * 4.0, 1]]);
    let Some((browser, server)) = page_of(state) else { return };
    let crossing = "const [mark, line] = ['.crossing', '.limit'] \
        .map(part => document.querySelector(`#evidence-chart ${part}`)); \
        if (mark === null) return null; \
        const [x1, x2] = [line.getAttribute('x1'), line.getAttribute('x2')]; \
        return [Number(((mark.getAttribute('cx') - x1) / (x2 - x1)).toFixed(6)), mark.getAttribute('cy') - line.getAttribute('y1')]";
    eventually("after a quarter of the time, on the line", || browser.run(crossing) == json!([0.25, 0]));
    server.edit(|state| {
        state["history"] =
            json!([[0.0, 0, 0, 1, null, 0, 1, 0, null], [4.0, 0, 0, 0.5, 0, 0, 0.5, ln * 0.99, 1]]);
    });
    eventually("no crossing", || browser.run(crossing).is_null());
}

#[test]
fn the_bound_that_is_drawn_is_the_one_that_decides() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    server.edit(|state| {
        state["standing"] = json!("promote");
        state["promotion_bound"] = json!(0.0099);
        state["sides"]["canary"]["upper"] = json!(0.012); // the bound of the interval at both sides
        let last = state["history"].as_array_mut().and_then(|points| points.last_mut()).expect("a point");
        (last[6], last[8]) = (json!(0.012), json!(0.0099));
    });
    browser.until_shows("#bound-title", "The canary fails at most 0.99\u{a0}%");
    let below = "const limit = document.querySelector('#bound-chart .limit').getAttribute('y1'); \
        const line = document.querySelector('#bound-chart .line.canary:not(.seen)').getAttribute('d'); \
        return Number(line.split(' ').at(-1)) - limit";
    let below = browser.run(below);
    assert!(below.as_f64() > Some(0.0), "it ends below the line of the limit, by {below} px");
    assert!(!browser.text("#state").contains("1.2"), "{}", browser.text("#state"));
}

#[test]
fn a_dead_service_looks_dead_and_its_marks_are_the_strongest() {
    let mut state = fixed_canary();
    state["dots"] = json!({"first": 0, "outcomes": "!".repeat(300)});
    let Some((browser, server)) = page_of(state) else { return };
    assert_eq!(browser.text("#outage"), "");
    let before = places(&browser);
    server.edit(|state| {
        state["outage"] = json!({
            "kind": "no_answer", "since": "2026-11-29T10:00:00Z", "seconds": 24, "requests": 960,
            "cause": "connection refused"
        });
    });
    browser.until_shows("#outage", "connection refused. No verdict is possible.");
    let told = browser.text("#outage");
    assert!(told.starts_with("No answer since ") && told.contains("(24 s, 960 requests)"), "{told}");
    assert_eq!(places(&browser), before, "it moves nothing");
    keep(&browser, "outage");
    let strongest = browser.run(
        "const mark = document.querySelector('#no-answer .cross'); const ground = document.querySelector('#no-answer .alarm'); \
         return [getComputedStyle(mark).stroke, getComputedStyle(ground).fill]",
    );
    assert_eq!(strongest, json!(["rgb(0, 0, 0)", "rgb(255, 214, 10)"]), "black on yellow, as nothing else");
    server.edit(|state| {
        state["outage"] = json!({
            "kind": "no_success", "since": "2026-11-29T10:00:00Z", "seconds": 100, "requests": 4000, "cause": "status 503"
        });
    });
    browser.until_shows("#outage", "Every answer is a failure since");
    assert!(!browser.text("#outage").contains("No verdict"));
}

#[test]
fn the_present_is_shown_beside_the_totals() {
    let mut state = broken_canary();
    state["rate"] = json!(1.5);
    state["present"] = json!({"rate": 39.9, "requests": 2394, "failures": 12});
    state["failing"] = json!({"statuses": {"500": 3, "503": 9}, "last": null});
    let Some((browser, server)) = page_of(state) else { return };
    browser.until_shows("#present", "40 requests/s · last minute: 12 of 2,394 failed (503, 500)");
    server.edit(|state| state["rehearsal"]["held"] = json!(true));
    browser.until_shows("#present", "paused");
    server.edit(|state| state["rehearsal"] = Value::Null);
    browser.until_shows("#totals", "340 requests · 00:08 · trial 6d5f7c9b4");
}

#[test]
fn an_engineer_sees_clock_times_restarts_other_versions_and_the_last_failure() {
    let mut state = broken_canary();
    state["rehearsal"] = Value::Null;
    state["gap"] = json!(["2026-11-29T10:00:00Z", "2026-11-29T10:00:02Z"]);
    state["others"] =
        json!([{"trial": "abc", "decision": "promote", "answers": 400, "failures": 1, "slow": 0}]);
    state["failing"]["last"] = json!({
        "at": "2026-11-29T10:00:07Z", "status": 500, "release": "canary", "pod": "a-pod", "body": "{\"error\":\"x\"}"
    });
    let Some((browser, server)) = page_of(state) else { return };
    let texts =
        browser.run("return [...document.querySelectorAll('#evidence-chart text')].map(t => t.textContent)");
    let texts = texts.as_array().expect("texts");
    let is_clock = |text: &Value| text.as_str().is_some_and(|text| text.matches(':').count() == 2);
    assert_eq!(
        texts.iter().filter(|text| is_clock(text)).count(),
        3,
        "both ends of the axis, and the restart: {texts:?}"
    );
    assert_eq!(browser.count("#evidence-chart .restarted"), 1);
    let lines =
        || browser.run("return [...document.querySelectorAll('#versions li')].map(line => line.textContent)");
    let told = lines();
    assert!(told[1].as_str().is_some_and(|line| line.contains("85 of 85 failedRoll back")), "{told}");
    assert_eq!(told[2], "canary: another versionabc1 of 400 failedPromote");
    browser.press("j");
    browser.until_shows("#verdict", "Would you promote it?");
    assert!(!lines().to_string().contains("Promote"), "behind the curtain: {}", lines());
    browser.press("j");
    browser.until_shows("#versions", "Promote");
    server.edit(|state| {
        let one = state["others"][0].clone();
        state["others"] = json!(vec![one; 5]);
    });
    browser.until_shows("#versions", "and 5 more versions: see the details");
    does_not_scroll(&browser);
    assert_eq!(browser.count("#versions li"), 3);
    browser.press("d");
    browser.until_shows("#last-failure", "a-pod\n{\"error\":\"x\"}");
    browser.until_shows("#statuses", "Status codes of failures: 500: 85");
}

#[test]
fn a_page_without_anything_seen_yet_says_so() {
    let mut state = fixed_canary();
    let nobody = json!({
        "success": 0, "failure": 0, "slow": 0, "share": null, "expected_share": null, "lower": 0, "upper": 1,
        "p50_ms": null, "p99_ms": null
    });
    state["sides"] = json!({"stable": nobody, "canary": nobody});
    let none = json!({"answers": 0, "failures": 0, "slow": 0});
    state["judged"] = json!({"stable": none, "canary": none});
    state["standing"] = json!("no_canary");
    state["requests"] = json!(0);
    state["price_sentence"] = Value::Null;
    state["evidence"]["ln_e_value"] = json!(0.0);
    state["dots"] = json!({"first": 0, "outcomes": ""});
    state["history"] = json!([]);
    state["pods"] = json!([]);
    state["versions"] = json!([]);
    let Some((browser, server)) = page_of(state) else { return };
    browser.until_shows("#word", "No canary");
    browser.press("d");
    browser.until_shows("#sides", "no answer yet");
    browser.until_shows("#pods-title", "Pods: 0");
    assert_eq!(browser.text("#price"), "");
    browser.press(ESCAPE);
    server.edit(|state| state["history"] = json!([[0.2, null, null, null, null, null, null, null, null]]));
    server.edit(|state| state["title"] = json!("one point"));
    browser.until_shows("#step", "one point");
    is_without_complaints(&browser);
}

#[test]
fn without_single_requests_the_charts_have_the_room() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    let width = || browser.run("return document.getElementById('evidence').offsetWidth").as_u64();
    let before = width();
    server.edit(|state| state["dots"] = json!({"first": 340, "outcomes": ""}));
    eventually("no wall", || browser.text("#requests").is_empty());
    assert!(width() > before, "{before:?}");
    browser.until_shows("#totals", "40 requests/s · last minute: 0 of 340 failed");
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

#[test]
fn a_viewer_without_rights_has_no_buttons_that_would_be_refused() {
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    browser.until_shows("#word", "Roll back");
    eventually("no buttons", || browser.text("#next").is_empty() && browser.text("#curtain").is_empty());
    assert_eq!((browser.text("#pause"), browser.text("#show-conditions")), (String::new(), String::new()));
    for key in ["n", "p", "j", "s", PAGE_DOWN] {
        browser.press(key);
    }
    browser.press("d");
    browser.until_shows("#details", "This trial");
    assert_eq!(browser.text("#reset"), "");
    assert_eq!(browser.text("#conditions"), "");
    browser.press(ESCAPE);
    assert_eq!(server.posted(), [], "nothing that is refused is asked for");
    server.tell_rights(true, true);
    browser.until_shows("#next", "Next: Roll back");
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
    server.tell_rights(true, true);
    browser.until_shows("#step", "4. Deploy the broken canary");
    browser.until_shows("#commands", "kubectl create -f deployment/canary-broken.yaml");
    browser.until_shows("#text", "Watch its answers");
    browser.until_shows("#next", "Next: Roll back");
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
fn keys_hide_the_judge_pause_and_take_the_next_step() {
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    server.tell_rights(true, true);
    browser.until_shows("#next", "Next: Roll back");
    let last = || server.posted().last().map(|(path, body)| format!("{path} {body}")).unwrap_or_default();
    let asks = |key: &str, wanted: &str| {
        browser.press(key);
        eventually(&format!("{key} asks for {wanted}"), || last() == wanted);
    };
    asks("j", "/v1/rehearsal {\"curtain\":true}");
    server.edit(|state| state["rehearsal"]["curtain"] = json!(true));
    browser.until_shows("#verdict", "Would you promote it?");
    gives_nothing_away(&browser);
    keep(&browser, "curtain");
    asks("j", "/v1/rehearsal {\"curtain\":false}");
    server.edit(|state| state["rehearsal"]["curtain"] = json!(false));
    browser.until_shows("#word", "Roll back");
    asks("p", "/v1/rehearsal {\"paused\":true}");
    server.edit(|state| state["rehearsal"]["held"] = json!(true));
    browser.until_shows("#note", "Paused: no requests are sent.");
    asks("p", "/v1/rehearsal {\"paused\":false}");
    for (number, key) in (5..).zip(["n", ARROW_RIGHT, PAGE_DOWN]) {
        asks(key, &format!("/v1/step {{\"step\":{number}}}"));
        server.edit(|state| state["rehearsal"]["number"] = json!(number));
        browser.until_shows("#step", &format!("{number}. "));
    }
    is_without_complaints(&browser);
}

#[test]
fn the_conditions_are_sliders_that_a_keyboard_moves_and_only_what_was_moved_is_sent() {
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    server.tell_rights(true, true);
    browser.until_shows("#show-conditions", "Sliders");
    let told = || browser.text("#conditions").replace('\u{a0}', " ");
    let is_open = || browser.run("return document.getElementById('conditions').open") == true;
    let closes = || eventually("it closes", || !is_open());
    browser.press("s");
    eventually("it opens", is_open);
    for value in ["as in the step", "5 %", "0 ms", "40 requests/s"] {
        assert!(told().contains(value), "{value}: {}", told());
    }
    let unnamed = browser.run(
        "return [...document.querySelectorAll('.slider input')].filter(it => it.labels.length !== 1 || \
             it.getAttribute('aria-valuetext') !== it.parentElement.querySelector('b').textContent).length",
    );
    assert_eq!(unnamed, 0, "each has a label, and its value in words");
    browser.click("#apply");
    browser.until_shows("#conditions-problem", "Move a slider first.");
    tab_to(&browser, "set-fails");
    browser.press(ARROW_RIGHT);
    browser.until_shows("#conditions", "5.5\u{a0}%");
    assert_eq!(server.posted(), [], "neither is a step taken by the key, nor is anything changed yet");
    tab_to(&browser, "apply");
    server.refuse("step 4 is under way: wait for its end");
    browser.press(ENTER);
    browser.until_shows("#conditions-problem", "step 4 is under way: wait for its end");
    assert_eq!(browser.text("#message"), "", "the dialogue would be in front of it");
    server.accept();
    browser.press(ENTER);
    closes();
    let last = || server.posted().last().map(|(path, body)| format!("{path} {body}")).unwrap_or_default();
    assert_eq!(last(), "/v1/rehearsal {\"conditions\":{\"fails\":5.5}}");
    server.edit(|state| {
        state["rehearsal"]["began"] = json!("A new trial began: the canary fails 5.5 % of its requests.");
        state["rehearsal"]["conditions"]["fails"] = json!(5.5);
        state["rehearsal"]["conditions"]["incident"] = json!(true);
    });
    browser.until_shows("#note", "A new trial began: the canary fails 5.5 % of its requests.");
    let spoken =
        "const it = document.getElementById('began'); return [it.getAttribute('role'), it.textContent]";
    let began = "A new trial began: the canary fails 5.5 % of its requests.";
    assert_eq!(browser.run(spoken), json!(["status", began]));
    for (button, asked) in [("#incident", "{\"incident\":false}"), ("#as-in-step", "{\"as_in_step\":true}")] {
        browser.click("#show-conditions");
        browser.until_shows("#incident", "End the incident");
        browser.click(button);
        closes();
        assert_eq!(last(), format!("/v1/rehearsal {{\"conditions\":{asked}}}"));
    }
    for (canary, fails, share) in [
        ("broken", "all, whatever is set", "as in the step"),
        ("none", "there is no canary", "there is no canary"),
    ] {
        server.edit(|state| {
            state["rehearsal"]["conditions"]["canary"] = json!(canary);
            state["rehearsal"]["text"] = json!(canary);
        });
        browser.until_shows("#text", canary);
        browser.press("s");
        eventually("it opens", is_open);
        let value = |key: &str| browser.text(&format!(".slider:has([data-of={key}]) b"));
        assert_eq!((value("fails").as_str(), value("share").as_str()), (fails, share));
        let open = browser.count(".slider input:enabled");
        assert_eq!(
            open,
            if canary == "broken" { 3 } else { 1 },
            "{canary}: what has no effect cannot be moved"
        );
        browser.press(ESCAPE);
        closes();
    }
    server.edit(|state| state["rehearsal"]["curtain"] = json!(true));
    browser.until_shows("#verdict", "Would you promote it?");
    browser.press("s");
    eventually("it opens", is_open);
    gives_nothing_away(&browser);
    for word in ["Roll back", "Promote", "Not yet", "worse"] {
        assert!(!told().contains(word), "{word}: {}", told());
    }
    for (width, height) in [(1280, 720), (1920, 1080), (768, 1024), (640, 360), (390, 844), (320, 600)] {
        browser.resize(width, height);
        let cut = "const it = document.getElementById('conditions'); const {left, right} = it.getBoundingClientRect(); \
            return left < 0 || right > innerWidth || it.scrollWidth > it.clientWidth";
        assert_eq!(browser.run(cut), false, "{width}×{height}: nothing is cut off");
        keep(&browser, &format!("sliders-{width}"));
    }
    let complaints = browser.complaints().into_iter().filter(|one| !one.contains("status of 4"));
    assert_eq!(complaints.collect::<Vec<_>>(), [""; 0], "but for what was refused");
}

#[test]
fn the_votes_of_a_class_are_bars_behind_the_curtain_and_a_sentence_beside_the_judge() {
    let state = with_a_vote(broken_canary(), &round(true, [0, 0, 0]));
    let Some((browser, server)) = page_of(state) else { return };
    server.tell_rights(true, true);
    server.edit(|state| state["rehearsal"]["curtain"] = json!(true));
    browser.until_shows("#verdict", "Would you promote it?");
    browser.until_shows("#scan-text", "http://192.168.100.200:8091");
    let bars = || {
        browser.run(
            "return [...document.querySelectorAll('#votes li')].map(line => { \
                 const width = (it) => line.querySelector(it).getBoundingClientRect().width; \
                 return [line.innerText.replace(/\\s+/g, ' '), Math.round(100 * width('.bar-of span') / width('.bar-of'))] })",
        )
    };
    assert_eq!(bars(), json!([["Promote 0", 0], ["Wait 0", 0], ["Roll back 0", 0]]));
    server.edit(|state| state["rehearsal"]["vote"]["round"] = round(true, [7, 14, 9]));
    eventually("they grow", || bars() == json!([["Promote 7", 23], ["Wait 14", 47], ["Roll back 9", 30]]));
    gives_nothing_away(&browser);
    let signs = browser.run(
        "return [...document.querySelectorAll('.choice')].map(it => getComputedStyle(it, '::before').content)",
    );
    assert_eq!(signs, json!(["\"✓ \"", "\"… \"", "\"✕ \""]), "none is told by its colour alone");
    until_the_code_is_loaded(&browser);
    keep(&browser, "vote");
    browser.press("v");
    browser.until_shows("#place-url", "http://192.168.100.200:8091");
    let code = browser.run("return document.getElementById('place-code').getBoundingClientRect().width");
    assert!(code.as_f64() >= Some(500.0), "{code} px, for the last row");
    assert!(is_in_the_window(&browser, "place"));
    keep(&browser, "vote-place");
    browser.press("v");
    eventually("the same key closes it", || browser.text("#place").is_empty());

    let said = |standing: &str, sure: Value, votes: [u32; 3], told: &str| {
        server.edit(|state| {
            state["rehearsal"]["curtain"] = json!(false);
            state["rehearsal"]["vote"]["round"] = round(false, votes);
            (state["standing"], state["sure_after"]) = (json!(standing), sure);
        });
        eventually(told, || browser.text("#class-said").replace('\u{a0}', " ") == told);
    };
    let class = "The class: 9 roll back, 14 wait, 7 promote.";
    said("roll_back", json!(6.0), [7, 14, 9], &format!("{class} The judge was sure after 6 s."));
    eventually("it is announced", || browser.text("#announcement").replace('\u{a0}', " ").contains(class));
    keep(&browser, "vote-reveal");
    said("roll_back", json!(0.4), [7, 14, 9], &format!("{class} The judge was sure after 0.4 s."));
    said("promote", json!(35.4), [7, 14, 9], &format!("{class} The judge was sure after 35 s."));
    said("not_yet", Value::Null, [7, 14, 9], &format!("{class} The judge is not sure yet."));
    said("hold", Value::Null, [7, 14, 9], &format!("{class} The judge cannot say: both fail."));
    said("gone", json!(3), [7, 14, 9], &format!("{class} There is no canary to judge."));
    said("not_yet", Value::Null, [0, 0, 0], ""); // nobody has voted
    server.edit(|state| state["rehearsal"]["vote"]["round"] = Value::Null);
    server.edit(|state| state["rehearsal"]["curtain"] = json!(true));
    browser.until_shows("#verdict", "Would you promote it?");
    assert_eq!(browser.text("#votes"), "");
    is_without_complaints(&browser);
}

fn until_the_code_is_loaded(browser: &Browser) {
    let is_drawn = "return document.getElementById('scan-code').naturalWidth > 0";
    eventually("the code is loaded", || browser.run(is_drawn) == true);
}

/// Behind the curtain, no text, title, picture or name of an element tells the verdict.
fn gives_nothing_away(browser: &Browser) {
    let told = browser.run(
        "const seen = [...document.querySelectorAll('main *, header *, #told *, footer *')] \
             .filter(one => one.closest('#votes') === null && one.checkVisibility({visibilityProperty: true})); \
         return seen.map(one => [one.getAttribute('aria-label') ?? '', one.childElementCount ? '' : one.textContent].join(' ')) \
             .join(' ') + ' ' + document.title + ' ' + document.getElementById('announcement').textContent",
    );
    let told = told.as_str().expect("text");
    for word in ["Roll back:", "Promote", "Not yet", "to 1", "at most", "worse"] {
        assert!(!told.contains(word), "{word}: {told}");
    }
    let colours = browser.run(
        "return ['verdict', 'evidence'].map(id => getComputedStyle(document.getElementById(id)).backgroundImage)",
    );
    assert_eq!(colours[0], colours[1], "all panels of the judge look alike");
    let chart =
        browser.run("return getComputedStyle(document.querySelector('#evidence-chart path')).visibility");
    assert_eq!(chart, "hidden");
}

#[test]
fn without_a_rehearsal_each_viewer_has_a_curtain_of_its_own() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    browser.press("j");
    browser.until_shows("#verdict", "Would you promote it?");
    gives_nothing_away(&browser);
    browser.press("d");
    browser.until_shows("#details", "Failures");
    assert_eq!((browser.text("#sentence"), browser.text("#price")), (String::new(), String::new()));
    browser.press(ESCAPE);
    browser.click("#curtain");
    browser.until_shows("#word", "Not yet");
    assert_eq!(server.posted(), []);
}

#[test]
fn the_details_have_the_greatest_share_and_what_each_path_shows() {
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    let kind = |name: Option<&str>, failures: u64, worse: bool, covered: bool| {
        json!({"name": name, "canary": {"answers": 7, "failures": failures, "slow": 0}, "worse": worse, "covered": covered,
            "stable": {"answers": 31, "failures": 0, "slow": 0}, "unattributed": 0, "ln_e_value": 1.0, "more_answers": 0})
    };
    browser.press("d");
    browser.until_shows("#max-share", "At most 12\u{a0}% of the traffic for the canary for now.");
    assert_eq!(browser.text("#kinds"), "");
    server.edit(|state| {
        let script = "<b onclick='x'>/cart</b>";
        state["strata"] = json!([
            kind(Some(script), 0, false, true),
            kind(Some("/checkout"), 7, true, true),
            kind(None, 0, false, false)
        ]);
    });
    browser.until_shows("#kinds", "/checkout");
    let rows: Vec<_> = browser.text("#strata tbody").lines().map(str::to_owned).collect();
    assert_eq!(
        rows,
        [
            "/checkout\t7 of 7\t0 of 31\tthe canary is worse",
            "<b onclick='x'>/cart</b>\t0 of 7\t0 of 31\t",
            "all others\t0 of 7\t0 of 31\ttoo few answers to say anything"
        ]
    );
    server.edit(|state| state["strata"] = json!([]));
    eventually("no kinds", || browser.text("#kinds").is_empty());
}

#[test]
fn the_mark_on_the_share_bar_moves_with_the_evidence_and_is_hidden_with_the_judge() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    // the middle of the mark, as a part of the bar
    let place = || {
        let part = browser.run(
            "const [mark, bar] = ['share-mark', 'share-bar'] \
                 .map(id => document.getElementById(id).getBoundingClientRect()); \
             return (mark.left + mark.width / 2 - bar.left) / bar.width",
        );
        part.as_f64().expect("a number")
    };
    let is_at = |part: f64| eventually(&format!("the mark is at {part}"), || (place() - part).abs() < 0.002);
    let label = || browser.run("return document.getElementById('share').getAttribute('aria-label')");
    for (most, told) in
        [(0.03, "at most 3\u{a0}% for now: it has more"), (0.12, "12"), (0.5, "50"), (1.0, "100")]
    {
        server.edit(|state| state["max_share"] = json!(most));
        browser.until_shows("#share-most", told);
        is_at(most);
        let is_above = browser.count("#share.above") == 1;
        assert_eq!(is_above, most < 0.25, "the share is 25 %, and the mark at {most}");
        does_not_scroll(&browser);
    }
    assert_eq!(browser.text("#share-now"), "Canary: now 25.0\u{a0}%");
    server.edit(|state| {
        state["max_share"] = json!(0);
        state["standing"] = json!("roll_back");
    });
    is_at(0.0);
    browser.until_shows("#share-most", "at most 0\u{a0}% for now: it has more");
    assert_eq!(
        label(),
        "The canary's share of the traffic: now 25.0\u{a0}%, at most 0\u{a0}% for now: it has more"
    );
    assert_eq!(browser.count("#share [aria-live], #share [role=status]"), 0, "no move is announced");
    keep(&browser, "share");
    browser.press("j");
    browser.until_shows("#verdict", "Would you promote it?");
    gives_nothing_away(&browser);
    let mark = browser.run("return getComputedStyle(document.getElementById('share-mark')).visibility");
    assert_eq!(mark, "hidden");
    assert_eq!(browser.count("#share.above"), 0);
    assert_eq!(label(), "The canary's share of the traffic: now 25.0\u{a0}%");
    browser.press("j");
    server.edit(|state| state["sides"]["canary"]["share"] = Value::Null);
    browser.until_shows("#share-now", "Canary: no share yet");
    is_without_complaints(&browser);
}

#[test]
fn a_reset_is_asked_for_twice_and_a_refusal_is_told() {
    let Some((browser, server)) = page_of(fixed_canary()) else { return };
    server.tell_rights(false, true);
    let is_open = || browser.run("return document.getElementById('confirm').open") == true;
    browser.click("#show-details");
    browser.until_shows("#reset", "Begin the trial anew");
    assert_eq!(browser.run("return document.activeElement.id"), "close-details", "Enter resets nothing");
    browser.click("#reset");
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

/// Where the buttons of the page are, and those of a dialogue that is open.
fn buttons(browser: &Browser) -> Value {
    browser.run(
        "return [...document.querySelectorAll('button')].filter(one => one.checkVisibility()).map(one => { \
             const {x, y, width, height} = one.getBoundingClientRect(); return [one.id, x, y, width, height].join(' ') })",
    )
}

/// A press and a release on two places are no click, neither with a mouse nor with a finger.
#[test]
fn no_button_moves_while_requests_are_answered() {
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    server.tell_rights(true, true);
    browser.until_shows("#next", "Next: Roll back");
    let long = "a-name-of-63-characters-".repeat(3)[..63].to_owned();
    let mut without_steps = broken_canary();
    without_steps["rehearsal"] = Value::Null;
    for (what, begin) in [("a rehearsal", broken_canary()), ("a server", without_steps)] {
        for (width, height) in [(1280, 720), (1920, 1080), (768, 1024), (640, 360), (390, 844), (320, 600)] {
            browser.resize(width, height);
            server.show(begin.clone());
            browser.press("d");
            eventually("it is drawn", || browser.count("#pod-list > li") == 4);
            let before = buttons(&browser);
            server.edit(|state| {
                state["pods"] = json!(vec![state["pods"][0].clone(); 50]);
                state["versions"][0]["name"] = json!(&long);
                state["failing"]["statuses"] = json!({"500": 1_234_567, "502": 1_234_567, "503": 1_234_567});
                state["price_sentence"] = json!("The canary has cost 1 failed request. ".repeat(10));
                state["requests"] = json!(1_234_567);
                state["title"] = json!(&long);
                if let Some(text) = state["rehearsal"].get_mut("text") {
                    *text = json!("It goes on and on. ".repeat(8));
                }
            });
            eventually("the longer texts are drawn", || browser.count("#pod-list > li") == 50);
            assert_eq!(buttons(&browser), before, "{what}, {width}×{height}");
            keep(&browser, &format!("buttons-{width}-{}", what.replace(' ', "-")));
            browser.press(ESCAPE);
        }
    }
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

/// The parts of the page that a class sees.
const PARTS: [&str; 9] =
    ["told", "word", "fact", "meaning", "wall", "evidence-chart", "bound-chart", "rules", "versions"];

fn all_is_in_the_window(browser: &Browser) {
    for id in PARTS {
        assert!(is_in_the_window(browser, id), "{id} is seen without scrolling");
    }
    does_not_scroll(browser);
}

/// Nothing scrolls, and the texts of the panels fit into them.
fn does_not_scroll(browser: &Browser) {
    let scrolls = browser.run(
        "const tall = (one) => one.scrollHeight > one.clientHeight + 1 || one.scrollWidth > one.clientWidth + 1; \
         return [document.documentElement, document.body, ...document.querySelectorAll('main, section, footer, header, #told')] \
             .filter(tall).map(one => `${one.localName}#${one.id} ${one.scrollWidth}×${one.scrollHeight} in \
${one.clientWidth}×${one.clientHeight}`)",
    );
    assert_eq!(scrolls, json!([]));
    let narrow = "return [...document.querySelectorAll('#steps li')] \
        .filter((step, _, all) => step.scrollWidth > step.clientWidth || step.offsetTop !== all[0].offsetTop \
            || step.clientHeight !== all[0].clientHeight).map(step => step.textContent)";
    assert_eq!(browser.run(narrow), json!([]), "the number of each step is whole, on one line");
}

/// What stands beside the verdict is what it rests on: the crossing of the evidence, and the bound.
fn nothing_contradicts_the_verdict(browser: &Browser) {
    // in one call, because a state may come in between
    let seen = browser.run(
        "return [document.getElementById('verdict').dataset.standing, document.title, \
             document.querySelectorAll('#evidence-chart .crossing').length, \
             document.getElementById('bound-title').textContent.match(/at most ([\\d.]+)/)?.[1] ?? null, \
             document.getElementById('announcement').textContent]",
    );
    let standing = seen[0].as_str().expect("a standing");
    let (crossed, bound) = (seen[2] == 1, seen[3].as_str().and_then(|it| it.parse::<f64>().ok()));
    assert_eq!(
        crossed,
        ["roll_back", "rolled_back"].contains(&standing),
        "the evidence is above its line: {seen}"
    );
    match standing {
        "promote" => assert!(bound.is_some_and(|bound| bound <= 1.0), "{seen}"),
        "not_yet" => assert!(bound.is_none_or(|bound| bound > 1.0), "{seen}"),
        _ => {}
    }
    let word = seen[1].as_str().and_then(|title| title.strip_suffix(" · canary")).expect("a word");
    assert!(seen[4].as_str().is_some_and(|told| told.starts_with(&format!("Verdict: {word}."))), "{seen}");
}

/// Where the panels and the buttons are, and their sizes.
fn places(browser: &Browser) -> Value {
    browser.run(
        "return [...document.querySelectorAll('header, #told, main > section, #wall, footer, #steps, header button')].map(one => { \
             const {x, y, width, height} = one.getBoundingClientRect(); \
             return [one.id || one.localName, x, y, width, height].join(' ') })",
    )
}

fn overflows_sideways(browser: &Browser) -> bool {
    browser.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth") == true
}

/// A change of the page's state, and its name.
type Edit<'a> = (&'a str, &'a dyn Fn(&mut Value));

#[test]
fn on_a_projector_nothing_scrolls_and_nothing_moves_whatever_is_shown() {
    let Some((browser, server)) = page_of(with_a_vote(broken_canary(), &Value::Null)) else { return };
    server.tell_rights(true, true);
    browser.until_shows("#next", "Next: Roll back");
    let long = "a-name-of-63-characters-".repeat(3)[..63].to_owned();
    let many = |state: &mut Value| {
        let labels: Vec<_> =
            (0..8).map(|n| json!({"text": format!("label-{n}={long}"), "changed": n == 0})).collect();
        for version in [0, 1] {
            state["versions"][version]["name"] = json!(&long);
            state["versions"][version]["pods"] = json!(100);
            state["versions"][version]["labels"] = json!(labels);
        }
        state["more_versions"] = json!(7);
        state["pods"] = json!(vec![state["pods"][0].clone(); 50]);
        state["more_pods"] = json!(50);
        state["rehearsal"]["commands"] = json!([format!("kubectl label pods {long} newlabel={long}")]);
        state["rehearsal"]["note"] = json!(format!("pod {long} is ready and gets connections"));
        state["rehearsal"]["next"] = json!("Make some requests fail");
    };
    let big = |state: &mut Value| {
        let counts = json!({"answers": 123_456_789, "failures": 1_234_567, "slow": 0});
        state["judged"] = json!({"stable": counts, "canary": counts});
        state["price_sentence"] =
            json!("The canary has cost about 1,234,567 failed requests, 12 % of a month's error budget.");
        state["present"] = json!({"rate": 12_345.6, "requests": 740_736, "failures": 123_456});
    };
    let voted = |state: &mut Value, standing: &str| {
        state["rehearsal"]["curtain"] = json!(false);
        state["rehearsal"]["vote"]["round"] = round(false, [66, 67, 67]);
        state["standing"] = json!(standing);
    };
    let edits: [Edit; 14] = [
        ("many pods", &many),
        ("large numbers", &big),
        ("not yet", &|state| {
            state["standing"] = json!("not_yet");
            state["more_answers"] = json!(99_999);
        }),
        ("promote", &|state| state["standing"] = json!("promote")),
        ("hold", &|state| state["standing"] = json!("hold")),
        ("rolled back", &|state| state["standing"] = json!("rolled_back")),
        ("changed by hand", &|state| {
            state["rehearsal"]["began"] = json!(
                "A new trial began: the canary gets 99 % of the requests, the canary fails 99.5 % of its requests, the \
                 canary answers 1000 ms later, 200 requests a second, an incident hits both sides."
            );
        }),
        ("paused", &|state| state["rehearsal"]["held"] = json!(true)),
        ("behind the curtain", &|state| state["rehearsal"]["curtain"] = json!(true)),
        ("a vote", &|state| state["rehearsal"]["vote"]["round"] = round(true, [7, 14, 9])),
        ("the class and a roll-back", &|state| voted(state, "roll_back")),
        ("the class and not yet", &|state| voted(state, "not_yet")),
        ("the class and a promotion", &|state| voted(state, "promote")),
        ("the class and hold", &|state| voted(state, "hold")),
    ];
    for (width, height) in [(1280, 720), (1920, 1080), (1024, 768)] {
        browser.resize(width, height);
        server.show(with_a_vote(broken_canary(), &Value::Null));
        browser.until_shows("#fact", "85 of 85 failed");
        eventually("it is drawn at this size", || {
            browser.run("return document.getElementById('evidence-chart').viewBox.baseVal.width").as_f64()
                > Some(f64::from(width) / 4.0)
        });
        all_is_in_the_window(&browser);
        let (before, marks) = (places(&browser), mark_size(&browser));
        for (number, (what, edit)) in edits.iter().enumerate() {
            server.edit(|state| {
                edit(state);
                state["rehearsal"]["text"] = json!(format!("text {number}"));
            });
            browser.until_shows("#text", &format!("text {number}"));
            does_not_scroll(&browser);
            assert_eq!(places(&browser), before, "{width}×{height}, {what}: nothing moves");
            assert_eq!(mark_size(&browser), marks, "{what}: marks keep their size");
            keep(&browser, &format!("{width}-{}", what.replace(' ', "-")));
        }
        assert!(marks.as_f64() >= Some(f64::from(width) / 1280.0 * 15.0), "a mark is {marks} px wide");
    }
    is_without_complaints(&browser);
}

fn mark_size(browser: &Browser) -> Value {
    browser.run("return document.querySelector('#wall use').getBoundingClientRect().width")
}

#[test]
fn smaller_windows_scroll_and_cut_nothing_off() {
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    server.tell_rights(true, true);
    let name = "a-name-without-a-space".repeat(10);
    server.edit(|state| {
        state["versions"][0]["name"] = json!(name);
        state["versions"][0]["labels"] = json!([{"text": &name, "changed": true}]);
        state["rehearsal"]["commands"] = json!([name]);
        state["rehearsal"]["title"] = json!(name);
        state["sentence"] = json!(name);
    });
    browser.until_shows("#step", &name);
    // 640×360 is 1280×720 at a zoom of 200 %
    for (width, height) in [(999, 700), (768, 1024), (640, 360), (390, 844), (320, 600)] {
        browser.resize(width, height);
        assert!(!overflows_sideways(&browser), "{width}×{height} must not scroll sideways");
        let cut = browser.run(
            "return [...document.querySelectorAll('section, footer, header, #told, #versions li, #versions span')] \
                 .filter(one => getComputedStyle(one).overflowX === 'hidden' && one.className !== 'spoken').map(one => one.id)",
        );
        assert_eq!(cut, json!([]), "{width}×{height}: nothing is cut off");
    }
    server.show(with_a_vote(fixed_canary_in_a_rehearsal(), &round(true, [66, 67, 67])));
    browser.until_shows("#vote-count", "200 votes");
    until_the_code_is_loaded(&browser); // until then, its text has the place
    for (width, height) in [(999, 700), (768, 1024), (640, 360), (390, 844), (320, 600)] {
        browser.resize(width, height);
        assert!(!overflows_sideways(&browser), "{width}×{height} must not scroll sideways in a vote");
        let covered = browser.run(
            "return [...document.querySelectorAll('.behind')].filter(it => it.checkVisibility() && \
                 (it.scrollHeight > it.clientHeight + 1 || it.scrollWidth > it.clientWidth + 1)).map(it => it.id || it.className)",
        );
        assert_eq!(covered, json!([]), "{width}×{height}: what is behind the curtain fits");
        keep(&browser, &format!("vote-{width}"));
    }
    server.show(broken_canary());
    browser.resize(390, 844);
    browser.until_shows("#step", "4. Deploy");
    browser.run("scrollTo(0, 0)");
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

#[test]
fn axe_finds_no_barrier_in_any_look() {
    let Some(axe) = std::env::var_os("AXE") else {
        eprintln!("SKIPPED: AXE does not name axe-core's axe.min.js");
        return;
    };
    let axe = std::fs::read_to_string(axe).expect("axe.min.js");
    let Some((browser, server)) = page_of(broken_canary()) else { return };
    server.tell_rights(true, true);
    browser.until_shows("#next", "Next: Roll back");
    browser.run(&axe);
    let is_clean = |look: &str| {
        let found = browser.run_until_done(
            "axe.run().then(({violations}) => done(violations.map(({id, nodes}) => [id, nodes.map(node => node.html)])), \
                 error => done(String(error)))",
        );
        assert_eq!(found, json!([]), "{look}");
    };
    is_clean("a roll-back");
    browser.prefers("dark");
    is_clean("in the dark");
    browser.prefers("light");
    for standing in ["not_yet", "promote", "hold", "gone"] {
        server.edit(|state| state["standing"] = json!(standing));
        eventually("its colour", || {
            browser.run("return document.getElementById('verdict').dataset.standing") == standing
        });
        is_clean(standing);
    }
    browser.press("d");
    browser.until_shows("#details", "This trial");
    is_clean("the details");
    browser.press(ESCAPE);
    for scheme in ["dark", "light"] {
        browser.prefers(scheme);
        browser.press("s");
        browser.until_shows("#conditions", "Change the conditions");
        is_clean("the sliders");
        browser.press(ESCAPE);
    }
    server.edit(|state| {
        state["rehearsal"]["curtain"] = json!(true);
        state["outage"] = json!({
            "kind": "no_answer", "since": "2026-11-29T10:00:00Z", "seconds": 9, "requests": 90, "cause": "refused"
        });
    });
    browser.until_shows("#outage", "refused");
    is_clean("an outage behind the curtain");
    server.edit(|state| {
        state["outage"] = Value::Null;
        state["rehearsal"]["vote"] =
            json!({"url": "http://192.168.1.20:8091", "round": round(true, [7, 14, 9])});
    });
    browser.until_shows("#vote-count", "30 votes");
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        is_clean("a vote");
    }
    browser.press("v");
    is_clean("where phones vote");
    browser.press(ESCAPE);
    browser.prefers("light");
    server.edit(|state| {
        state["rehearsal"]["curtain"] = json!(false);
        state["rehearsal"]["vote"]["round"] = round(false, [7, 14, 9]);
    });
    browser.until_shows("#class-said", "The class");
    is_clean("the class and the judge");
    browser.resize(390, 844);
    is_clean("a phone");
}

#[test]
fn the_page_of_a_phone_is_legible_and_has_no_barrier() {
    let Some(phone) = Browser::open(390, 844) else { return };
    let (rehearsal, phones) = Serving::rehearse_with_vote(0, &[]);
    let axe = std::env::var_os("AXE").map(|file| std::fs::read_to_string(file).expect("axe.min.js"));
    if axe.is_none() {
        eprintln!("without AXE, only contrasts and sizes are looked at");
    }
    phone.go(&format!("http://{phones}/"));
    phone.until_shows("#told", "There is no vote");
    let looks = |look: &str| {
        for scheme in ["light", "dark"] {
            phone.prefers(scheme);
            assert_eq!(phone.run(CONTRAST), json!([]), "{look}, {scheme}: pale text");
            if let Some(axe) = &axe {
                phone.run(axe);
                let found = phone.run_until_done(
                    "axe.run().then(({violations}) => done(violations.map(({id, nodes}) => [id, nodes.map(node => node.html)])), \
                         error => done(String(error)))",
                );
                assert_eq!(found, json!([]), "{look}, {scheme}");
            }
            keep(&phone, &format!("phone-{scheme}-{}", look.replace(' ', "-")));
        }
        for (width, height) in [(390, 844), (320, 568), (844, 390)] {
            phone.resize(width, height);
            assert!(!overflows_sideways(&phone), "{look}: {width}×{height}");
        }
        phone.resize(390, 844);
        let low = phone
            .run("return Math.min(...[...document.querySelectorAll('button')].map(it => it.offsetHeight))");
        assert!(low.as_f64() >= Some(44.0), "{look}: a thumb needs more than {low} px");
    };
    looks("no vote");
    let hide = |hidden: bool| rehearsal.post("/v1/rehearsal", &json!({"curtain": hidden}).to_string());
    assert_eq!(hide(true).status, 200);
    phone.until_shows("#told", "Vote now");
    looks("a vote");
    tab_to_first_button(&phone);
    phone.press(ENTER);
    phone.until_shows("#told", "You vote: Promote.");
    let pressed =
        "return [...document.querySelectorAll('button')].map(it => it.getAttribute('aria-pressed'))";
    assert_eq!(phone.run(pressed), json!(["true", "false", "false"]));
    looks("voted");
    phone.forces_colours();
    keep(&phone, "phone-forced-colours");
    let border = "return getComputedStyle(document.querySelector('[aria-pressed=true]')).borderStyle";
    assert_eq!(phone.run(border), "double", "the choice is seen without colours");
    let moving = "return [...document.querySelectorAll('*')].filter(one => \
        getComputedStyle(one).transitionDuration !== '0s' || getComputedStyle(one).animationName !== 'none').length";
    assert_eq!(phone.run(moving), 0);
    phone.run("document.cookie; window.kept = true");
    assert_eq!(phone.run("return document.cookie"), "", "no script reads the phone's number");
    phone.go(&format!("http://{phones}/"));
    phone.until_shows("#told", "You vote: Promote."); // the page was loaded again, and the phone is the same
    rehearsal.signal(Signal::KILL);
    phone.until_shows("#problem", "The teacher's computer cannot be reached. Trying again.");
}

fn tab_to_first_button(browser: &Browser) {
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.dataset.choice"), "promote");
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "who uses a keyboard sees where it is");
}

#[test]
fn colours_of_the_system_and_less_motion_are_respected() {
    let Some((browser, _server)) = page_of(broken_canary()) else { return };
    let moving = || {
        browser.run(
            "return [...document.querySelectorAll('*')].filter(one => { \
                 const {transitionDuration, animationName} = getComputedStyle(one); \
                 return transitionDuration !== '0s' || animationName !== 'none' }).map(one => one.id)",
        )
    };
    assert_eq!(moving(), json!([]), "nothing is animated for who wants less motion");
    browser.forces_colours(); // and sets motion back to the usual
    assert_eq!(moving(), json!(["share-mark"]));
    for kept in ["#wall", "#share-canary", "#share-stable", "#share-mark"] {
        let adjusted = browser
            .run(&format!("return getComputedStyle(document.querySelector('{kept}')).forcedColorAdjust"));
        assert_eq!(adjusted, "none", "{kept} keeps the colours that tell its parts apart");
    }
    keep(&browser, "forced-colours");
}

/// The contrast of the marks to their panel: 3:1 at least, as WCAG 2.2 wants of graphics (1.4.11).
#[test]
fn marks_and_lines_can_be_told_from_their_ground() {
    let Some((browser, _server)) = page_of(broken_canary()) else { return };
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        let ratios = browser.run(
            "const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number); \
             const luminance = (colour) => { const [r, g, b] = numbers(colour).map(part => part / 255) \
                 .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4); \
                 return 0.2126 * r + 0.7152 * g + 0.0722 * b }; \
             const ground = luminance(getComputedStyle(document.getElementById('requests')).backgroundColor); \
             return ['stable', 'canary', 'neither', 'failed'].map(name => { \
                 const mark = luminance(getComputedStyle(document.querySelector(`#marks .${name}`)).fill); \
                 return (Math.max(mark, ground) + 0.05) / (Math.min(mark, ground) + 0.05) })",
        );
        let ratios: Vec<_> = ratios.as_array().expect("ratios").iter().filter_map(Value::as_f64).collect();
        assert!(ratios.len() == 4 && ratios.iter().all(|ratio| *ratio >= 3.0), "{scheme}: {ratios:?}");
    }
}

/// What the page at this address must show for a service with three stable pods and a canary that always fails.
fn shows_a_broken_canary(browser: &Browser, url: &str) {
    browser.go(url);
    browser.until_shows("#word", "Roll back");
    browser.until_shows("#meaning", "The canary has cost about");
    browser.until_shows("#versions", "stable: 3 pods");
    browser.until_shows("#versions", "canary: 1 pod");
    browser.until_shows("#more", "stable: 0 of ");
    eventually("300 marks, of which about each fourth is the canary's", || {
        // counted in one call, because the marks change all the time
        let marks = browser.run(
            "return ['canary-failed', 'stable'] \
                 .map(name => document.querySelectorAll(`#wall use[href='#${name}']`).length)",
        );
        let [canary, stable] = [0, 1].map(|side| marks[side].as_u64().expect("a count"));
        canary + stable == 300 && (30..=120).contains(&canary)
    });
    for chart in ["bound", "evidence"] {
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
    let address = free_port().to_string();
    let flags = ["--rate=100", PATIENT];
    let serving = Serving::start_on(&address, &fleet.url(), &flags);
    let url = format!("http://{address}/");
    shows_a_broken_canary(&browser, &url);
    let hostile = "<script>window.ran=1</script><img src=x onerror=window.ran=2>";
    fleet.relabel("appinfo-2", &format!("release=\"stable\"\nnewlabel=\"{hostile}\""));
    browser.until_shows("#versions .changed", &format!("newlabel={hostile}"));
    assert_eq!(browser.run("return window.ran ?? null"), Value::Null);
    keep(&browser, "changed");

    browser.press("d");
    browser.until_shows("#last-failure", "appinfo-canary-1\n{\"error\":\"something went wrong\"}");
    browser.until_shows("#statuses", "500: ");
    keep(&browser, "details");
    let began = browser.text("#note");
    assert!(began.starts_with("Counting since "), "{began}");
    browser.until_shows("#reset", "Begin the trial anew");
    browser.click("#reset");
    browser.click("#do-reset");
    browser.press(ESCAPE);
    // the beginnings are not in the same second: the 300 requests of before took three
    eventually("the trial begins anew", || browser.text("#note") != began);
    browser.until_shows("#note", "Counting since ");
    assert_eq!(browser.text("#message"), "");
    is_without_complaints(&browser);

    drop(serving);
    browser.until_shows("#lost", "The connection is lost");
    let _again = Serving::start_on(&address, &fleet.url(), &flags);
    eventually("it is there again", || browser.text("#connection") == "Live");
    browser.until_shows("#word", "Roll back");
    assert_eq!(browser.text("#lost"), "");
}

#[test]
fn a_server_that_was_killed_goes_on_and_the_charts_have_a_mark_there() {
    let Some(browser) = Browser::open(1280, 720) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    let state = format!("--state={}", file.display());
    let fleet = Fleet::with_canary(Version::Broken);
    let address = free_port().to_string();
    let flags = ["--rate=100", PATIENT, state.as_str()];
    let serving = Serving::start_on(&address, &fleet.url(), &flags);
    browser.go(&format!("http://{address}/"));
    browser.until_shows("#word", "Roll back");
    assert_eq!(browser.count("#evidence-chart .restarted"), 0);
    // of two writes, the second has begun after the verdict
    for _ in 0..2 {
        let written = std::fs::read(&file).ok();
        eventually("the state is written", || std::fs::read(&file).ok() != written);
    }
    drop(serving); // kill -9
    browser.until_shows("#lost", "The connection is lost");
    let _again = Serving::start_on(&address, &fleet.url(), &flags);
    eventually("it is there again", || browser.text("#connection") == "Live");
    browser.until_shows("#note", "the server has restarted at");
    for chart in ["evidence", "bound"] {
        eventually("its mark", || browser.count(&format!("#{chart}-chart .restarted")) == 1);
    }
    browser.until_shows("#rules-setting", "They have not seen what was before the restart.");
    assert_eq!(browser.count("#evidence-chart .crossing"), 0, "it crossed the line before");
    keep(&browser, "restarted");
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
        .filter((element) => hasText(element) && element.checkVisibility({ visibilityProperty: true }) && pale(element))
        .map((element) => element.textContent);
";

/// Waits until the rehearsal's step with this number and title is done, and checks the text of its button.
fn until_done(browser: &Browser, (number, title): (usize, &str), button: &str) {
    browser.until_shows("#step", &format!("{number}. {title}"));
    browser.until_shows("#next", button);
}

/// docs/teaching.md: "How many requests are lost?" Only a machine that is too busy answers late.
fn none_is_lost(rehearsal: &Serving, step: &str) {
    let mut causes = newest(rehearsal)["causes"].as_object().expect("an object").clone();
    causes.remove("timed-out");
    assert_eq!(json!(causes), json!({}), "{step}: none is lost");
}

#[test]
fn a_rehearsal_goes_on_step_by_step_with_the_button_by_mouse_and_keyboard() {
    let Some(browser) = Browser::open(1280, 720) else { return };
    let mut rehearsal = Serving::rehearse(&["--rate=100", "--fault-percent=50"]);
    browser.prefers("light");
    browser.go(&format!("http://{}/", rehearsal.address));
    browser.until_shows("#step", "A rehearsal with no cluster");
    browser.until_shows("#text", "No cluster");
    browser.until_shows("#present", "paused");
    browser.until_shows("#next", "Next: Deploy");
    let at_each_size = |check: &dyn Fn() -> Value| {
        let all = [(1920, 1080), (1280, 720)].map(|(width, height)| {
            browser.resize(width, height);
            check()
        });
        json!(all)
    };
    let before = at_each_size(&|| places(&browser));
    let holds = |what: &str| {
        let now = at_each_size(&|| {
            does_not_scroll(&browser);
            places(&browser)
        });
        nothing_contradicts_the_verdict(&browser);
        let whole = browser.run(
            "const told = document.getElementById('spoken-step'); \
             return told.scrollWidth <= told.clientWidth && told.scrollHeight <= told.clientHeight + 1",
        );
        assert_eq!(whole, json!(true), "{what}: the whole text of the step is to be seen");
        assert_eq!(now, before, "{what}: panels keep their places and sizes");
    };
    holds("before the first step");
    keep(&browser, "before");
    tab_to(&browser, "next");
    browser.press(ENTER);
    until_done(&browser, (1, "Deploy"), "Next: Scale");
    browser.until_shows("#versions", "stable: 1 pod");
    browser.until_shows("#versions", "namespace=none");
    browser.until_shows("#word", "No canary");
    browser.run("const next = document.getElementById('next'); next.click(); next.click()");
    until_done(&browser, (2, "Scale"), "Next: Change a label");
    browser.until_shows("#versions", "stable: 3 pods");
    holds("Scale");
    assert_eq!(browser.text("#message"), "", "a double click is one step, and no fault");
    browser.press(ENTER);
    until_done(&browser, (3, "Change a label"), "Next: Deploy the broken canary");
    browser.until_shows("#versions .changed", "newlabel=realtime (1 of 3)");
    holds("Change a label");
    browser.click("#next");
    until_done(&browser, (4, "Deploy the broken canary"), "Next: Roll back");
    browser.until_shows("#commands", "kubectl create -f deployment/canary-broken.yaml");
    browser.until_shows("#note", "is ready and gets connections");
    browser.until_shows("#word", "Roll back");
    eventually("300 marks", || browser.count("#wall use") == 300);
    all_is_in_the_window(&browser);
    holds("Deploy the broken canary");
    are_the_pictures_in_the_documents(&browser);

    rules_of_thumb_have_said(&browser);
    for (number, title, next, word) in [
        (5, "Roll back", "Next: Deploy the fixed canary", "Rolled back"),
        (6, "Deploy the fixed canary", "Next: Make some requests fail", "Promote"),
        (7, "Make some requests fail", "Next: End the fault", "Roll back"),
        (8, "End the fault", "Next: Follow the evidence", "Promote"),
        (9, "Follow the evidence", "Next: Promote it", "Promote"),
        (10, "Promote it", "Next: Clean up the canary", "Promote"),
        (11, "Clean up the canary", "That was the last step", "Canary gone"),
    ] {
        match number % 4 {
            0 => browser.press(ENTER),
            1 => browser.click("#next"),
            2 => browser.press(PAGE_DOWN),
            _ => browser.press("n"),
        }
        until_done(&browser, (number, title), next);
        if number == 7 {
            browser.until_shows("#versions .changed", "fault-percent=50");
            assert!(is_in_the_window(&browser, "versions"), "the point of the step is to be seen");
        }
        if number == 8 {
            browser.until_shows("#versions .changed", "fault-percent removed");
        }
        if word == "Promote" {
            until_promoted(&browser);
        }
        browser.until_shows("#word", word);
        if number == 9 {
            browser.until_shows("#note", "the canary now gets 100 % of new connections");
        }
        if [5, 10, 11].contains(&number) {
            none_is_lost(&rehearsal, title);
        }
        holds(title);
        keep(&browser, &format!("step-{number}"));
        assert_eq!(browser.run("return document.activeElement.id"), "next", "{title}");
    }
    browser.until_shows("#versions", "stable: 3 pods");
    browser.until_shows("#versions", "namespace=default");
    is_without_complaints(&browser);
    rehearsal.signal(Signal::INT);
    assert_eq!(rehearsal.end(), Some(0));
    browser.until_shows("#lost", "The connection is lost");
}

/// docs/teaching.md, step 6: at the usual pace, so that there is time to see "Not yet".
#[test]
fn a_class_sees_not_yet_first_with_the_answers_that_are_missing_and_then_promote_below_the_line() {
    let Some(browser) = Browser::open(1280, 720) else { return };
    let rehearsal = Serving::rehearse(&[]);
    browser.go(&format!("http://{}/", rehearsal.address));
    browser.until_shows("#next", "Next: Deploy");
    for (number, next) in (1..).zip([
        "Scale",
        "Change a label",
        "Deploy the broken",
        "Roll back",
        "Deploy the fixed",
        "Make some",
    ]) {
        browser.press("n");
        browser.until_shows("#step", &format!("{number}. "));
        browser.until_shows("#next", &format!("Next: {next}"));
    }
    // in one call, because a state may come in between
    let told = || {
        browser.run(
            "return ['word', 'fact', 'more', 'bound-title'].map(id => document.getElementById(id).textContent)",
        )
    };
    let mut not_yet = told();
    eventually("not yet, and what is missing", || {
        not_yet = told();
        let shows = |part: usize, text: &str| not_yet[part].as_str().is_some_and(|it| it.contains(text));
        shows(0, "Not yet") && shows(2, "more good answers, about ")
    });
    let answers = |part: usize, after: usize| {
        let word = not_yet[part].as_str().and_then(|text| text.split(' ').nth(after));
        word.and_then(|it| it.parse::<u32>().ok()).expect("a number")
    };
    let all = answers(1, 2) + answers(2, 0);
    assert!((335..=375).contains(&all), "about 350 in all: {not_yet}");
    let bound = |told: &Value| {
        let rate = told[3].as_str()?.strip_prefix("The canary fails at most ")?.strip_suffix("\u{a0}%")?;
        rate.parse::<f64>().ok()
    };
    assert!(bound(&not_yet).is_some_and(|bound| bound > 1.0), "{not_yet}");
    until_promoted(&browser);
    let promoted = told();
    assert!(
        bound(&promoted).is_some_and(|bound| bound <= 1.0),
        "the bound that is shown is the one that decides: {promoted}"
    );
    browser.until_shows("#meaning", "At most 1\u{a0}% of its requests fail");
}

#[test]
fn in_a_rehearsal_a_key_pauses_the_requests_and_another_hides_the_judge_from_all_viewers() {
    let Some(browser) = Browser::open(1280, 720) else { return };
    let rehearsal = Serving::rehearse(&["--rate=100"]);
    browser.go(&format!("http://{}/", rehearsal.address));
    browser.until_shows("#next", "Next: Deploy");
    browser.press("n");
    until_done(&browser, (1, "Deploy"), "Next: Scale");
    browser.until_shows("#versions", "stable: 1 pod");
    // the rate is that of the last second: without a request in it, it would be 0 before those under way have ended
    let has_rate = |state: &Value| state["present"]["rate"].as_f64() > Some(0.0);
    rehearsal.events("/v1/events").find(has_rate).expect("requests are sent");
    browser.press("p");
    browser.until_shows("#note", "Paused: no requests are sent.");
    let newest = || rehearsal.events("/v1/events").next().expect("a state");
    // states still arrive although no request comes, and requests under way have ended
    let before =
        rehearsal.events("/v1/events").find(|state| state["present"]["rate"] == 0.0).expect("it falls");
    browser.press("j");
    browser.until_shows("#verdict", "Would you promote it?");
    assert_eq!(newest()["rehearsal"]["curtain"], true, "each viewer's page hides it");
    let mut class: Vec<_> = (0..30).map(|_| rehearsal.events("/v1/events")).collect();
    let sees = |viewer: &mut common::serving::Events| {
        viewer.next().is_some_and(|state| state["rehearsal"]["curtain"] == true)
    };
    assert!(class.iter_mut().all(sees), "thirty viewers");
    let student = Browser::open(1280, 720).expect("another browser");
    student.go(&format!("http://{}/", rehearsal.address));
    student.until_shows("#verdict", "Would you promote it?");
    assert_eq!(newest()["requests"], before["requests"], "no request in a pause");
    browser.press(ARROW_RIGHT);
    until_done(&browser, (2, "Scale"), "Next: Change a label");
    eventually("a step ends the pause", || newest()["requests"].as_u64() > before["requests"].as_u64());
    assert_eq!(newest()["rehearsal"]["held"], false);
    is_without_complaints(&browser);
}

/// The browser at the page of a rehearsal, in which this step has been taken.
fn at_step(last: usize, flags: &[&str]) -> Option<(Browser, Serving)> {
    let browser = Browser::open(1280, 720)?;
    let rehearsal = Serving::rehearse(flags);
    browser.prefers("light");
    browser.go(&format!("http://{}/", rehearsal.address));
    browser.until_shows("#next", "Next: Deploy");
    let titles =
        ["Scale", "Change a label", "Deploy the broken", "Roll back", "Deploy the fixed", "Make some"];
    for (number, next) in (1..=last).zip(titles) {
        take(&browser, number, &format!("Next: {next}"));
    }
    Some((browser, rehearsal))
}

/// Waits for a promotion. It takes about 350 answers of the canary, at the rate that a busy machine manages.
fn until_promoted(browser: &Browser) {
    eventually_within(2 * PATIENCE, "the canary is promoted", || browser.text("#word").contains("Promote"));
}

/// Takes the step with this number, and waits for the text of the button after it.
fn take(browser: &Browser, number: usize, button: &str) {
    browser.press("n");
    until_done(browser, (number, ""), button);
}

/// Asks for a change of the conditions.
fn change(rehearsal: &Serving, conditions: &Value) -> http::Answer {
    rehearsal.post("/v1/rehearsal", &json!({"conditions": conditions}).to_string())
}

fn newest(rehearsal: &Serving) -> Value {
    rehearsal.events("/v1/events").next().expect("a state")
}

#[test]
fn what_would_have_no_effect_is_refused_and_an_incident_hits_stable_alone_too() {
    let Some((browser, rehearsal)) = at_step(0, &["--rate=100"]) else { return };
    let refused = |conditions: Value, status: u16, why: &str| {
        let answer = change(&rehearsal, &conditions);
        assert_eq!(answer.status, status, "{conditions}");
        assert!(answer.body.contains(why), "{conditions}: {}", answer.body);
    };
    refused(json!({"rate": 50}), 409, "nothing is deployed yet: take the first step");
    for (number, title) in (1..).zip(["Scale", "Change a label", "Deploy the broken"]) {
        take(&browser, number, &format!("Next: {title}"));
    }
    refused(json!({"share": 50}), 409, "there is no canary in this step");
    refused(json!({"rate": 1000}), 400, "rate: want a number from 1 to 200 (requests a second)");
    browser.press("s");
    browser.click("#incident");
    eventually("the dialogue closes", || browser.text("#conditions").is_empty());
    browser.until_shows("#note", "A new trial began: an incident hits both sides.");
    eventually("stable fails", || newest(&rehearsal)["sides"]["stable"]["failure"].as_u64() > Some(5));
    take(&browser, 4, "Next: Roll back");
    browser.until_shows("#word", "Roll back");
    let state = newest(&rehearsal);
    assert_eq!(state["judged"]["stable"]["failures"], 0, "the step has its own conditions: {state}");
    assert_eq!(state["rehearsal"]["began"], "");
    assert_eq!(state["rehearsal"]["conditions"]["incident"], false);
    refused(json!({"fails": 1}), 409, "this canary fails every request");
    let complaints = browser.complaints();
    assert_eq!(complaints, [""; 0], "what was refused was not asked for by the page");
}

/// docs/teaching.md, "Change the conditions".
#[test]
fn a_teacher_changes_the_conditions_and_each_change_begins_a_trial_until_the_next_step() {
    let Some((browser, rehearsal)) = at_step(6, &["--rate=100"]) else { return };
    let change = |conditions: Value| assert_eq!(change(&rehearsal, &conditions).status, 200, "{conditions}");
    let newest = || newest(&rehearsal);
    let before = places(&browser);
    until_promoted(&browser);
    let old = newest();
    browser.press("s");
    browser.until_shows("#conditions", "as in the step");
    let set = |id: &str, value: u32| {
        browser.run(&format!(
            "const it = document.getElementById('{id}'); it.value = {value}; \
             it.dispatchEvent(new Event('input', {{bubbles: true}}))"
        ));
    };
    set("set-share", 50);
    set("set-fails", 20);
    set("set-delay", 100);
    keep(&browser, "sliders");
    browser.click("#apply");
    eventually("the dialogue closes", || browser.text("#conditions").is_empty());
    let began = "A new trial began: the canary gets 50 % of the requests, the canary fails 20 % of its requests, the \
        canary answers 100 ms later.";
    browser.until_shows("#note", began);
    browser.until_shows("#versions", "fault-percent=20");
    browser.until_shows("#word", "Roll back");
    let state = newest();
    assert_ne!(state["trial_began"], old["trial_began"], "a new trial");
    assert_eq!(state["rehearsal"]["commands"], json!([]), "they do not say what was changed by hand");
    does_not_scroll(&browser);
    assert_eq!(places(&browser), before, "nothing moves");
    keep(&browser, "sliders-changed");
    eventually("the weight decides the share, and answers are late", || {
        let canary = newest()["sides"]["canary"].clone();
        let answers = canary["success"].as_u64().zip(canary["failure"].as_u64());
        answers.is_some_and(|(success, failure)| success + failure > 200)
            && canary["share"].as_f64().is_some_and(|share| (0.3..0.7).contains(&share))
            && canary["p50_ms"].as_f64() >= Some(99.0)
    });

    // the same again begins no trial, an incident hits both sides, and all is as in the step again
    let requests = || newest()["requests"].as_u64().expect("a number");
    let before = requests();
    change(json!({"share":50,"fails":20}));
    assert!(requests() >= before, "no trial begins for nothing");
    change(json!({"as_in_step":true,"incident":true,"rate":20}));
    browser.until_shows("#note", "20 requests a second, an incident hits both sides.");
    eventually("both sides fail, at the new rate", || {
        let state = newest();
        let failed = |side: &str| state["sides"][side]["failure"].as_u64() > Some(2);
        failed("stable") && failed("canary") && state["present"]["rate"].as_f64() < Some(40.0)
    });
    change(json!({"as_in_step":true,"rate":200}));
    browser.until_shows("#note", "A new trial began: 200 requests a second, the incident is over.");
    browser.until_shows("#commands", "kubectl create -f deployment/canary-fixed.yaml");
    until_promoted(&browser);
    assert_eq!(newest()["sides"]["stable"]["failure"], 0, "what was before does not count");

    // the next step has its own conditions, but not another rate
    change(json!({"fails":0.5,"share":90}));
    take(&browser, 7, "Next: End the fault");
    let conditions = newest()["rehearsal"]["conditions"].clone();
    let of_step = json!({"canary": "fixed", "share": null, "fails": 5.0, "delay_ms": 0.0, "rate": 200.0, "incident": false});
    assert_eq!(conditions, of_step);
    browser.until_shows("#versions", "fault-percent=5");
    browser.until_shows("#word", "Roll back");
    take(&browser, 8, "Next: Follow the evidence");
    take(&browser, 9, "Next: Promote it");
    change(json!({"share": 50}));
    eventually_within(2 * PATIENCE, "the canary is promoted, and has more answers", || {
        let state = newest();
        state["standing"] == "promote" && state["sides"]["canary"]["success"].as_u64() > Some(800)
    });
    let canary = newest()["sides"]["canary"].clone();
    // of 300 requests: five deviations, which are neither the quarter of the pods nor all of them
    let as_set = canary["share"].as_f64().is_some_and(|share| (0.35..0.65).contains(&share));
    assert!(as_set, "its share is the one that was set, and does not follow the evidence: {canary}");
    is_without_complaints(&browser);
}

/// docs/teaching.md, "Let the class vote".
#[test]
fn a_phone_votes_behind_the_curtain_and_the_reveal_has_the_votes_and_the_judges_time() {
    let Some(browser) = Browser::open(1280, 720) else { return };
    // the pictures of the documents have the usual port
    let port = if std::env::var_os("PAGE_PICTURE").is_some() { 8091 } else { 0 };
    let (rehearsal, phones) = Serving::rehearse_with_vote(port, &[]);
    browser.prefers("light");
    browser.go(&format!("http://{}/", rehearsal.address));
    browser.until_shows("#next", "Next: Deploy");
    let (phone, other) =
        (Browser::open(390, 844).expect("a phone"), Browser::open(390, 844).expect("a phone"));
    for phone in [&phone, &other] {
        phone.prefers("light");
        phone.go(&format!("http://{phones}/"));
        phone.until_shows("#told", "There is no vote at the moment. Look at the screen.");
        assert_eq!(phone.count("button[aria-disabled=true]"), 3);
    }
    keep(&phone, "phone-closed");
    for (number, next) in (1..).zip([
        "Scale",
        "Change a label",
        "Deploy the broken",
        "Roll back",
        "Deploy the fixed",
        "Make some",
    ]) {
        browser.press("n");
        until_done(&browser, (number, ""), &format!("Next: {next}"));
    }
    browser.press("j");
    browser.until_shows("#votes", "Roll back");
    browser.press("n");
    until_done(&browser, (7, "Make some requests fail"), "Next: End the fault");
    let choose = |phone: &Browser, choice: &str, told: &str| {
        phone.click(&format!("[data-choice={choice}]"));
        phone.until_shows("#told", told);
    };
    let newest = || rehearsal.events("/v1/events").next().expect("a state");
    for phone in [&phone, &other] {
        phone.until_shows("#step", "Step 7: Make some requests fail");
        phone.until_shows("#canary", "The canary has failed ");
        phone.until_shows("#told", "Vote now: tap one of the three.");
    }
    keep(&phone, "phone");
    choose(&phone, "wait", "You vote: Wait. You may change it until the judge is shown.");
    choose(&other, "roll_back", "You vote: Roll back.");
    browser.until_shows("#votes [data-choice=wait]", "1");
    browser.until_shows("#votes [data-choice=roll_back]", "1");
    gives_nothing_away(&browser);
    does_not_scroll(&browser);
    // a tap again is no second vote, and another choice replaces the first
    choose(&phone, "promote", "You vote: Promote.");
    choose(&phone, "roll_back", "You vote: Roll back.");
    browser.until_shows("#votes [data-choice=roll_back]", "2");
    browser.until_shows("#votes [data-choice=wait]", "0");
    keep(&phone, "phone-voted");
    let choices = ["roll_back"; 7].into_iter().chain(["wait"; 14]).chain(["promote"; 7]);
    for (number, choice) in (1..).zip(choices) {
        let cookie = format!("cookie: canary-phone={number:032x}\r\n");
        let round = newest()["rehearsal"]["vote"]["round"]["number"].clone();
        assert_eq!(http_post(phones, &cookie, "/v1/vote", &json!({"round": round, "choice": choice})), 200);
    }
    browser.until_shows("#vote-count", "30 votes");
    is_a_picture_in_the_documents(&browser, "page-vote.png");
    let page = phone.run("return [document.body.scrollHeight <= innerHeight, document.documentElement.scrollWidth <= innerWidth]");
    assert_eq!(page, json!([true, true]), "all is to be seen without scrolling");
    assert_eq!(
        phone.run("return document.body.innerText.match(/judge (is|was) sure|worse|evidence/)"),
        Value::Null
    );

    eventually_within(2 * PATIENCE, "the judge has decided", || newest()["standing"] == "roll_back");
    browser.press("j");
    let said = "The class: 9\u{a0}roll\u{a0}back, 14\u{a0}wait, 7\u{a0}promote. The judge was sure after ";
    browser.until_shows("#class-said", said);
    let seconds =
        |text: &str| text.trim_end_matches('.').strip_suffix("\u{a0}s").and_then(|it| it.parse::<f64>().ok());
    let told = browser.text("#class-said");
    let of_the_class = told.strip_prefix(said).and_then(seconds).expect("a time");
    let of_the_rules = seconds(&browser.text(".the-judge td:nth-child(2)")).expect("a time");
    let is_same = (of_the_class - of_the_rules).abs() < if of_the_rules < 10.0 { 0.01 } else { 0.51 };
    assert!(is_same && of_the_class > 0.0, "{of_the_class} s, and {of_the_rules} s beside the rules");
    does_not_scroll(&browser);
    nothing_contradicts_the_verdict(&browser);
    keep(&browser, "reveal");
    is_a_picture_in_the_documents(&browser, "page-reveal.png");
    phone.until_shows("#told", "The vote is closed. You voted: Roll back. Look at the screen.");
    phone.click("[data-choice=promote]");
    assert_eq!(http_post(phones, "", "/v1/step", &json!({"step": 8})), 404, "a phone takes no step");
    browser.press("n");
    until_done(&browser, (8, "End the fault"), "Next: Follow the evidence");
    assert_eq!(browser.text("#class-said"), "", "what the class said was about the step before");
    phone.until_shows("#told", "There is no vote at the moment.");
    for viewer in [&browser, &other] {
        is_without_complaints(viewer);
    }
    let others = phone.complaints().into_iter().filter(|one| !one.contains("status of 429"));
    assert_eq!(others.collect::<Vec<_>>(), [""; 0], "but for the votes that it has changed too fast");
}

/// docs/teaching.md, "A mystery".
#[test]
fn a_mystery_tells_its_truth_last_and_until_then_only_what_can_be_counted() {
    let Some(browser) = Browser::open(1280, 720) else { return };
    let (rehearsal, phones) = Serving::rehearse_with_vote(0, &["--mystery", "2", "--rate=100"]);
    browser.prefers("light");
    browser.go(&format!("http://{}/", rehearsal.address));
    browser.until_shows("#next", "Next: Deploy the mystery");
    browser.until_shows("#commands", "canary rehearse --mystery 2");
    assert_eq!(browser.text("#show-conditions"), "", "sliders would tell the truth");
    let before = places(&browser);
    let newest = || newest(&rehearsal);
    take(&browser, 1, "Next: Decide");
    browser.until_shows("#verdict", "Would you promote it?");
    browser.until_shows("#versions", "canary: 3 pods");
    eventually("the canary fails", || newest()["sides"]["canary"]["failure"].as_u64() > Some(20));
    shows_only_what_can_be_counted(&newest(), phones);
    assert_eq!(change(&rehearsal, &json!({"rate": 50})).status, 409);
    gives_nothing_away(&browser);
    does_not_scroll(&browser);
    keep(&browser, "mystery");
    let cookie = format!("cookie: canary-phone={:032x}\r\n", 1);
    let vote = json!({"round": 1, "choice": "roll_back"});
    assert_eq!(http_post(phones, &cookie, "/v1/vote", &vote), 200);
    browser.until_shows("#vote-count", "1 vote");

    take(&browser, 2, "Next: Ask the judge");
    browser.until_shows("#text", "The bill: by now the canary has failed ");
    let bill = browser.text("#text");
    let numbers: Vec<u64> =
        bill.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect();
    let is_counted = matches!(numbers[..], [failed, of, _, all] if failed > 20 && of > failed && all > 0);
    assert!(is_counted, "{bill}");
    gives_nothing_away(&browser);
    keep(&browser, "mystery-bill");
    eventually_within(2 * PATIENCE, "the judge has decided", || newest()["standing"] == "roll_back");
    let state = newest();
    let is_told = tells(&state, "40.9") || state["rehearsal"].to_string().contains("40.9");
    assert!(!is_told, "the truth is not in the state: {state}");

    take(&browser, 3, "Next: Tell the truth");
    browser.until_shows("#word", "Roll back");
    browser.until_shows("#class-said", "The class: 1\u{a0}roll\u{a0}back, ");
    does_not_scroll(&browser);
    keep(&browser, "mystery-judge");
    take(&browser, 4, "Next: Another mystery");
    let truth = "The truth: the canary fails 40.9 % of the requests for /account, and no others.";
    browser.until_shows("#text", truth);
    browser.press("d");
    browser.until_shows("#strata", "/account");
    browser.press(ESCAPE);
    for (width, height) in [(1920, 1080), (1280, 720)] {
        browser.resize(width, height);
        does_not_scroll(&browser);
        keep(&browser, &format!("mystery-truth-{width}"));
    }
    eventually("nothing has moved", || places(&browser) == before);

    take(&browser, 1, "Next: Decide");
    browser.until_shows("#commands", "canary rehearse --mystery 3");
    browser.until_shows("#verdict", "Would you promote it?");
    browser.until_shows("#vote-count", "0 votes");
    let steps = "[...document.querySelectorAll('#steps li')].map(one => one.ariaCurrent ?? one.className)";
    assert_eq!(browser.run(&format!("return {steps}")), json!(["step", "", "", ""]));
    let canary = || newest()["sides"]["canary"].clone();
    eventually("the second canary answers", || canary()["success"].as_u64() > Some(20));
    gives_nothing_away(&browser);
    let red = browser.count("#wall use[href='#canary-failed']");
    let late = canary()["slow"].as_u64(); // on a busy machine
    assert!(Some(red) <= late, "{red} marks of the first mystery");
    does_not_scroll(&browser);
    keep(&browser, "mystery-second");
    take(&browser, 2, "Next: Ask the judge");
    browser.until_shows("#text", "The bill: by now the canary has failed ");
    let bill = browser.text("#text");
    let of_the_first = format!("has failed {} of {} requests", numbers[0], numbers[1]);
    assert!(!bill.contains(&of_the_first), "{bill}");
    take(&browser, 3, "Next: Tell the truth");
    assert_eq!(browser.text("#class-said"), "", "nobody has voted about this one");
    take(&browser, 4, "Next: Another mystery");
    browser.until_shows("#text", "The truth: the canary is as good as stable. It never fails.");
    eventually("nothing has moved", || places(&browser) == before);
    is_without_complaints(&browser);
}

/// The state of a mystery whose canary has failed, before the truth is told.
fn shows_only_what_can_be_counted(state: &Value, phones: std::net::SocketAddr) {
    let progress = &state["rehearsal"];
    let expected = json!({
        "number": 1, "of": 4, "before": 0, "title": "Deploy the mystery", "commands": ["canary rehearse --mystery 2"],
        "text": "Is the canary good, or bad in some way? Watch its answers, and decide.", "note": progress["note"],
        "began": "", "next": "Decide", "under_way": false, "held": false, "curtain": true,
        "conditions":
            {"canary": "mystery", "share": null, "fails": 0.0, "delay_ms": 0.0, "rate": 100.0, "incident": false},
        "vote": {
            "url": format!("http://{phones}"),
            "round": {"number": 1, "open": true, "promote": 0, "wait": 0, "roll_back": 0}
        }
    });
    assert_eq!(*progress, expected, "there is no more than this");
    assert!(progress["note"].as_str().is_some_and(|note| note.ends_with(" is ready and gets connections")));
    assert_eq!(state["failing"]["last"]["body"], "{\"error\":\"something went wrong\"}");
    for pod in state["pods"].as_array().expect("pods") {
        let keys: Vec<_> = pod["labels"].as_object().expect("labels").keys().map(String::as_str).collect();
        let expected: &[_] = if pod["release"] == "canary" {
            &["canary", "pod-template-hash"]
        } else {
            &["pod-template-hash"]
        };
        assert_eq!(keys, expected, "none tells a fault");
    }
}

/// Whether a text in the state has these words. What is counted may be any number.
fn tells(state: &Value, words: &str) -> bool {
    match state {
        Value::String(text) => text.contains(words),
        Value::Array(parts) => parts.iter().any(|part| tells(part, words)),
        Value::Object(parts) => parts.iter().any(|(key, part)| key.contains(words) || tells(part, words)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The status of the answer to this body of JSON, sent with these headers.
fn http_post(to: std::net::SocketAddr, headers: &str, path: &str, body: &Value) -> u16 {
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {to}\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    testkit::http::send(to, request).expect("an answer").status
}

/// Each rule has its line with the measured figure, and the first failure was the first to speak.
fn rules_of_thumb_have_said(browser: &Browser) {
    use canary_judge::rules::{GOOD_CANARY, NAMES};
    browser.until_shows("#rules-setting", "1,000 trials of 10 min with 40 requests/s");
    let rows = browser.run(
        "return [...document.querySelectorAll('#rule-list tr')].map(row => [...row.cells].map(cell => cell.textContent))",
    );
    let rows = rows.as_array().expect("rows");
    let wrong = GOOD_CANARY.wrong.into_iter().chain([GOOD_CANARY.wrong_of_the_judge]);
    for ((row, name), wrong) in rows.iter().zip(NAMES.into_iter().chain(["The judge"])).zip(wrong) {
        assert_eq!((&row[0], &row[2]), (&json!(name), &json!(format!("{wrong}\u{a0}%"))));
    }
    let said =
        |row: usize| rows[row][1].as_str().and_then(|it| it.strip_suffix("\u{a0}s")?.parse::<f64>().ok());
    assert!(said(0).is_some() && said(0) <= said(4), "{rows:?}");
    assert_eq!(said(3), None, "four minutes are not over: {rows:?}");
}

fn are_the_pictures_in_the_documents(browser: &Browser) {
    is_a_picture_in_the_documents(browser, "page.png");
    if std::env::var_os("PAGE_PICTURE").is_none() {
        return;
    }
    browser.press("j");
    browser.until_shows("#verdict", "Would you promote it?");
    is_a_picture_in_the_documents(browser, "page-curtain.png");
    browser.press("j");
    browser.until_shows("#word", "Roll back");
}

/// Saves it under this name, if `PAGE_PICTURE` names a picture of docs/.
fn is_a_picture_in_the_documents(browser: &Browser, name: &str) {
    let picture = picture(browser);
    assert!(picture.len() < 200_000, "{} bytes", picture.len());
    if let Some(file) = std::env::var_os("PAGE_PICTURE") {
        std::fs::write(std::path::Path::new(&file).with_file_name(name), picture).expect("written");
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
