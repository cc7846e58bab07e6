# Parts of the outside world: trains and exports a first model, sends synthetic traffic.
# Build from the root of the repository: docker build -f deploy/sandbox.Dockerfile .
FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 streamer && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin streamer
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY requirements/sandbox.txt requirements/sandbox.txt
RUN pip install --no-deps -r requirements/sandbox.txt
COPY pyproject.toml README.md ./
COPY streamer streamer
COPY model_training model_training
# model_training/configs is a link to it.
COPY configs configs
RUN pip install --no-deps . \
    && install -d -o 10001 -g 10001 /models /models/ctr
# The wheel has no sandbox: Python finds it in /app, and it finds configs/ in the working directory.
WORKDIR /app
COPY sandbox sandbox
COPY configs configs
ENV PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    TF_CPP_MIN_LOG_LEVEL=2
# A new named volume gets the owner of the image's folder, so the user can write to it.
VOLUME /models
USER 10001:10001
CMD ["python", "-m", "sandbox", "--help"]
