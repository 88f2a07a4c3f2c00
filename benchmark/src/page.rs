//! The page: a template with tables, and all figures as CSV.

use std::fmt::Write as _;

use canary_judge::count;

use crate::{
    figures::{Figures, interval},
    rule::{self, Entry},
    rules::ALPHA,
    run::{Results, Table},
    world::{Truth, World},
};

const TEMPLATE: &str = include_str!("../page.md");

/// `docs/benchmark.md`.
pub fn markdown(worlds: &[World], table: &Table, runs: usize) -> String {
    let rules: String =
        rule::ALL.iter().map(|rule| format!("- **{}.** {}\n", rule.name, rule.description)).collect();
    let of = |truths: &'static [Truth]| {
        worlds.iter().zip(table).filter(move |(world, _)| truths.contains(&world.truth)).collect::<Vec<_>>()
    };
    let (alike, worse, not_alike) =
        (of(&[Truth::Alike]), of(&[Truth::Worse]), of(&[Truth::Worse, Truth::Between]));
    let share = |of: fn(&Figures) -> usize| {
        move |figures: &Figures| percent(of(figures) as f64 / figures.runs as f64)
    };
    let until = |requests: Option<u64>| requests.map_or_else(|| "–".to_owned(), count);
    [
        ("{{runs}}", count(runs as u64)),
        ("{{rules}}", rules.trim_end().to_owned()),
        ("{{glance}}", glance(worlds, table)),
        ("{{false-roll-backs}}", grid(&alike, share(|figures| figures.wrong))),
        ("{{good-promoted}}", grid(&alike, share(|figures| figures.promoted))),
        ("{{rolled-back}}", grid(&not_alike, share(|figures| figures.rolled_back))),
        ("{{wrong-promotions}}", grid(&worse, share(|figures| figures.wrong))),
        ("{{open}}", grid(&of(&[Truth::Alike, Truth::Worse, Truth::Between]), share(Figures::open))),
        (
            "{{requests}}",
            grid(&not_alike, |figures| {
                format!("{} ({})", until(figures.requests_until(0.5)), until(figures.requests_until(0.95)))
            }),
        ),
        (
            "{{failed}}",
            grid(&not_alike, |figures| {
                format!("{} ({})", until(figures.failed_until(0.5)), until(figures.failed_until(0.95)))
            }),
        ),
    ]
    .into_iter()
    .fold(TEMPLATE.to_owned(), |page, (place, text)| {
        assert!(page.contains(place), "page.md has no {place}");
        page.replace(place, &text)
    })
}

/// A table with a row for each world and a column for each rule.
fn grid(rows: &[(&World, &Vec<Option<Results>>)], cell: impl Fn(&Figures) -> String) -> String {
    let mut text = format!(
        "| | {} |\n|---|{}",
        rule_names().collect::<Vec<_>>().join(" | "),
        "---|".repeat(rule::ALL.len())
    );
    for (world, results) in rows {
        let cells = results.iter().map(|results| {
            results
                .as_ref()
                .map_or_else(|| "·".to_owned(), |results| cell(&Figures::new(world.truth, results)))
        });
        let cells: Vec<_> = cells.collect();
        write!(text, "\n| {} | {} |", world.name, cells.join(" | ")).expect("a String takes all");
    }
    text
}

fn rule_names() -> impl Iterator<Item = &'static str> {
    rule::ALL.iter().map(|Entry { name, .. }| *name)
}

/// A row for each rule: in how many worlds it errs more than α, and in how many it finds the bad canary.
fn glance(worlds: &[World], table: &Table) -> String {
    let mut text = "| rule | good canaries: worlds with clearly more than 5 % false roll-backs | bad canaries: worlds with clearly \
                    more than 5 % wrong promotions | bad canaries: worlds in which 95 % of runs roll back |\n|---|---|---|---|"
        .to_owned();
    for (index, entry) in rule::ALL.iter().enumerate() {
        let with = |truth: Truth, is_so: fn(&Figures) -> bool| {
            let of_truth = worlds.iter().zip(table).filter(|(world, _)| world.truth == truth);
            let figures: Vec<_> = of_truth
                .filter_map(|(_, results)| {
                    results[index].as_ref().map(|results| Figures::new(truth, results))
                })
                .collect();
            match figures.len() {
                0 => "·".to_owned(),
                all => format!("{} of {all}", figures.iter().filter(|figures| is_so(figures)).count()),
            }
        };
        let errs = |figures: &Figures| interval(figures.wrong, figures.runs).0 > ALPHA;
        let finds = |figures: &Figures| figures.rolled_back as f64 >= (1.0 - ALPHA) * figures.runs as f64;
        let (false_roll_backs, wrong_promotions) = (with(Truth::Alike, errs), with(Truth::Worse, errs));
        let found = with(Truth::Worse, finds);
        write!(text, "\n| {} | {false_roll_backs} | {wrong_promotions} | {found} |", entry.name)
            .expect("a String takes all");
    }
    text
}

/// A share of all runs.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share).replace(".0 %", " %")
}

/// `docs/benchmark.csv`: every figure, with the 95 % intervals of both shares.
pub fn csv(worlds: &[World], table: &Table) -> String {
    let mut text = "world,truth,rule,runs,rolled_back,rolled_back_from,rolled_back_to,promoted,promoted_from,promoted_to,\
                    open,right_requests_50,right_requests_95,right_failed_50,right_failed_95\n"
        .to_owned();
    for (world, results) in worlds.iter().zip(table) {
        for (name, results) in rule_names().zip(results) {
            let Some(results) = results else { continue };
            let figures = Figures::new(world.truth, results);
            let share = |count: usize| {
                let (from, to) = interval(count, figures.runs);
                format!("{count},{from:.4},{to:.4}")
            };
            let quantile = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
            writeln!(
                text,
                "\"{}\",{},\"{name}\",{},{},{},{},{},{},{},{}",
                world.name,
                format!("{:?}", world.truth).to_lowercase(),
                figures.runs,
                share(figures.rolled_back),
                share(figures.promoted),
                figures.open(),
                quantile(figures.requests_until(0.5)),
                quantile(figures.requests_until(0.95)),
                quantile(figures.failed_until(0.5)),
                quantile(figures.failed_until(0.95)),
            )
            .expect("a String takes all");
        }
    }
    text
}
