# Stand-in for prom/prometheus and prom/alertmanager: Debian's package, with the user, the folder and the wget of the
# official image.
ARG BASE
FROM ${BASE}
ARG PROGRAM
ARG DATA
RUN ln -s /bin/busybox /usr/local/bin/wget && ln -s "/usr/bin/${PROGRAM}" /bin/monitoring \
    && install -d -o 65534 -g 65534 "${DATA}"
WORKDIR ${DATA}
VOLUME ${DATA}
USER 65534:65534
ENTRYPOINT ["/bin/monitoring"]
