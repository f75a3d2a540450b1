"""Blocks about networks: embedding, initializer, density estimator, sampler, compression."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from mlpop.config.base import StrictModel
from mlpop.config.fields import Count, Few, OneOf, OptionalPath
from mlpop.config.messages import Problem, Refused, one_of, show, unknown
from mlpop.config.methods import CLASSIFIERS, DENSITIES

BLOCKS = {
    "ModelConvSBI": {"documented": 3, "reference": 2},
    "ModelConvSBIdeep": {"documented": 4, "reference": 4},
    "ModelConvSBIshallow": {"documented": 2, "reference": 1},
}
"""Poolings by architecture and layout; each halves height and width."""

IMPORTABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""`package.module:Class`."""

ZScore = Literal["none", "independent", "structured"]


def _architecture(value: str) -> str:
    if value not in BLOCKS and not IMPORTABLE.fullmatch(value):
        raise Refused(("", one_of(value, list(BLOCKS), "'package.module:Class'")))
    return value


class ArchArgs(StrictModel):
    """Arguments of the embedding network. A class of your own may take further ones."""

    model_config = ConfigDict(extra="allow")

    input_shape: tuple[Count, Count, Count] = (3, 32, 32)
    """Channels, height, width: one channel an entry of `training_data_loader.filter_inputs`."""
    len_output_layer: Few = 32
    """Length of the vector that the density estimator sees."""
    layout: Literal["documented", "reference"] = "documented"
    """Number of blocks: as the user documents say, or as the reference code has it."""
    filters: Annotated[tuple[Few, ...], Field(min_length=1)] | None = None
    """Output channels of each block, in place of those that `type` and `layout` say."""
    final_activation: Literal["relu", "none"] = "relu"
    """`relu` may leave dead features; `none` does not."""


class ArchConfig(StrictModel):
    """The embedding network; null instead of this block when x is a vector."""

    type: Annotated[str, AfterValidator(_architecture)] = "ModelConvSBI"
    """`ModelConvSBI`, `ModelConvSBIdeep`, `ModelConvSBIshallow` or `package.module:Class`."""
    args: ArchArgs = ArchArgs()
    count_layers: Annotated[tuple[Few, ...], Field(min_length=1)] = (16, 8)
    """Widths of the layers that counts (`training_data_loader.filter_counts`) go through; what the
    last one gives stands beside the embedding of the maps."""

    @property
    def is_custom(self) -> bool:
        """Whether `type` is a class of the user's own."""
        return self.type not in BLOCKS

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's keyword arguments: of a class of your own, the given ones."""
        return self.args.model_dump(exclude_unset=self.is_custom)

    def _contradictions(self) -> Iterator[Problem]:
        if self.is_custom:
            return
        if extra := self.args.model_extra:
            for name in extra:
                yield f"args.{name}", unknown(name, list(ArchArgs.model_fields))
            return
        blocks = len(self.args.filters or ()) or BLOCKS[self.type][self.args.layout]
        by = self.type if self.args.filters is None else "args.filters"
        _, height, width = self.args.input_shape
        if min(height, width) < 2**blocks:
            yield (
                "args.input_shape",
                f"maps of {height} x {width} are too small for the {blocks} poolings of "
                f"{by}: height and width must be at least {2**blocks}",
            )


class InitializerArgs(StrictModel):
    """Arguments of the initializer."""

    include_conv: bool = False
    """Initialize convolutions too; the reference touches linear layers only."""


class InitializerConfig(StrictModel):
    """First weights of the embedding network."""

    type: Literal[
        "InitializerKaiming",
        "InitializerNormal",
        "InitializerUniform",
        "InitializerUniformRule",
        "InitializerXavier",
    ] = "InitializerKaiming"
    """Distribution of the first weights."""
    args: InitializerArgs = InitializerArgs()


