"""All settings: one small frozen value for each stage."""

from streamer.settings.loading import Settings, load_settings

__all__ = ["Settings", "load_settings"]
