"""The versions of a model and their roles, for operators and for other processes. Pure."""

from collections.abc import Mapping

from streamer.rollout.state import State


def described(state: State, label: str | None, bad: Mapping[int, str], now: float) -> dict[str, object]:
    """The fields that `/model` shows; `streamer.rollout.orders` reads the orders from them."""
    incoming, canary, shadow = state.incoming, state.canary, state.shadow
    return {
        "model": state.model,
        "label": label,
        "serving": state.serving,
        "incoming": incoming and {"version": incoming.version, "share": round(incoming.users.share(now), 4)},
        "previous": state.previous,
        "canary": canary and {"version": canary.asked, "share": canary.share},
        "shadow": shadow and {"version": shadow.version, "share": shadow.users.fixed},
        "pinned": state.pinned,
        "rolled_back": sorted(state.rejected),
        "bad": {str(version): reason for version, reason in sorted(bad.items())},
    }
