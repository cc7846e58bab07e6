"""`model-training placement`: the bytes on each parameter server, before a run."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from model_training.commands.data import ConfigOption
from model_training.commands.output import AsJson, console, fail_clearly, print_json
from model_training.config.packaged import MODEL_CONFIG
from model_training.config.training import TrainingConfig, load_spec
from model_training.distributed.parameter_servers.placement import greedy, imbalance, loads, round_robin
from model_training.runtime import load_tensorflow


def placement(
    *,
    config: ConfigOption = MODEL_CONFIG,
    spec: Annotated[Path | None, typer.Option(help="Feature spec; by default the one in the config.")] = None,
    ps: Annotated[int, typer.Option(min=1, help="Number of parameter servers.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Shows how a model's variables and optimizer slots are spread over parameter servers."""
    with fail_clearly():
        parsed = TrainingConfig.from_yaml(config)
        features = load_spec(spec or parsed.spec)
        load_tensorflow()
        from model_training.distributed.parameter_servers.variables import bytes_by_variable  # noqa: PLC0415

        rows: list[tuple[str, str, list[int], float]] = []
        shards = parsed.distributed.table_shards
        for cut, name in ((1, "whole"), (shards, f"{shards} shards")):
            sizes = bytes_by_variable(parsed, features, shards=cut)
            for how, place in (("in turn", round_robin), ("greedy", greedy)):
                held = loads(sizes, place(sizes, ps), ps)
                rows.append((name, how, held, imbalance(held)))
        if as_json:
            names = ("tables", "placement", "bytes", "imbalance")
            print_json({"placements": [dict(zip(names, row, strict=True)) for row in rows]})
            return
        table = Table("tables", "placement", "bytes by server", "fullest / mean")
        for name, how, held, ratio in rows:
            table.add_row(name, how, " ".join(f"{size:,}" for size in held), f"{ratio:.3f}")
        console.print(table)
