"""Loads TensorFlow without its messages, for processes whose output a person reads."""

import importlib
import os
import sys
import tempfile


def load_tensorflow() -> None:
    """Imports TensorFlow without the greeting that it writes at every log level.

    The greeting goes to file descriptor 2. If the import fails, the suppressed output is written to standard error.
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
