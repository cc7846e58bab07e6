"""Faust (faust-streaming): an agent with concurrent instances, one call for each record."""

from typing import Any

import faust
from mode.loop import use

from benchmarks.peers.scoring import arguments_of, asyncio_call, scoring_of


def main() -> None:
    arguments = arguments_of("concurrency", "buffered")
    scoring = scoring_of(arguments.model_server)
    app = faust.App(
        arguments.group,
        broker=f"kafka://{arguments.bootstrap}",
        key_serializer="raw",
        value_serializer="raw",
        consumer_auto_offset_reset="earliest",
        producer_linger=0,
        # The default, 4,096 records, takes gigabytes.
        stream_buffer_maxsize=arguments.buffered,
        store="memory://",
        topic_disable_leader=True,
        web_enabled=False,
    )
    requests, answers = app.topic(arguments.input), app.topic(arguments.output)
    calls: list[Any] = []

    @app.agent(requests, concurrency=arguments.concurrency)  # type: ignore[untyped-decorator]
    async def score(stream: Any) -> None:
        async for event in stream.events():
            if not calls:
                calls.append(asyncio_call(arguments.model_server))
            request, documents = scoring.request([event.value])
            (answer,) = scoring.answers(documents, await calls[0](request))
            await answers.send(key=event.key, value=answer)

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    use("uvloop")
    main()
