"""The client of a registry. The only file that imports Confluent's package."""

import ssl
from collections.abc import Awaitable
from typing import Any, Final

import httpx2
from confluent_kafka.schema_registry import AsyncSchemaRegistryClient, Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError

from streamer.errors import ConfigError, UnreachableError
from streamer.schema_registry.schemas import Registered
from streamer.settings.deployment import RegistrySettings

_TIMEOUT_S: Final = 3.0
_LATER: Final = (408, 429)
_NOT_THERE: Final = range(40401, 40500)


class ConfluentRegistry:
    """A registry with Confluent's API. Each call ends within seconds and is not retried here."""

    def __init__(self, settings: RegistrySettings) -> None:
        """Raises ConfigError: the certificate authorities cannot be read."""
        assert settings.url is not None, "a registry"
        self._url = settings.url
        options: dict[str, Any] = {"url": settings.url, "timeout": _TIMEOUT_S, "max.retries": 0}
        if settings.username is not None and settings.password is not None:
            options["basic.auth.user.info"] = f"{settings.username}:{settings.password.get_secret_value()}"
        if settings.ca_file is not None:
            options["ssl.ca.location"] = str(settings.ca_file)
        try:
            self._client: Any = AsyncSchemaRegistryClient(options)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"registry.ca_file: {settings.ca_file}: cannot be used: {error}") from error

    async def schema(self, number: int) -> Registered | None:
        """The schema with this id; None if there is none."""
        found: Any = await self._called(self._client.get_schema(number), "read schemas")
        return None if found is None else Registered(number, None, found.schema_type, found.schema_str)

    async def latest(self, subject: str) -> Registered | None:
        """The newest version of a subject; None if there is no such subject."""
        found: Any = await self._called(self._client.get_latest_version(subject), f"read subject {subject!r}")
        if found is None:
            return None
        return Registered(found.schema_id, found.version, found.schema.schema_type, found.schema.schema_str)

    async def register(self, subject: str, text: str) -> int:
        """Registers a Protobuf schema, if it is not there yet; returns its id."""
        call = self._client.register_schema(subject, Schema(text, "PROTOBUF"))
        return int(await self._called(call, f"register a schema of subject {subject!r}"))

    async def close(self) -> None:
        """Disconnects."""
        await self._client.aclose()

    async def _called(self, call: Awaitable[Any], what: str) -> Any:
        """The result of a call; None if subject or schema is not there (404xx).

        Raises:
            UnreachableError: no answer, or one that says to call later.
            ConfigError: the registry rejects the call.
        """
        try:
            return await call
        except SchemaRegistryError as error:
            code = error.http_status_code
            if code == 404:
                if error.error_code in _NOT_THERE:
                    return None
                raise ConfigError(f"registry.url: {self._url} has no API of a schema registry (404)") from error
            reason = f"{error.error_message!s:.200} ({code})"
            if code >= 500 or code in _LATER:
                raise UnreachableError(f"registry.url: {self._url}: {reason}") from error
            raise ConfigError(f"registry.url: {self._url} does not let this process {what}: {reason}") from error
        except httpx2.TransportError as error:
            fault = str(error) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in fault:
                raise ConfigError(f"registry.ca_file: no TLS with {self._url}: {fault}") from error
            raise UnreachableError(f"registry.url: no answer from {self._url}: {fault}") from error
        except (ValueError, KeyError, TypeError) as error:  # a reply of another program
            raise ConfigError(f"registry.url: {self._url} is no schema registry: {error!r:.200}") from error
