"""One small world for all tests of the sandbox."""

from functools import cache

from sandbox.world.world import World


@cache
def small_world() -> World:
    """400 users and 600 ads: enough for every table of the truth, and quickly built."""
    return World(11, users=400, sites=60, ads=600)
