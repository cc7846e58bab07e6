"""A model version with what its own spec makes of requests."""

from dataclasses import dataclass

from streamer.codec import Codec
from streamer.features import Encoder
from streamer.types import ModelVersion


@dataclass(frozen=True, slots=True)
class PreparedVersion:
    """A version of a model that may serve: verified and warmed, with the codec and the encoder of its own spec."""

    version: ModelVersion
    codec: Codec
    encoder: Encoder

    @property
    def prior(self) -> float:
        """The click probability to answer with where nothing better is known."""
        return self.encoder.spec.prior
