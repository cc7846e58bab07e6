"""Replays the warm-up requests in a SavedModel's `assets.extra/tf_serving_warmup_requests`."""

import math
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.python.framework.errors_impl import DataLossError, OpError
from tensorflow.python.lib.io._pywrap_record_io import RecordIterator
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from sandbox.model_server.inference import classify, multi_inference, regress
from sandbox.model_server.predict import predict
from sandbox.model_server.servable import Servable
from sandbox.model_server.status import StatusError, code_of_number, invalid_argument

WARMUP_REQUESTS = Path("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000


def warm_up(servable: Servable, path: Path, iterations: int = 1) -> int:
    """Runs each recorded request `iterations` times; returns the number of records.

    `path` is the folder of the version. Without the file nothing is run.

    Raises:
        StatusError: the file is not a TFRecord of PredictionLog, has more than 1,000 records or another kind of
            request, or a request fails.
    """
    file = path / WARMUP_REQUESTS
    if not file.is_file():
        return 0
    count = 0
    try:
        for record in RecordIterator(str(file), ""):
            _replay(servable, record, file, iterations)
            count += 1
            if count > MAX_RECORDS:
                raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
    except DataLossError as error:
        text = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise StatusError(code_of_number(error.error_code), text) from None
    except OpError as error:
        raise StatusError(code_of_number(error.error_code), error.message) from None
    return count


def _replay(servable: Servable, record: bytes, file: Path, iterations: int) -> None:
    try:
        log = PredictionLog.FromString(record)
    except DecodeError:
        raise invalid_argument(f"Failed to parse warmup record: {record[:80]!r} from {file}") from None
    for _ in range(max(iterations, 1)):
        _run(servable, log)


def _run(servable: Servable, log: PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        predict(servable, log.predict_log.request, remaining_s=math.inf, as_content=False)
    elif kind == "classify_log":
        call = log.classify_log.request
        classify(servable, call.model_spec.signature_name, call.input, remaining_s=math.inf, check_method=False)
    elif kind == "regress_log":
        call = log.regress_log.request
        regress(servable, call.model_spec.signature_name, call.input, remaining_s=math.inf, check_method=False)
    elif kind == "multi_inference_log":
        multi_inference(servable, log.multi_inference_log.request, remaining_s=math.inf, check_method=False)
    elif kind is not None:  # an empty record is accepted
        raise StatusError(code_of_number(12), f"Unsupported log_type for warmup: {kind}")
