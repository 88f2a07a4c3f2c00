//! The votes of a round. They are in memory alone, and without names.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use ring::rand::{SystemRandom, generate};
use serde::{Deserialize, Serialize};

use crate::view::page::Round;

/// The maximum number of phones that vote in a round.
pub(super) const MOST_VOTERS: usize = 200;
/// How many of them may have the same address. It is more than one, because a person may open the page in a second browser,
/// and few, so that one person with a script does not decide the vote.
pub(super) const MOST_OF_AN_ADDRESS: usize = 3;
/// The minimum time between two votes of a phone.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a phone may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Choice {
    Promote,
    Wait,
    RollBack,
}

/// A phone's name: a random number that its browser keeps as a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Phone(u128);

impl Phone {
    /// A new name; `None` if the system has no random numbers.
    pub(super) fn new() -> Option<Self> {
        let bytes = generate::<[u8; 16]>(&SystemRandom::new()).ok()?;
        Some(Self(u128::from_be_bytes(bytes.expose())))
    }

    /// The name in this text of 32 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_name = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_name.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }

    pub(super) fn text(self) -> String {
        format!("{:032x}", self.0)
    }
}

/// Why a vote does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotCounted {
    #[error("there is no vote at the moment: wait for the teacher's next question")]
    Closed,
    #[error("this vote is for round {wanted}, which is over: it is round {round} now")]
    OtherRound { wanted: u32, round: u32 },
    #[error("{MOST_VOTERS} phones have voted in this round, and no more are counted")]
    Full,
    #[error(
        "{MOST_OF_AN_ADDRESS} phones at your address {0} have voted in this round, and no more are counted from there"
    )]
    FullAddress(IpAddr),
    #[error("wait a second before you change your vote again")]
    TooSoon,
}

/// Whether votes are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// No round has begun since the last step.
    #[default]
    Before,
    Open,
    /// The judge has been shown, so the votes stay as they are.
    Closed,
}

#[derive(Clone, Copy, Debug)]
struct Ballot {
    choice: Choice,
    from: IpAddr,
    at: Instant,
}

/// The votes of the current round, or of the last one.
#[derive(Debug, Default)]
pub(in crate::serve) struct Ballots {
    /// The number of the round, from 1.
    round: u32,
    phase: Phase,
    of: HashMap<Phone, Ballot>,
}

impl Ballots {
    /// Begins a round, without votes.
    pub(in crate::serve) fn begin(&mut self) {
        (self.round, self.phase) = (self.round.saturating_add(1), Phase::Open);
        self.of.clear();
    }

