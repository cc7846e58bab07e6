"""Faust (faust-streaming): an agent with concurrent instances, one call for each batch."""

from typing import Any

import faust
from mode.loop import use

from benchmarks.peers.scoring import arguments_of, asyncio_call, scoring_of


def main() -> None:
    arguments = arguments_of("concurrency", "buffered", "per-call")
    scoring = scoring_of(arguments.model_server)
    app = faust.App(
        arguments.group,
        broker=f"kafka://{arguments.bootstrap}",
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        producer_linger=0,
        # The default, 4,096 records in each buffer, takes gigabytes; 32 stall the agent.
        stream_buffer_maxsize=arguments.buffered,
        store="memory://",
        topic_disable_leader=True,
        web_enabled=False,
    )
    requests, answers = app.topic(arguments.input), app.topic(arguments.output)
    calls: list[Any] = []

    @app.agent(requests, concurrency=arguments.concurrency)  # type: ignore[untyped-decorator]
    async def score(stream: Any) -> None:
        async for events in stream.take_events(arguments.per_call, within=0.01):
            if not calls:
                calls.append(asyncio_call(arguments.model_server))
            request, documents = scoring.request([event.value for event in events])
            found = scoring.answers(documents, await calls[0](request))
            for event, answer in zip(events, found, strict=True):
                await answers.send(key=event.key, value=answer)

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    use("uvloop")
    main()
