"""Versions side by side, switched, labelled, warmed up, failed and unloaded, and the life of the process."""

import shutil
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from sandbox.model_server.process import ModelServerError, ModelServerProcess
from sandbox.model_server.runtime import lean_tensorflow
from tests.sandbox.model_server_client import Client, Failure, ReloadConfigRequest, eventually, tensor

with lean_tensorflow():
    from google.protobuf import text_format
    from tensorflow.python.lib.io._pywrap_record_io import RecordWriter, RecordWriterOptions
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

pytestmark = pytest.mark.tensorflow