    /// Ends the round. Its votes stay until another one begins.
    pub(in crate::serve) fn close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closed;
        }
    }

    /// Forgets the round, because what it was about is over.
    pub(in crate::serve) fn forget(&mut self) {
        self.phase = Phase::Before;
        self.of.clear();
    }

    /// Counts a phone's vote, instead of its earlier one in this round.
    pub(super) fn cast(
        &mut self,
        (phone, from): (Phone, IpAddr),
        (wanted, choice): (u32, Choice),
        now: Instant,
    ) -> Result<(), NotCounted> {
        if self.phase != Phase::Open {
            return Err(NotCounted::Closed);
        }
        if wanted != self.round {
            return Err(NotCounted::OtherRound { wanted, round: self.round });
        }
        match self.of.get(&phone) {
            Some(ballot) if ballot.choice == choice => return Ok(()), // a double tap
            Some(ballot) if now.saturating_duration_since(ballot.at) < AGAIN_AFTER => {
                return Err(NotCounted::TooSoon);
            }
            None if self.of.len() >= MOST_VOTERS => return Err(NotCounted::Full),
            // all phones behind a proxy or a tunnel on this machine have its own address
            None if !from.is_loopback() => {
                let same = self.of.values().filter(|ballot| ballot.from == from).count();
                if same >= MOST_OF_AN_ADDRESS {
                    return Err(NotCounted::FullAddress(from));
                }
            }
            Some(_) | None => {}
        }
        self.of.insert(phone, Ballot { choice, from, at: now });
        Ok(())
    }

    /// The number of the round in which votes are counted now.
    pub(super) fn open_round(&self) -> Option<u32> {
        (self.phase == Phase::Open).then_some(self.round)
    }

    /// What this phone has voted in the current or last round.
    pub(super) fn of_phone(&self, phone: Phone) -> Option<Choice> {
        self.of.get(&phone).map(|ballot| ballot.choice)
    }

    /// The sums, without a word about who voted.
    pub(in crate::serve) fn shown(&self) -> Option<Round> {
        let votes = |choice| self.of.values().filter(|ballot| ballot.choice == choice).count();
        (self.phase != Phase::Before).then(|| Round {
            number: self.round,
            open: self.phase == Phase::Open,
            promote: votes(Choice::Promote),
            wait: votes(Choice::Wait),
            roll_back: votes(Choice::RollBack),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice::*, *};

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    /// The votes for promote, wait and roll back.
    fn sums(ballots: &Ballots) -> Option<[usize; 3]> {
        ballots.shown().map(|round| [round.promote, round.wait, round.roll_back])
    }

    #[test]
    fn a_phone_has_one_vote_a_round_and_may_change_it_once_a_second() {
        let (mut ballots, now) = (Ballots::default(), Instant::now());
        let phone = (Phone(1), address(1));
        assert_eq!(ballots.cast(phone, (0, Wait), now), Err(NotCounted::Closed), "before the first round");
        ballots.begin();
        assert_eq!(ballots.cast(phone, (1, Wait), now), Ok(()));
        assert_eq!(ballots.cast(phone, (1, Wait), now), Ok(()), "a double tap");
        assert_eq!(sums(&ballots), Some([0, 1, 0]));
        assert_eq!(ballots.cast(phone, (1, Promote), now), Err(NotCounted::TooSoon));
        assert_eq!(ballots.cast(phone, (1, Promote), now + AGAIN_AFTER), Ok(()));
        assert_eq!((sums(&ballots), ballots.of_phone(phone.0)), (Some([1, 0, 0]), Some(Promote)));
        ballots.close();
        assert_eq!(ballots.cast(phone, (1, RollBack), now + 9 * AGAIN_AFTER), Err(NotCounted::Closed));
        assert_eq!(sums(&ballots), Some([1, 0, 0]), "what was voted stays");
        ballots.begin();
        assert_eq!((sums(&ballots), ballots.of_phone(phone.0)), (Some([0, 0, 0]), None));
        let late = ballots.cast(phone, (1, Wait), now);
        assert_eq!(late, Err(NotCounted::OtherRound { wanted: 1, round: 2 }), "a tap for the round before");
        ballots.forget();
        assert_eq!((sums(&ballots), ballots.open_round()), (None, None));
        ballots.close();
        assert_eq!(sums(&ballots), None, "there is nothing to close");
    }

    #[test]
    fn two_hundred_phones_vote_and_the_next_one_is_told_so() {
        let (mut ballots, now) = (Ballots::default(), Instant::now());
        ballots.begin();
        for number in 0..200 {
            assert_eq!(ballots.cast((Phone(number.into()), address(number)), (1, Wait), now), Ok(()));
        }
        let next = (Phone(200), address(200));
        assert_eq!(ballots.cast(next, (1, Promote), now), Err(NotCounted::Full));
        let again = ballots.cast((Phone(7), address(7)), (1, Promote), now + AGAIN_AFTER);
        assert_eq!((again, sums(&ballots)), (Ok(()), Some([1, 199, 0])), "who has voted may still change it");
        ballots.begin();
        assert_eq!(ballots.cast(next, (2, Promote), now), Ok(()), "a new round has room for all");
    }

    #[test]
    fn thirty_made_up_phones_at_one_address_have_three_votes() {
        let (mut ballots, now) = (Ballots::default(), Instant::now());
        ballots.begin();
        let cheat = |ballots: &mut Ballots, from| {
            let cast = (0..30).map(|number| ballots.cast((Phone(number), from), (1, RollBack), now));
            cast.flatten().count()
        };
        assert_eq!(cheat(&mut ballots, address(1)), 3);
        assert_eq!(ballots.cast((Phone(99), address(2)), (1, Wait), now), Ok(()), "others still vote");
        let refused = ballots.cast((Phone(98), address(1)), (1, Wait), now);
        assert_eq!(refused, Err(NotCounted::FullAddress(address(1))));
        ballots.begin();
        let tunnel = IpAddr::from([127, 0, 0, 1]);
        let cast = (0..30).map(|number| ballots.cast((Phone(number), tunnel), (2, Wait), now));
        assert!(
            cast.collect::<Vec<_>>().iter().all(Result::is_ok),
            "a class behind a tunnel on this machine"
        );
    }

    #[test]
    fn a_phones_name_is_32_hexadecimal_digits() {
        let phone = Phone::new().expect("random numbers");
        assert_eq!(Phone::parse(&phone.text()), Some(phone));
        assert_ne!(Phone::new(), Some(phone));
        for bad in ["", "1", &"g".repeat(32), "+0000000000000000000000000000001", &"0".repeat(33)] {
            assert_eq!(Phone::parse(bad), None, "{bad}");
        }
    }
}
