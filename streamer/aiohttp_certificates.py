"""Imports aiohttp without the system's certificates.

aiohttp loads them twice when it is imported, for its two default contexts: 2 MB, and 60 ms of the start of each
process. Here a context loads them when it makes its first connection; the scorer itself uses neither of them. Import
this module before any other imports aiohttp.
"""

import ssl
from typing import Any

_NAMES = ("load_default_certs", "set_default_verify_paths")


def _load_at_first_connection(context: Any, name: str, arguments: tuple[Any, ...]) -> None:
    def wrap_bio(*args: Any, **options: Any) -> Any:
        del context.wrap_bio
        getattr(context, name)(*arguments)
        return context.wrap_bio(*args, **options)

    context.wrap_bio = wrap_bio


def _import() -> None:
    def postponed(name: str) -> Any:
        return lambda context, *arguments: _load_at_first_connection(context, name, arguments)

    own = {name: vars(ssl.SSLContext)[name] for name in _NAMES if name in vars(ssl.SSLContext)}
    try:
        for name in _NAMES:
            setattr(ssl.SSLContext, name, postponed(name))
        import aiohttp  # noqa: F401, PLC0415
    finally:
        for name in _NAMES:
            if name in own:
                setattr(ssl.SSLContext, name, own[name])
            else:  # that of the base class
                delattr(ssl.SSLContext, name)


_import()
