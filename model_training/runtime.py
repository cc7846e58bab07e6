"""How TensorFlow is loaded where a person reads what the process writes."""

import importlib
import os
import sys
import tempfile


def load_tensorflow() -> None:
    """Imports TensorFlow without the greeting that it writes to file descriptor 2, whatever its log level.

    What it had to say is shown if the import fails.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        terminal = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
