# Stand-in for apache/kafka: its version from Maven Central, on Debian's Java.
ARG BASE
FROM ${BASE}
RUN useradd --uid 1000 --create-home --home-dir /home/appuser appuser \
    && install -d -o 1000 -g 1000 /opt/kafka/config /opt/kafka/logs /var/lib/kafka/data
COPY libs /opt/kafka/libs
COPY --chmod=755 run.sh /etc/kafka/docker/run
COPY --chmod=755 api-versions.sh /opt/kafka/bin/kafka-broker-api-versions.sh
VOLUME /var/lib/kafka/data
USER 1000:1000
CMD ["/etc/kafka/docker/run"]
