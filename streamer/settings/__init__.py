"""Settings: one frozen value for each section, validated before anything else starts.

In: a YAML file and STREAMER_… environment variables. Out: `Settings`, or one `ConfigError` with a line per error.
Unknown, renamed and impossible settings are rejected. Imports only `errors` of the scorer.
"""

from streamer.settings.loading import Settings, load_settings

__all__ = ["Settings", "load_settings"]
