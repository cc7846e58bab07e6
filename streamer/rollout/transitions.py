"""The transition table of a model's versions: which kind of state may follow which. Pure."""

from collections.abc import Mapping
from enum import Flag, auto

from streamer.rollout import events


class Kind(Flag):
    """The kinds of states; except in `NOTHING`, there may be a previous and a shadow version."""

    NOTHING = auto()  # no version serves yet
    STABLE = auto()  # one version serves all users
    RAMPING = auto()  # users move from the serving to the incoming version
    CANARY = auto()  # the incoming version has a fixed share of the users


class TransitionError(LookupError):
    """An event that is not possible in this state. Next: reject the order."""


NO, N, S, R, C = Kind(0), Kind.NOTHING, Kind.STABLE, Kind.RAMPING, Kind.CANARY

# The kinds that may follow; `NO`: the event is not possible. `Prepared` has the row of its cause.
TRANSITIONS: Mapping[type[events.Event], tuple[Kind, Kind, Kind, Kind]] = {
    # event               NOTHING  STABLE   RAMPING    CANARY
    events.Available:    (N,       S,       S | R,     S | C),      # a vanished incoming version loses its users
    events.Tick:         (N | S,   S | R,   S | R,     S | R | C),  # the wanted version gets users, or all users
    events.FollowCanary: (NO,      S | C,   R,         S | C),      # the canary gets its share, except during a ramp
    events.Pin:          (N | S,   S,       S | R,     S | C),      # ends a rollout as soon as the version is prepared
    events.Canary:       (NO,      S | C,   S | R | C, S | C),
    events.Shadow:       (NO,      S,       R,         C),
    events.Adopt:        (N | S,   S,       S | R,     S | C),      # ends a rollout, as Pin does
    events.Unpin:        (N,       S,       R,         S),
    events.RollBack:     (NO,      S,       S,         S),          # in STABLE only with an available previous version
    events.Failed:       (N,       S,       R,         C),
    events.JudgedBad:    (NO,      S,       S | R,     S | C),      # only a verdict on the latest version counts
}  # fmt: skip
