"""TLS and login of the clients, and the reason for a rejection, which aiokafka only logs."""

import asyncio
import importlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streamer.errors import ConfigError, UnreachableError
from streamer.settings.deployment import KafkaSettings

_ALERT_S = 2.0
_REJECTION_S = 3.0


def security_options(settings: KafkaSettings) -> dict[str, Any]:
    """The options of an aiokafka client for encryption and login.

    Raises:
        ConfigError: a file cannot be read, or the token provider cannot be loaded.
    """
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_mechanism == "OAUTHBEARER":
            options["sasl_oauth_token_provider"] = _TokenProvider(_load(settings.sasl_token_provider or ""))
        else:
            options["sasl_plain_username"] = settings.sasl_username
            options["sasl_plain_password"] = _password(settings)
    return options


def user_suffix(settings: KafkaSettings) -> str:
    """The user's name, if there is a login, for the end of a message about a missing right."""
    return f" to {settings.sasl_username!r}" if settings.sasl_username else ""


def group_forbidden(settings: KafkaSettings) -> ConfigError:
    """The user has no right to read as a member of the group."""
    return ConfigError(f"group {settings.group_id} is forbidden{user_suffix(settings)}")


async def connection_error(settings: KafkaSettings) -> ConfigError:
    """Connects to the brokers once more and returns the reason for the failure.

    It connects to each bootstrap broker, and to those that the first reply names.

    Returns:
        UnreachableError if no broker answers, which a retry may solve; ConfigError if one rejects the connection.
    """
    options = security_options(settings)
    connect = partial(create_conn, request_timeout_ms=settings.request_timeout_ms, **options)
    for host, port, _ in collect_hosts(settings.bootstrap_servers):
        try:
            if "ssl_context" in options:
                await asyncio.to_thread(_shake_hands, options["ssl_context"], host, port)
            connection = await connect(host, port)
            try:
                brokers = (await connection.send(MetadataRequest([]))).brokers
            finally:
                connection.close()
        except ssl.SSLError as error:
            return ConfigError(f"kafka: no TLS with {host}:{port}: {_tls_reason(error, settings)}")
        except KafkaError as error:
            if error.retriable:
                continue
            user = f"{settings.sasl_username!r} " if settings.sasl_username else ""
            return ConfigError(f"kafka: {host}:{port} rejects the login {user}by {settings.sasl_mechanism}: {error}")
        except (OSError, TimeoutError):
            continue
        if settings.sasl_mechanism == "OAUTHBEARER" and not brokers:
            # aiokafka takes the rejection of a token for its acceptance; after that it receives no brokers.
            return ConfigError(f"kafka: {host}:{port} rejects the login by OAUTHBEARER: the token is not accepted")
        failures = await asyncio.gather(*(_failure(connect, host, port) for _, host, port, *_ in brokers))
        if named := [failure for failure in failures if failure is not None]:
            return UnreachableError(
                f"kafka.bootstrap_servers: {host}:{port} answers, but not each address that it names"
                f" (advertised.listeners of the brokers): {', '.join(named)}"
            )
        return UnreachableError(f"kafka.bootstrap_servers: the brokers of {host}:{port} are not ready")
    return UnreachableError(f"kafka.bootstrap_servers: no broker answers at {settings.bootstrap_servers}")


async def _failure(connect: Callable[..., Awaitable[Any]], host: str, port: int) -> str | None:
    """Why an address cannot be connected to; None if it can."""
    try:
        (await connect(host, port)).close()
    except (KafkaError, OSError, TimeoutError) as error:
        return f"{host}:{port}: {str(error) or type(error).__name__}"
    return None


async def rejection(settings: KafkaSettings) -> str | None:
    """The reason why a broker rejects a new connection; None if none does so within 3 s."""
    try:
        async with asyncio.timeout(_REJECTION_S):
            found: Exception = await connection_error(settings)
    except TimeoutError:
        return None
    except Exception as error:  # noqa: BLE001  of a file or a token provider, which may raise any
        found = error
    return None if isinstance(found, UnreachableError) else str(found)


def _shake_hands(context: ssl.SSLContext, host: str, port: int) -> None:
    """Connects with TLS; raises ssl.SSLError if a side rejects the other's certificate."""
    with (
        socket.create_connection((host, port), _ALERT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
        suppress(TimeoutError),
    ):
        # A TLS 1.3 server rejects a client's certificate only after the handshake; one that accepts it sends nothing.
        encrypted.settimeout(_ALERT_S)
        encrypted.recv(1)


def _tls_reason(error: ssl.SSLError, settings: KafkaSettings) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    reason = error.reason or str(error)
    if "CERTIFICATE" not in reason:
        return reason
    ours = settings.ssl_cert_file
    if ours is None:
        return f"it asks for a certificate, and kafka.ssl_cert_file names none ({reason})"
    return f"it does not accept ours, {ours}: expired, or signed by an unknown authority? ({reason})"


class _Context(ssl.SSLContext):
    """As of `ssl.create_default_context`; a renewed own certificate is read at once."""

    own: tuple[Path, Path, str] | None = None
    """The files of certificate and key, and the key's password."""
    _read: Sequence[tuple[int, int]] = ()

    def read_own(self) -> None:
        """Reads the files if they have changed. Raises OSError; the next call tries again."""
        if self.own is None:
            return
        found = [(status.st_ino, status.st_mtime_ns) for status in map(Path.stat, self.own[:2])]
        if found != self._read:
            self.load_cert_chain(*self.own)
            self._read = found

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        # A file may be missing, or not fit the other one yet: then the old certificate is used, or the broker rejects
        # the connection, and the next one tries again.
        with suppress(OSError):
            self.read_own()
        return super().wrap_bio(*arguments, **options)


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.ssl_ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(settings.ssl_ca_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"kafka.ssl_ca_file: {settings.ssl_ca_file}: cannot be used: {error}") from error
    if settings.ssl_cert_file is not None and settings.ssl_key_file is not None:
        secret = settings.ssl_key_password
        # Without a password OpenSSL would ask for one on the terminal; an empty password prevents that.
        password = "" if secret is None else secret.get_secret_value()
        context.own = settings.ssl_cert_file, settings.ssl_key_file, password
        try:
            context.read_own()
        except (OSError, ValueError) as error:
            pair = f"{settings.ssl_cert_file} with {settings.ssl_key_file}"
            raise ConfigError(f"kafka.ssl_cert_file: {pair}: cannot be used: {error}") from error
    context.check_hostname = settings.ssl_check_hostname
    return context


def _password(settings: KafkaSettings) -> str:
    if settings.sasl_password is not None:
        return settings.sasl_password.get_secret_value()
    path = settings.sasl_password_file
    assert path is not None, "the settings require one of the two"
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"kafka.sasl_password_file: {path} cannot be read: {error}") from error


def _load(name: str) -> Callable[[], str]:
    module, _, attribute = name.partition(":")
    try:
        provider: Callable[[], str] = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module may raise anything
        raise ConfigError(f"kafka.sasl_token_provider: {name!r} cannot be loaded: {error}") from error
    if not callable(provider):
        raise ConfigError(f"kafka.sasl_token_provider: {name!r} is no function")
    return provider


class _TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Calls a function for the token of each login, in a thread, because it may block."""

    def __init__(self, provide: Callable[[], str]) -> None:
        self._provide = provide

    async def token(self) -> str:
        return await asyncio.to_thread(self._provide)
