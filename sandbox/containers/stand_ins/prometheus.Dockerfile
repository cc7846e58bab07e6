# Stand-in for prom/prometheus: Debian's package, with the user, the folder and the wget of the official image.
ARG BASE
FROM ${BASE}
RUN ln -s /bin/busybox /usr/local/bin/wget && install -d -o 65534 -g 65534 /prometheus
WORKDIR /prometheus
VOLUME /prometheus
USER 65534:65534
ENTRYPOINT ["/usr/bin/prometheus"]
