"""The measured tables of `docs/performance.md`, from the files of the scenarios. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.bounds import Values, verdicts

MARKS = BEGIN, END = "<!-- made by `make plots`: begin -->", "<!-- made by `make plots`: end -->"
Scenarios = Mapping[str, Mapping[str, object]]
"""The contents of the files by scenario."""
_LAYOUTS = ("rows", "columns")
_PROGRAMS = {"naive": "naive", "floor": "floor", "scorer": "scorer", "scorer_python": "scorer, Python only"}
_PROCESSES = {"model_server": "model server", "broker": "broker", "bidder_and_ranker": "bidder and ranker"}


def section(scenarios: Scenarios, pictures: Mapping[str, str]) -> str:
    """All tables whose scenario was measured, and their pictures.

    Args:
        pictures: title of each picture by its name, in `images/`.
    """
    measured = {name: values(content) for name, content in scenarios.items()}
    parts = [_machine(scenarios, measured), "\n".join(_bounds(measured))]
    parts += ["\n".join(part(measured)) for part in (_capacity, _by_id, _latency, _stages, _peers, _sweep)]
    parts += [f"![{title}](images/{name}.png)" for name, title in pictures.items()]
    return "\n\n".join(part for part in parts if part)


def values(content: Mapping[str, object]) -> Values:
    """The figures of a file, without those that were not measured."""
    figures = content["figures"]
    assert isinstance(figures, Mapping)
    return {name: float(figure["value"]) for name, figure in figures.items() if figure["value"] is not None}


def _machine(scenarios: Scenarios, measured: Mapping[str, Values]) -> str:
    content = next(iter(scenarios.values()), None)
    if content is None:
        return ""
    machine, found = content["machine"], measured.get("machine", {})
    assert isinstance(machine, Mapping)
    text = f"{machine['cores']} cores, {machine['processor']}, Python {machine['python']}, {machine['system']}."
    if "machine" in scenarios:
        settings = scenarios["machine"]["settings"]
        assert isinstance(settings, Mapping)
        text += f" Model server: {settings['model_server']}."
        text += (
            f" The fixed loop took {found['loop_before']:.1f} ms before and {found['loop_after']:.1f} ms after the run."
        )
        overridden = ", ".join(f"`{name}` = {value}" for name, value in settings["overridden"].items())
        text += f" The demo's settings, with {overridden}."
    return text


def _bounds(measured: Mapping[str, Values]) -> Iterator[str]:
    yield from _head("figure", "value", "bound", "verdict")
    for line in verdicts(measured):
        yield f"| {line.label} | {line.value} | {line.bound} | {line.verdict} |"


def _capacity(measured: Mapping[str, Values]) -> Iterator[str]:
    found = measured.get("throughput")
    if found is None:
        return
    runs = [(f"{layout}_{name}", f"{label} | {layout}") for layout in _LAYOUTS for name, label in _PROGRAMS.items()]
    yield from _programs(found, "candidates", [(at, label) for at, label in runs if f"{at}_rate" in found])


def _by_id(measured: Mapping[str, Values]) -> Iterator[str]:
    found = measured.get("tables")
    if found is None:
        return
    runs = []
    for at in (name.removesuffix("_rate") for name in found if name.endswith("_rate")):
        by = "rows" if at.endswith("_rows") else "100 ids" if at.startswith("hundred_") else "ids"
        name = at.removesuffix("_rows").removeprefix("hundred_").replace("_", " ")
        runs.append((at, f"{name} | {by}"))
    yield from _programs(found, "candidates by", runs)


def _programs(found: Values, form: str, runs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The programs of a scenario: prefix of their figures, and first cells of their lines."""
    others = [name for name in _PROCESSES if f"{runs[0][0]}_{name}_cpu" in found] if runs else []
    yield from _head(
        "program", form, "requests/s", "CPU per request, ms", *(f"{_PROCESSES[o]}, ms" for o in others), "MB"
    )
    for at, label in runs:
        cpu = [f"{found[f'{at}_{other}_cpu']:.2f}" for other in others]
        cells = [f"{found[f'{at}_rate']:.0f}", f"{found[f'{at}_cpu']:.2f}", *cpu, f"{found[f'{at}_resident']:.0f}"]
        yield f"| {label} | {' | '.join(cells)} |"


def _latency(measured: Mapping[str, Values]) -> Iterator[str]:
    found = measured.get("latency")
    if found is None:
        return
    times = ("p50", "p99", "p999")
    yield from _head(
        "program",
        "priority",
        "scoring p50, p99, p99.9, ms",
        "end to end p50, p99, p99.9, ms",
        "CPU per request, ms",
        *(f"{name}, ms" for name in _PROCESSES.values()),
    )
    for how in ("ahead", "equals"):
        for name in ("floor", "scorer"):
            at = f"{how}_{name}"
            scoring, whole = (
                ", ".join(f"{found[f'{at}_{kind}{time}']:.1f}" for time in times) for kind in ("", "end_to_end_")
            )
            cpu = [f"{found[f'{at}_{process}_cpu']:.2f}" for process in ("program", *_PROCESSES)]
            yield f"| {name} | {how} | {scoring} | {whole} | {' | '.join(cpu)} |"


def _stages(measured: Mapping[str, Values]) -> Iterator[str]:
    found = measured.get("stages")
    if found is None:
        return
    layouts = dict.fromkeys(name.partition(", ")[0] for name in found)
    names = dict.fromkeys(name.partition(", ")[2] for name in found)
    yield from _head("stage of the scorer", *(f"µs per 300 candidates, {layout}" for layout in layouts))
    for name in names:
        cells = [f"{found.get(f'{layout}, {name}', 0.0):.0f}" for layout in layouts]
        label = {"sum": "**sum**", "whole": "**whole**, without the sampler"}.get(name, name)
        yield f"| {label} | {' | '.join(cells)} |"


def _peers(measured: Mapping[str, Values]) -> Iterator[str]:
    found = measured.get("peers")
    if found is None:
        return
    yield from _head("program", "requests/s", "CPU per request, ms", "over the scorer's CPU", "MB")
    for name in (name.removesuffix("_rate") for name in found if name.endswith("_rate")):
        over = found.get(f"{name}_cpu_over_scorer", 1.0)
        cpu, resident = found[f"{name}_cpu_per_request"], found[f"{name}_resident"]
        yield f"| {name.replace('_', ' ')} | {found[f'{name}_rate']:.0f} | {cpu:.2f} | {over:.2f} | {resident:.0f} |"


def _sweep(measured: Mapping[str, Values]) -> Iterator[str]:
    found = measured.get("sweep")
    if found is None:
        return
    yield from _head("candidates per request", "requests/s", "CPU per request, ms", "per candidate, µs")
    for size in (name.removeprefix("rate_") for name in found if name.startswith("rate_")):
        cells = [found[f"{name}_{size}"] for name in ("rate", "cpu_per_request", "cpu_per_candidate")]
        yield f"| {size} | {cells[0]:.0f} | {cells[1]:.2f} | {cells[2]:.1f} |"


def _head(*names: str) -> Sequence[str]:
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
