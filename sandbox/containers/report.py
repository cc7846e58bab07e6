"""The table at the end, and the same figures as JSON."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from sandbox.containers.checks import Check
from sandbox.containers.images import Image
from sandbox.containers.plan import Service
from sandbox.containers.project import Measured

_MB = 1e6


def table(
    services: Mapping[str, Service],
    images: Mapping[str, Image],
    measured: Mapping[str, Measured],
    checks: Sequence[Check],
) -> Table:
    """One row for each service of the file, also for those that did not run."""
    result = Table(title="containers")
    for title in ("service", "image", "start s", "healthy s", "memory MB", "recovered s", "stop s", "checks"):
        result.add_column(title, justify="left" if title in {"service", "image", "checks"} else "right")
    for name, service in services.items():
        if service.image not in images:
            result.add_row(name, service.image, *[""] * 5, "not run: no image")
            continue
        image, found = images[service.image], measured.get(name, Measured())
        result.add_row(
            name,
            service.image + (f" (stand-in: {image.stand_in})" if image.stand_in else ""),
            _seconds(found.start_s),
            _seconds(found.healthy_s),
            "" if found.memory is None else f"{found.memory / _MB:.0f} of {service.memory / _MB:.0f}",
            _seconds(found.recovered_s),
            "" if found.stop_s is None else f"{found.stop_s:.1f} of {service.grace_s:.0f}",
            _summary([check for check in checks if check.service == name]),
        )
    for name in dict.fromkeys(check.service for check in checks if check.service not in services):
        result.add_row(name, *[""] * 6, _summary([check for check in checks if check.service == name]))
    return result


def _summary(checks: Sequence[Check]) -> str:
    failed = [f"{check.name}: {check.fault}" for check in checks if check.fault]
    return "\n".join(failed) if failed else f"{len(checks)} ok"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
