"""Finds what the installed packages lack. Pure."""

from streamer.diagnosis.findings import Finding


def native_finding(state: str, *, is_used: bool) -> Finding | None:
    """Advice where the hot loops run in Python; `state` says why."""
    if is_used:
        return None
    return Finding(
        "advice",
        "this installation",
        f"encoding runs in pure Python and takes more CPU: ctr-streamer-native is {state}",
        "install the extra: pip install 'ctr-streamer[native]'"
        if state == "not installed"
        else "correct what it names, if that is not intended",
    )