class DensityArgs(StrictModel):
    """Arguments of the density estimator; those of another type are ignored."""

    hidden_features: Few = 32
    """Units of a hidden layer."""
    num_components: Few = 10
    """Gaussians of the mixture (mdn)."""
    num_transforms: Few = 5
    """Transforms of a flow."""
    num_bins: Annotated[int, Field(ge=2)] = 10
    """Bins of a spline (nsf, zuko_nsf)."""
    z_score_theta: ZScore = "independent"
    """How theta is standardized inside the network."""
    z_score_x: ZScore | None = None
    """How x is; null: `none` for maps, which are scaled already, `independent` for vectors."""


class DensityConfig(StrictModel):
    """The network that models posterior (snpe), likelihood (snle) or ratio (snre)."""

    type: Annotated[str, OneOf(DENSITIES)] = "mdn"
    """Mixture density network (mdn), or a flow: maf, nsf, and those of zuko."""
    args: DensityArgs = DensityArgs()
    classifier_nre: Annotated[str, OneOf(CLASSIFIERS)] = "resnet"
    """The classifier (snre only)."""

    @property
    def unused(self) -> tuple[str, ...]:
        """Arguments that this type ignores."""
        taken = DENSITIES[self.type].arguments
        sizes = ("hidden_features", "num_components", "num_transforms", "num_bins")
        return tuple(name for name in sizes if name not in taken)


def _thinning(value: int) -> int:
    if value != -1 and value < 1:
        raise Refused(("", f"must be at least 1, or -1 for none, found {value}"))
    return value


class McmcConfig(StrictModel):
    """The sampler of snle and snre; snpe ignores it."""

    type: Literal["nuts", "slice", "hmc", "slice_np", "slice_np_vectorized"] = (
        "slice_np_vectorized"
    )
    """The Markov chain; `nuts` is read where `snpe` ignores it, and refused where chains run."""
    num_chains: Few = 20
    """For every test observation; at x_o at least 400, which cost little more."""
    thin: Annotated[int, AfterValidator(_thinning)] = 5
    """Keep every n-th draw; -1 keeps all."""


def _components(value: int | float) -> int | float:
    if not (value >= 1 if isinstance(value, int) else 0 < value < 1):
        raise Refused(
            ("", f"must be an integer of at least 1, or a fraction between 0 and 1, found {value}")
        )
    return value


def _digest(value: str) -> str:
    if not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise Refused(("", f"must be 64 hexadecimal digits, found {show(value)}"))
    return value.lower()


class CompressionConfig(StrictModel):
    """Maps to vectors by a frozen compressor before inference; snle and snre need it."""

    use_compression: bool = False
    """Compress maps to vectors before they are learned from."""
    compression_type: Literal["cnn", "pca"] = "cnn"
    """`cnn`: the embedding network of a trained snpe network; `pca`: principal components."""
    cnn_model_path: OptionalPath = None
    """A `member_<j>` folder, a compressor's folder, weights as `.pt`, or a pickled network."""
    pca_model_path: OptionalPath = None
    """An `.npz`, a compressor's folder, or a pickled PCA of scikit-learn."""
    fit: bool = False
    """Make the compressor of the training set of round 0 instead of reading one."""
    num_components: Annotated[int | float, AfterValidator(_components)] = 0.95
    """Of a PCA that is fitted: how many, or the fraction of the variance that they explain."""
    rescale: Literal["component", "sample", "none"] = "component"
    """Scale each component over the training set, or each vector over itself (reference)."""
    allow_pickle: bool = False
    """Unpickle a compressor in the documented pickle format, which runs the code it holds."""
    sha256: Annotated[str, AfterValidator(_digest)] | None = None
    """What the file must have; a pickle needs it."""

    @property
    def model_path(self) -> Path | None:
        """The file or folder to read the compressor from; None with `fit`."""
        return self.cnn_model_path if self.compression_type == "cnn" else self.pca_model_path

    def _contradictions(self) -> Iterator[Problem]:
        if not self.use_compression:
            return
        field = f"{self.compression_type}_model_path"
        if self.fit and self.model_path is not None:
            yield field, "must be null with fit, which makes a compressor of its own"
        elif self.fit and self.sha256 is not None:
            yield "sha256", "must be null with fit, which reads no file"
        elif not self.fit and self.model_path is None:
            kind = self.compression_type
            yield field, f"is required when compression_type is '{kind}', or set fit to true"
