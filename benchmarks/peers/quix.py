"""Quix Streams: a function over each record, in several processes.

Quix handles one record at a time, so it scales by processes.
"""

import subprocess
import sys

from quixstreams import Application

from benchmarks.peers.scoring import arguments_of, blocking_call, scoring_of


def main() -> None:
    arguments = arguments_of("processes")
    for _ in range(arguments.processes - 1):
        subprocess.Popen([sys.executable, "-m", "benchmarks.peers.quix", *sys.argv[1:], "--processes=1"])
    scoring, call = scoring_of(arguments.model_server), blocking_call(arguments.model_server)
    app = Application(
        arguments.bootstrap,
        consumer_group=arguments.group,
        auto_offset_reset="earliest",
        producer_extra_config={"linger.ms": 0},
        loglevel="WARNING",
    )
    requests = app.topic(arguments.input, key_deserializer="bytes", value_deserializer="bytes")
    answers = app.topic(arguments.output, key_serializer="bytes", value_serializer="bytes")

    def score(value: bytes) -> bytes:
        request, documents = scoring.request([value])
        (answer,) = scoring.answers(documents, call(request))
        return answer

    app.dataframe(requests).apply(score).to_topic(answers)
    app.run()


if __name__ == "__main__":
    main()
