# The scorer. Build from the root of the repository: docker build -f deploy/streamer.Dockerfile .
FROM python:3.11.14-slim-bookworm AS native
RUN apt-get update && apt-get install --yes --no-install-recommends cargo-web gcc libc6-dev
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/maturin
WORKDIR /src
COPY requirements/dev.txt requirements/dev.txt
RUN /opt/maturin/bin/pip install --no-deps "$(grep ^maturin== requirements/dev.txt)"
COPY LICENSE ./
COPY native native
RUN /opt/maturin/bin/maturin build --release --locked --manifest-path native/Cargo.toml --out /wheels

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The image gets no pip.
RUN python -m venv --without-pip /opt/venv
WORKDIR /src
# The lock file is complete: the installed packages are the tested ones.
COPY requirements/scorer.txt requirements/scorer.txt
RUN pip --python /opt/venv/bin/python install --no-deps -r requirements/scorer.txt
COPY pyproject.toml README.md ./
COPY streamer streamer
RUN pip --python /opt/venv/bin/python install --no-deps .
COPY --from=native /wheels /wheels
RUN pip --python /opt/venv/bin/python install --no-deps /wheels/*.whl

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 streamer && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin streamer
COPY --from=build /opt/venv /opt/venv
# With glibc's dynamic mmap threshold the serialisation of a 480 KB message takes 0.33 ms instead of 0.07 ms. Fixed, higher
# thresholds keep such buffers on the heap.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_MMAP_THRESHOLD_=67108864 \
    MALLOC_TRIM_THRESHOLD_=134217728
USER 10001:10001
EXPOSE 9100
STOPSIGNAL SIGTERM
CMD ["streamer", "run", "--config", "/etc/streamer/streamer.yaml"]
