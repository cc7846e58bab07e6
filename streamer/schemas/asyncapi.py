"""The AsyncAPI document of the topics: who sends what to which one. Pure.

Channels and messages are those of the scorer and of training; `receive` means that one of them reads the topic.
"""

from collections.abc import Mapping
from typing import Final

from streamer.formats.content_type import JSON_TYPE
from streamer.schemas.paths import Schema
from streamer.settings import Settings

_BINDINGS: Final = "0.5.0"
_ADS: Final = "ads"
"""Address of the topic of ads without a setting: it is off by default."""
_USER: Final = "The user id in UTF-8, with Kafka's murmur2 partitioner: all requests of a user are in one partition."
_AS_REQUEST: Final = "The key of the request."
_ANYTHING: Final[Schema] = {"description": "The record's value, unchanged; absent if it is too large for the topic."}


def asyncapi(settings: Settings) -> Schema:
    """The document for these settings. It refers to `request.json` and the others beside it."""
    kafka, topics, ms = settings.kafka, settings.topics, "retention.ms"
    is_secure = kafka.security_protocol in ("SSL", "SASL_SSL")
    short, long = {ms: topics.retention_ms}, {ms: topics.dead_letter_retention_ms}
    largest = {"max.message.bytes": settings.sink.max_request_bytes}
    names: dict[str, tuple[str, str, Mapping[str, object]]] = {
        "requests": (settings.source.topic, "Bidders send requests; the scorer reads them.", {**short, **largest}),
        "answers": (settings.sink.topic, "The scorer sends an answer to each request.", {**short, **largest}),
        "deadLetters": (settings.sink.dead_letter_topic, "Records that have no answer.", {**long, **largest}),
        "ads": (
            settings.ads.topic or _ADS,
            "Values of ads by id, for requests that name ids only (`ads.topic`, off by default).",
            {"cleanup.policy": ["compact"], **largest},
        ),
        "impressions": ("impressions", "Ads that were shown. Training reads them.", {}),
        "clicks": ("clicks", "Clicks on shown ads. Training reads them.", {}),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "CTR scorer",
            "version": "1",
            "description": "Requests for click probabilities, their answers, and the events that training reads.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON_TYPE,
        "servers": {
            f"kafka{i}": {"host": host.strip(), "protocol": "kafka-secure" if is_secure else "kafka"}
            for i, host in enumerate(kafka.bootstrap_servers.split(","), start=1)
        },
        "channels": {
            name: _channel(name, topic, what, config, topics.partitions)
            for name, (topic, what, config) in names.items()
        },
        "operations": {
            "score": {
                **_operation("receive", "requests", {"groupId": {"type": "string", "enum": [kafka.group_id]}}),
                "reply": {"channel": {"$ref": "#/channels/answers"}},
            },
            "answer": _operation("send", "answers"),
            "deadLetter": _operation("send", "deadLetters"),
            "readAds": _operation("receive", "ads"),
            "readImpressions": _operation("receive", "impressions"),
            "readClicks": _operation("receive", "clicks"),
        },
        "components": {"messages": _messages()},
    }


def _channel(name: str, topic: str, what: str, config: Mapping[str, object], partitions: int) -> Schema:
    kafka = {
        "topic": topic,
        "bindingVersion": _BINDINGS,
        **({"partitions": partitions, "topicConfiguration": config} if config else {}),
    }
    return {
        "address": topic,
        "description": what,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": kafka},
    }


def _operation(action: str, channel: str, kafka: Schema | None = None) -> Schema:
    whole: Schema = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}
    return whole if kafka is None else {**whole, "bindings": {"kafka": {**kafka, "bindingVersion": _BINDINGS}}}


def _messages() -> Schema:
    ref, request_headers = _ref("request-headers"), "request-headers"
    correlation: Schema = {
        "location": "$message.payload#/request_id",
        "description": "An answer has the id of its request.",
    }
    return {
        "requests": _message("Request", _ref("request"), _USER, ref, correlationId=correlation),
        "answers": _message("Answer", _ref("answer"), _AS_REQUEST, _ref(request_headers), correlationId=correlation),
        "deadLetters": _message("Dead letter", _ANYTHING, "The key of the record.", _ref("dead-letter-headers")),
        "ads": _message("Ad", _ref("ad"), "The ad id in UTF-8, with Kafka's murmur2 partitioner."),
        "impressions": _message("Impression", _ref("impression"), "Any; the user id keeps a user's events in order."),
        "clicks": _message("Click", _ref("click"), "Any; the user id keeps a user's events in order."),
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"./{name}.json"}


def _message(title: str, payload: Schema, key: str, headers: Schema | None = None, **more: Schema) -> Schema:
    return {
        "title": title,
        **({} if headers is None else {"headers": headers}),
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": _BINDINGS}},
        **more,
    }
