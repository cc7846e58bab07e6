"""Verifies a model version: reads its feature spec and checks its signature."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from streamer.codec import Codec
from streamer.errors import BadReplyError, SpecError
from streamer.features import Encoder, FeatureSpec, Layout
from streamer.prepared_version import PreparedVersion
from streamer.serving.flat_signature import FlatSignature
from streamer.serving.identity import ShowsVersions
from streamer.serving.messages import SCORE
from streamer.settings import Settings
from streamer.types import BatchInputs, ModelVersion, SignatureInfo, TensorInfo


class DescribesVersions(ShowsVersions, Protocol):
    """Model servers that describe a version and are warmed; `Control` says what is raised."""

    async def feature_spec(self, version: ModelVersion) -> str: ...
    async def signature(self, version: ModelVersion, name: str) -> SignatureInfo: ...
    async def warm(self, version: ModelVersion, requests: Iterable[BatchInputs]) -> None: ...


async def verify(servers: DescribesVersions, settings: Settings, version: ModelVersion) -> PreparedVersion:
    """Reads the version's spec, or the spec file of its model, and checks its signature.

    Raises:
        SpecError: the spec contradicts itself, or the spec file does not fit the signature.
        BadReplyError: the version's own spec does not fit its signature.
        PredictError: the servers cannot be asked.
    """
    path = settings.predictor.spec_files.get(version.name)
    ads = settings.features.memoised_ads
    if path is None:
        spec = FeatureSpec.from_json(await servers.feature_spec(version), f"spec of {version}")
        encoder = Encoder(spec, memoised_ads=ads)
    else:
        # A large vocabulary takes more than a second; the requests in flight go on.
        encoder = await asyncio.to_thread(_encoder_of, path, ads)
        spec = encoder.spec
    if spec.serving is None:
        _check_signature(version, encoder.layout, (await servers.signature(version, SCORE)).inputs)
    else:
        found = await servers.signature(version, spec.serving.signature)
        try:
            version = replace(version, flat=FlatSignature(encoder.layout, spec.serving, found, encoder.out_of_range))
        except SpecError as error:
            raise SpecError("\n".join(f"{path or version}: {line}" for line in str(error).splitlines())) from error
    keys, containers, margin_ms = spec.document_keys, spec.containers, spec.deadline_margin_ms
    candidate_keys, by_id = spec.candidate_keys, settings.ads.topic is not None
    codec = Codec(settings.codec, spec.request, keys, containers, margin_ms, candidate_keys=candidate_keys, by_id=by_id)
    return PreparedVersion(version, codec, encoder)


def _encoder_of(path: Path, memoised_ads: int) -> Encoder:
    """The encoder of a spec file, whose spec has computed its hash."""
    spec = FeatureSpec.from_yaml(path)
    assert spec.hash
    return Encoder(spec, memoised_ads=memoised_ads)


def _check_signature(version: ModelVersion, layout: Layout, found: Mapping[str, TensorInfo]) -> None:
    """Raises BadReplyError if the inputs of the `score` signature do not fit the version's spec."""
    expected = layout.score_inputs()
    if dict(found) != expected:
        wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        detail = f"{version}: its score signature does not fit its feature spec in {', '.join(wrong)}"
        raise BadReplyError("FAILED_PRECONDITION", detail)
