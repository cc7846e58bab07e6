"""Checks of the subjects of a schema registry."""

from collections.abc import Iterator, Mapping

from streamer.diagnosis.facts import SubjectFacts
from streamer.diagnosis.findings import Finding


def registry_findings(subjects: Mapping[str, SubjectFacts]) -> Iterator[Finding]:
    """The findings; an error ends the next start of a scorer. `subjects`: by name."""
    for name, found in subjects.items():
        subject = f"schema registry, subject {name}"
        if found.version is None:
            if not found.is_registered_later:
                remedy = "register ctr.proto there, or set registry.register_answers"
                yield Finding("error", subject, "it is not registered: binary answers have no schema", remedy)
        elif found.fault is not None:
            remedy = "register a version that fits: ctr.proto with fields of your own added"
            yield Finding("error", subject, f"version {found.version} does not fit: {found.fault}", remedy)
