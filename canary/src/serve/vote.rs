//! The vote of a class in a rehearsal: what phones say about the canary while the judge is hidden.
//!
//! Phones have a port of their own, with these routes alone. So whoever is in the room's network can vote, and nothing else.
//! `ballots`: the votes, and which of them count.

mod ballots;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{ConnectInfo, State},
    http::{
        HeaderMap, Method, StatusCode, Uri,
        header::{CONTENT_TYPE, COOKIE, SET_COOKIE},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};

pub(super) use self::ballots::Ballots;
use self::ballots::{Choice, NotCounted, Phone};
use super::{
    Serve,
    access::{Refusal, json},
    input::read_json,
    pace::{Paces, in_turn},
    rehearsal::Rehearsal,
    routes::{guard, method_not_allowed},
};
use crate::view::{page, qr_code};
use canary_judge::{Counts, Release};

/// The cookie with a phone's name.
const COOKIE_NAME: &str = "canary-phone";

/// A vote: where phones find it, and the ballots.
#[derive(Debug)]
pub(super) struct Vote {
    /// A picture of the address, for cameras.
    code: String,
    ballots: Mutex<Ballots>,
}

impl Vote {
    /// A vote at this URL.
    pub(super) fn new(url: &str) -> Self {
        Self { code: qr_code::svg(url), ballots: Mutex::default() }
    }

    pub(super) fn ballots(&self) -> MutexGuard<'_, Ballots> {
        self.ballots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<NotCounted> for Refusal {
    fn from(why: NotCounted) -> Self {
        let status = match why {
            NotCounted::Closed | NotCounted::OtherRound { .. } => StatusCode::CONFLICT,
            NotCounted::Full | NotCounted::FullAddress(_) => StatusCode::FORBIDDEN,
            NotCounted::TooSoon => StatusCode::TOO_MANY_REQUESTS,
        };
        Self::new(status, why.to_string())
    }
}

/// All routes for phones.
pub(super) fn router(serve: Arc<Serve>) -> Router {
    Router::new()
        .route("/v1/vote", get(question).post(cast))
        .fallback(file)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&serve), guard))
        .layer(middleware::from_fn_with_state(Arc::<Paces>::default(), in_turn))
        .with_state(serve)
}

/// What a phone is asked. It has no word of the judge.
#[derive(Debug, Serialize)]
struct Question {
    /// The number of the round; null while none is open.
    round: Option<u32>,
    /// The number of the step, as the page shows it, and its title.
    step: usize,
    title: &'static str,
    /// The answers of the canary so far.
    canary: Counts,
    /// The vote of this phone.
    yours: Option<Choice>,
}

/// The body of `POST /v1/vote`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cast {
    /// The number of the round, so that a late tap does not count for the next one.
    round: u32,
    choice: Choice,
}

/// `GET /v1/vote`.
async fn question(State(serve): State<Arc<Serve>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let (rehearsal, vote) = serve.vote()?;
    Ok(json(&serve.question(rehearsal, vote, phone(&headers))))
}

/// `POST /v1/vote`.
async fn cast(
    State(serve): State<Arc<Serve>>,
    remote: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (rehearsal, vote) = serve.vote()?;
    let Cast { round, choice } = read_json(&headers, body).await?;
    let (Some(phone), Some(remote)) = (phone(&headers), remote) else {
        let error = "your browser has kept no cookie: allow cookies, and load the page again";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, error));
    };
    let from = remote.0.0.ip();
    let mut counted = Ok(());
    rehearsal.change_with_ballots(|_, ballots| {
        counted = ballots.cast((phone, from), (round, choice), Instant::now());
    });
    counted?;
    Ok(json(&serve.question(rehearsal, vote, Some(phone))))
}

/// The files of the phones' page. With the page itself, a phone gets its name.
async fn file(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Some((kind, bytes)) = page::asset_for_phones(uri.path()) else {
        return Refusal::new(StatusCode::NOT_FOUND, "not found").into_response();
    };
    if method != Method::GET && method != Method::HEAD {
        return method_not_allowed().await.into_response();
    }
    let answer = ([(CONTENT_TYPE, kind)], bytes);
    let is_new = uri.path() == "/" && phone(&headers).is_none();
    match is_new.then(Phone::new).flatten() {
        // without a time, so the phone forgets it with its browser
        Some(new) => {
            let cookie = format!("{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Lax", new.text());
            ([(SET_COOKIE, cookie)], answer).into_response()
        }
        None => answer.into_response(),
    }
}

/// `GET /v1/vote.svg`, on the page's port: a picture of the phones' address.
pub(super) async fn code(State(serve): State<Arc<Serve>>) -> Result<Response, Refusal> {
    let (_, vote) = serve.vote()?;
    Ok(([(CONTENT_TYPE, "image/svg+xml")], vote.code.clone()).into_response())
}

/// The name in the cookie.
fn phone(headers: &HeaderMap) -> Option<Phone> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|header| header.to_str().ok());
    let mut pairs =
        cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| Phone::parse(value).filter(|_| name == COOKIE_NAME))
}

impl Serve {
    fn vote(&self) -> Result<(&Rehearsal, &Vote), Refusal> {
        let rehearsal = self.rehearsal()?;
        let no_vote = || Refusal::new(StatusCode::NOT_FOUND, "there is no vote: this is not rehearse --vote");
        rehearsal.vote().map(|vote| (rehearsal, vote)).ok_or_else(no_vote)
    }

    fn question(&self, rehearsal: &Rehearsal, vote: &Vote, phone: Option<Phone>) -> Question {
        let canary = {
            let trials = self.trials();
            trials.current(Instant::now()).one.trial().tally().of_release(Release::Canary)
        };
        let (step, title) = {
            let progress = rehearsal.progress();
            let progress = progress.borrow();
            (progress.number - progress.before, progress.title)
        };
        let ballots = vote.ballots();
        Question {
            round: ballots.open_round(),
            step,
            title,
            canary,
            yours: phone.and_then(|phone| ballots.of_phone(phone)),
        }
    }
}
