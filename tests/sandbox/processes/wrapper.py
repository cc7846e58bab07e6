"""A stand-in under the name of TensorFlow Serving's binary, as a script in another folder."""

import sys
from pathlib import Path

VERSION = "TensorFlow ModelServer: 2.19.1, TensorFlow Library: 2.19.1"
_ANSWER = VERSION.replace(", ", "\\n")


def wrapper(folder: Path, server: str = "-m sandbox.model_server") -> Path:
    """An executable that answers `--version` as the binary does, and otherwise becomes Python with `server`.

    It writes the arguments of its last start to `arguments` beside it.
    """
    path = folder / "tensorflow_model_server"
    path.write_text(
        f"""#!/bin/sh
if [ "$1" = --version ]; then printf '{_ANSWER}\\n'; exit 0; fi
printf '%s\\n' "$@" > '{folder}/arguments'
exec '{sys.executable}' {server} "$@"
""",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path
