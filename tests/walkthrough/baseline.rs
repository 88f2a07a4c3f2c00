//! Measures what each section of docs/baseline.md says.

use crate::{
    Outcome,
    chapter::Chapter,
    measure::{Cluster, Load, Tally, ask, eventually},
    sections::{Section, address_of_service, ensure, load_images, no_preparation},
    shell::Shell,
    traces::Traces,
};

pub(crate) const BASELINE: Chapter =
    Chapter { file: "docs/baseline.md", folders: &[FOLDER], missing: || Ok(None), sections: SECTIONS };

const FOLDER: &str = "deployment/baseline";

const SECTIONS: &[Section] = &[
    Section { title: "Create both", prepare: load_images, check: three_releases_answer },
    Section { title: "Judge it beside stable", prepare: no_preparation, check: it_is_rolled_back },
    Section {
        title: "Judge it beside the baseline",
        prepare: no_preparation,
        check: it_is_held_and_promoted,
    },
    Section { title: "Remove everything", prepare: no_preparation, check: nothing_is_left },
];

/// The number of requests for measuring shares. A fifth of them has a standard deviation of √(1,000 · 1/5 · 4/5) = 13.
const SAMPLE: usize = 1000;
const FIFTH: std::ops::RangeInclusive<usize> = 137..=263;

fn three_releases_answer(cluster: &Cluster, _: &mut Shell, _: Option<Load>) -> Outcome {
    let address = address_of_service(cluster)?;
    let mut tally = Tally::default();
    let of = |tally: &Tally, release| tally.of(release, 200) + tally.of(release, 500);
    let all_are_asked = |tally: &Tally| {
        let new = ["canary", "baseline"].map(|release| of(tally, release));
        let fail = ["canary", "baseline"].iter().all(|release| tally.of(release, 500) > 0);
        fail && new.iter().all(|count| FIFTH.contains(count))
            && new.iter().sum::<usize>() + tally.of("stable", 200) == SAMPLE
    };
    let asked = eventually("the Service sends requests to all pods", || {
        tally = ask(address, SAMPLE);
        Ok(all_are_asked(&tally))
    });
    let wanted = format!("{FIFTH:?} from each new pod, with failures of both");
    asked.map_err(|error| format!("{error}: wanted {wanted}, saw {}", tally.summary()))?;
    Ok(tally.summary())
}

fn exits(shell: &mut Shell, variable: &str, wanted: &str) -> Outcome {
    let code = shell.variable(variable)?;
    ensure(code == wanted, &format!("exit code {wanted}"), || code.clone())?;
    Ok(format!("exit code {code}"))
}

fn it_is_rolled_back(_: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    exits(shell, "BESIDE_STABLE", "1")
}

fn it_is_held_and_promoted(_: &Cluster, shell: &mut Shell, _: Option<Load>) -> Outcome {
    let cold = exits(shell, "BESIDE_BASELINE", "7")?;
    let warm = exits(shell, "WARM_BOTH", "0")?;
    Ok(format!("{cold} while both fail, {warm} when they do not"))
}

fn nothing_is_left(cluster: &Cluster, _: &mut Shell, _: Option<Load>) -> Outcome {
    Traces::of(cluster, [FOLDER]).gone()?;
    Ok("no Deployment, Service or pod".to_owned())
}
