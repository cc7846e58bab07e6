"""Every shell command of the pages, and the check of each: a test that runs it, or the reason why none does.

A command of a page needs a rule in `RULES`; the first rule whose pattern matches the whole command applies.
`test_page_commands.py` fails for a command without a rule, and for a rule without a command.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.worked_examples import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SHELL = {"sh", "bash", "shell", "console"}
_PROGRAMS = (
    "curl docker export for git go java kafka-[a-z]+\\.sh kcat kind kubectl make mkdir model-training mvn node npm pip "
    "podman pytest python sandbox/bin/\\S+ source spark-submit streamer systemctl tensorflow_model_server uv"
)
_INDENTED = re.compile(rf"^(?: {{4,}})(?:\$ )?(?:[A-Z_]+=\S+ )*(?:{'|'.join(_PROGRAMS.split())}) ")
_IS_SHELL = "\0"
_COMMENT = re.compile(r"\s+# .*")


@dataclass(frozen=True, slots=True)
class Rule:
    """The check of the commands of a page.

    Attributes:
        page: path in the repository; empty for all pages.
        commands: pattern of the whole command.
        test: the test that runs them, `path::name`; empty if none does.
        reason: why no test runs them as they are written.
    """

    page: str
    commands: str
    test: str = ""
    reason: str = ""


SERVICES = "tests/docs/test_commands_with_services.py"
ALONE = "tests/docs/test_commands_alone.py"
CLUSTER = "needs a cluster; tests/deploy/test_kubernetes.py compares its names with the rendered objects"
_ENGINE = "needs a container engine and a registry of images; `make compose-test` runs the same services"
_LARGE = "needs the click log of a user, which the preparation of days of data gives"
_EXAMPLE = "shows the form of a command; its arguments are left out"
_TABLES = "needs a topic of ads; tests/end_to_end/test_table.py runs the command on one"

RULES = (
    Rule("", r"make .*", reason="people and CI run the targets; tests/docs/test_pages.py checks their names"),
    Rule("", r".*…(?s:.*)", reason=_EXAMPLE),
    Rule(
        "README.md", r".*", test="tests/docs/test_own_data.py::test_the_commands_of_the_page_lead_to_a_scored_request"
    ),
    Rule("CONTRIBUTING.md", r".*", test="tests/docs/test_contributing.py::test_a_stage"),
    Rule("docs/bring-your-own-model.md", r".*", reason="docs/tutorials/own-model.md runs these commands for its model"),
    Rule(
        "docs/capacity.md",
        r".* --workers .*",
        test="tests/benchmarks/test_simulation.py::test_the_example_of_the_page_runs",
    ),
    Rule("docs/capacity.md", r".* --quick", test=f"{ALONE}::test_commands_that_need_nothing"),
    Rule("docs/capacity.md", r".*", reason="measures or simulates for minutes, and rewrites the page"),
    Rule("docs/clients.md", r".*", test="tests/end_to_end/test_clients.py::test_a_bidder_and_a_ranker"),
    Rule("docs/deployment.md", r"(?s)docker .*", reason=_ENGINE),
    Rule(
        "docs/deployment.md",
        r"pip .*",
        reason="needs a registry of packages; tests/deploy/test_wheel.py and test_release.py install the wheels",
    ),
    Rule(
        "docs/distributed-training.md",
        r"model-training placement .*",
        test=f"{ALONE}::test_commands_that_need_nothing",
    ),
    Rule(
        "docs/distributed-training.md",
        r"(?s).*",
        reason="starts six processes with TensorFlow; tests/model_training/commands/test_launch.py starts fewer",
    ),
    Rule("docs/extensions.md", r".*", reason="tests/end_to_end/test_extension.py installs it into a folder of its own"),
    Rule("docs/features.md", r".*", reason=_LARGE),
    Rule(
        "docs/http.md",
        r"(?s).*",
        test="tests/end_to_end/test_http.py::test_a_worker_and_serve_http_give_the_answer_of_the_topic",
    ),
    Rule("docs/kubernetes.md", r"docker .*|kind .*", reason=_ENGINE),
    Rule("docs/kubernetes.md", r"(?s)(kubectl|for) .*", reason=CLUSTER),
    Rule("docs/operations.md", r".*", test=f"{SERVICES}::test_operations"),
    Rule("docs/performance.md", r".*", reason="measures for minutes; tests/benchmarks runs each scenario shortly"),
    Rule(
        "docs/publishing.md", r"python .*", reason="measures for minutes; tests/benchmarks/test_gate.py runs it shortly"
    ),
    Rule("docs/publishing.md", r".*", reason=_LARGE),
    Rule("docs/reliability.md", r".*", reason="injects faults for minutes; `make chaos-all` runs it"),
    Rule("docs/requests.md", r".*", test=f"{ALONE}::test_commands_that_need_nothing"),
    Rule("docs/serving.md", r"(?s).*", test=f"{SERVICES}::test_production"),
    Rule("docs/stand-in.md", r".* --help", test=f"{ALONE}::test_commands_that_need_nothing"),
    Rule("docs/stand-in.md", r".*model_base_path.*", test=f"{SERVICES}::test_demo"),
    Rule("docs/stand-in.md", r".*recorded.*", reason="needs the C++ server, and records it for minutes"),
    Rule("docs/tables.md", r"streamer .*", reason=_TABLES),
    Rule(
        "docs/tables.md", r"kafka-configs.*", reason="a program of Apache Kafka that the jars of the tests do not have"
    ),
    Rule("docs/training-data.md", r"(?s)kcat .*", reason="kcat and jq are programs of other projects"),
    Rule("docs/training-data.md", r".*", reason=_LARGE),
    Rule("docs/training.md", r".* --prepared .*", reason=_LARGE),
    Rule("docs/training.md", r".*", test=f"{ALONE}::test_training"),
    Rule("docs/tutorials/demo.md", r".* replay .*", reason="tests/end_to_end/test_replay.py replays both data sets"),
    Rule("docs/tutorials/demo.md", r".*", test=f"{SERVICES}::test_demo"),
    Rule(
        "docs/tutorials/own-format.md",
        r".*",
        test="tests/docs/test_commands.py::test_one_request_in_three_forms_has_the_same_features",
    ),
    Rule(
        "docs/tutorials/own-model.md",
        r".*",
        test="tests/docs/test_commands.py::test_a_foreign_model_scores_as_the_page_says",
    ),
    Rule(
        "docs/tutorials/production.md", r".* --calibrate", reason="measures for minutes, and rewrites docs/capacity.md"
    ),
    Rule("docs/tutorials/production.md", r"kubectl kustomize .*", test=f"{ALONE}::test_the_objects_are_rendered"),
    Rule("docs/tutorials/production.md", r"kubectl .*", reason=CLUSTER),
    Rule("docs/tutorials/production.md", r".*", test=f"{SERVICES}::test_production"),
)


def commands_of(text: str) -> Iterator[str]:
    """The commands of a page in their order, without comments.

    Each line of a fenced block of shell is one; of an indented block, a line that begins with a known program. A
    command goes on over lines while a quote or a loop is open, or a line ends with a backslash or a pipe.
    """
    other = _FENCE.sub(lambda found: _indented(found) if found[1] in _SHELL else "\n", text)
    lines = iter(other.splitlines())
    for line in lines:
        if not _INDENTED.match(line) and not line.startswith(_IS_SHELL):
            continue
        command = line.removeprefix(_IS_SHELL).strip().removeprefix("$ ")
        while _goes_on(command):
            command += "\n" + next(lines).removeprefix(_IS_SHELL)
        if not command.startswith("#"):
            yield "\n".join(_COMMENT.sub("", each) for each in command.splitlines())


def _indented(block: re.Match[str]) -> str:
    """A fenced block whose lines are marked as shell."""
    return "".join(f"{_IS_SHELL}{line}\n" for line in block[2].splitlines() if line.strip())


def _goes_on(command: str) -> bool:
    last = command.splitlines()[-1].rstrip()
    if last.endswith(("\\", "|", "&&")):
        return True
    try:
        words = shlex.split(command, comments=True)
    except ValueError:
        return True
    return words[:1] == ["for"] and words[-1] != "done"


def rule_of(page: Path, command: str) -> Rule | None:
    """The rule of a command; None if there is none."""
    name = str(page.relative_to(ROOT))
    return next(
        (rule for rule in RULES if rule.page in ("", name) and re.fullmatch(rule.commands, command)),
        None,
    )


def commands_for(page: str, test: str) -> list[str]:
    """The commands of a page that this test runs, in their order."""
    path = ROOT / page
    found = commands_of(path.read_text(encoding="utf-8"))
    return [command for command in found if (rule := rule_of(path, command)) is not None and rule.test == test]
