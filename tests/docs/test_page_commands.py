"""A test runs each shell command of the pages, or a rule says why none does."""

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.docs.page_commands import CLUSTER, PAGES, RULES, Rule, commands_for, commands_of, rule_of
from tests.docs.worked_examples import ROOT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_command_has_a_rule(page: Path) -> None:
    found = commands_of(page.read_text(encoding="utf-8"))
    assert [command for command in found if rule_of(page, command) is None] == []


def test_each_rule_has_a_command() -> None:
    used = {rule_of(page, command) for page in PAGES for command in commands_of(page.read_text(encoding="utf-8"))}
    assert [rule for rule in RULES if rule not in used] == []


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.page}: {rule.commands}")
def test_a_rule_names_a_test_or_a_reason(rule: Rule) -> None:
    assert bool(rule.test) != bool(rule.reason)
    if rule.test:
        file, name = rule.test.split("::")
        assert name in functions_of(file)


def test_commands_of_the_checklist_for_a_cluster_are_those_of_its_page() -> None:
    """Whose names tests/deploy/test_kubernetes.py compares with the objects."""
    checklist, kubernetes = (ROOT / "docs" / name for name in ("tutorials/production.md", "kubernetes.md"))
    compared = set(commands_of(kubernetes.read_text(encoding="utf-8")))
    found = [
        command
        for command in commands_of(checklist.read_text(encoding="utf-8"))
        if (rule := rule_of(checklist, command)) is not None and rule.reason == CLUSTER
    ]
    assert len(found) == 4
    assert [command for command in found if command not in compared] == []


def test_commands_are_found_in_both_kinds_of_blocks() -> None:
    text = """Text, `streamer run`.

    streamer tail -n 1    # one
    answer ok

- [ ] a list:

        $ PORT=1 python -m a \\
            --b

```sh
unknown 'a
b' |
  jq
# a comment
next
```

```python
make = 1
```

    for pod in a b; do
      kubectl get "$pod"
    done
    make test
"""
    assert list(commands_of(text)) == [
        "streamer tail -n 1",
        "PORT=1 python -m a \\\n            --b",
        "unknown 'a\nb' |\n  jq",
        "next",
        'for pod in a b; do\n      kubectl get "$pod"\n    done',
        "make test",
    ]


def test_a_command_without_a_rule_is_found() -> None:
    assert rule_of(ROOT / "docs/requests.md", "make coffee") is RULES[0]
    assert rule_of(ROOT / "docs/scoring.md", "streamer tail") is None


def test_a_test_takes_its_commands_from_the_page() -> None:
    test = "tests/docs/test_commands_alone.py::test_commands_that_need_nothing"
    assert [command.split()[:2] for command in commands_for("docs/requests.md", test)] == [["streamer", "schema"]] * 3
