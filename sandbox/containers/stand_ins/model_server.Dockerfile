# Stand-in for tensorflow/serving: the model server of sandbox/, which takes the same flags.
ARG BASE
FROM ${BASE}
USER root
RUN printf '#!/bin/sh\nexec python -m sandbox.model_server "$@"\n' > /usr/local/bin/tensorflow_model_server \
    && chmod 755 /usr/local/bin/tensorflow_model_server
