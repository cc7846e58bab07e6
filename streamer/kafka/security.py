"""TLS, logins, and why a broker refuses us: what aiokafka keeps to its log becomes one clear line here."""

import asyncio
import importlib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streamer.errors import ConfigError, UnreachableError
from streamer.settings.deployment import KafkaSettings

_ALERT_S = 2.0


def security_options(settings: KafkaSettings) -> dict[str, Any]:
    """What a client of aiokafka is told of encryption and login.

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


async def why_unreachable(settings: KafkaSettings, options: dict[str, Any]) -> ConfigError:
    """Asks the first brokers once more and says why none of them lets us in.

    Returns:
        UnreachableError where nobody answers, which may pass; ConfigError where we are refused, which will not.
    """
    for host, port, _ in collect_hosts(settings.bootstrap_servers):
        try:
            if "ssl_context" in options:
                await asyncio.to_thread(_shake_hands, options["ssl_context"], host, port)
            connection = await create_conn(host, port, request_timeout_ms=settings.request_timeout_ms, **options)
            try:
                is_let_in = bool((await connection.send(MetadataRequest([]))).brokers)
            finally:
                connection.close()
        except ssl.SSLError as error:
            return ConfigError(f"kafka: no TLS with {host}:{port}: {_tls_reason(error, settings)}")
        except KafkaConnectionError:
            continue
        except KafkaError as error:
            if error.retriable:
                continue
            who = f"{settings.sasl_username!r} " if settings.sasl_username else ""
            return ConfigError(f"kafka: {host}:{port} refuses the login {who}by {settings.sasl_mechanism}: {error}")
        except (OSError, TimeoutError):
            continue
        if settings.sasl_mechanism == "OAUTHBEARER" and not is_let_in:
            # A broker refuses a token in an answer that the client takes for a yes, and then knows no brokers.
            return ConfigError(f"kafka: {host}:{port} refuses the login by OAUTHBEARER: the token is not accepted")
    return UnreachableError(f"kafka.bootstrap_servers: no broker answers at {settings.bootstrap_servers}")


def _shake_hands(context: ssl.SSLContext, host: str, port: int) -> None:
    """Raises ssl.SSLError where either side refuses the other's certificate."""
    with (
        socket.create_connection((host, port), _ALERT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
        suppress(TimeoutError),
    ):
        # In TLS 1.3 a server says only after the handshake that it does not want our certificate; one that does want it
        # says nothing until it is asked something.
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
    return f"it does not accept ours, {ours}: out of date, or signed by somebody else? ({reason})"


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    except OSError as error:
        raise ConfigError(f"kafka.ssl_ca_file: {settings.ssl_ca_file}: cannot be used: {error}") from error
    if settings.ssl_cert_file is not None:
        secret = settings.ssl_key_password
        # An empty one instead of none: without it OpenSSL would ask on the terminal.
        password = "" if secret is None else secret.get_secret_value()
        try:
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file, password)
        except OSError as error:
            pair = f"{settings.ssl_cert_file} with {settings.ssl_key_file}"
            raise ConfigError(f"kafka.ssl_cert_file: {pair}: cannot be used: {error}") from error
    context.check_hostname = settings.ssl_check_hostname
    return context


def _password(settings: KafkaSettings) -> str:
    if settings.sasl_password is not None:
        return settings.sasl_password.get_secret_value()
    assert settings.sasl_password_file is not None, "settings have been checked"
    try:
        return settings.sasl_password_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        path = settings.sasl_password_file
        raise ConfigError(f"kafka.sasl_password_file: {path} cannot be read: {error.strerror}") from error


def _load(name: str) -> Callable[[], str]:
    module, _, attribute = name.partition(":")
    try:
        provider: Callable[[], str] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"kafka.sasl_token_provider: {name!r} cannot be loaded: {error}") from error
    return provider


class _TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    """Asks a function for the token, off the loop, each time that a connection logs in."""

    def __init__(self, provide: Callable[[], str]) -> None:
        self._provide = provide

    async def token(self) -> str:
        return await asyncio.to_thread(self._provide)
