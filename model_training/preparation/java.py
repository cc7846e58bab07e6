"""What Spark needs of the machine, checked before it starts.

Its own failures are pages of stack traces.
"""

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pyspark

from model_training.errors import ConfigError

# Spark 4.0 is built for 17 and tested with 17 and 21. Its Hadoop calls `Subject.getSubject`, which fails since 23.
_OLDEST, _NEWEST = 17, 22
_TIMEOUT_S = 30


def check_java() -> None:
    """Checks the Java that Spark starts, and the name of this process's user.

    Raises:
        ConfigError: there is no Java, Spark cannot run on it, or the user has no name.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin/java") if home else shutil.which("java")
    needed = f"Spark {pyspark.__version__} needs Java {_OLDEST} to {_NEWEST}"
    if java is None:
        raise ConfigError(f"{needed}, and there is no `java` on PATH and no JAVA_HOME")
    place = f"{java} (of JAVA_HOME)" if home else java
    try:
        reply = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{needed}, and {place} cannot be started: {error}") from None
    found = re.search(r'version "(?:1\.)?(\d+)', reply.stderr + reply.stdout)
    if found is not None and not _OLDEST <= int(found[1]) <= _NEWEST:
        raise ConfigError(f"{needed}, and {place} is version {found[1]}; set JAVA_HOME")
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise ConfigError(
            f"Spark needs the name of its user, and user id {os.geteuid()} has none; add it to /etc/passwd"
        ) from None
