"""A model version that is ready to serve, with the codec and the encoder of its own spec."""

from dataclasses import dataclass, replace

from streamer.ads import AdTable
from streamer.codec import Codec
from streamer.features import Encoder
from streamer.types import ModelVersion


@dataclass(frozen=True, slots=True)
class PreparedVersion:
    """A verified and warmed version of a model. Codec and encoder follow the version's own spec."""

    version: ModelVersion
    codec: Codec
    encoder: Encoder

    def with_ads(self, table: AdTable) -> "PreparedVersion":
        """The version with a table of ads, for requests by ad id.

        Raises:
            SpecError: the version is a model of another project.
        """
        return replace(self, encoder=self.encoder.with_ads(table))

    @property
    def prior(self) -> float:
        """The click probability of an answer without a score and without a prior of the ad."""
        return self.encoder.spec.prior
