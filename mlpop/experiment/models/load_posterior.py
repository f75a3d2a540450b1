"""A posterior by its address: a run, a model, or a folder. Nothing is unpickled."""

import logging
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from mlpop.errors import DataError, MlpopError, TrackingError
from mlpop.experiment.inputs.observed import X_O, X_O_JSON, load_x_o
from mlpop.experiment.models.known_posterior import KnownPosterior
from mlpop.experiment.models.posterior_model import MODEL_NAME
from mlpop.experiment.models.trained_rounds import RUN_URI, fetch_round, launch_folder, load_round
from mlpop.experiment.resume.lineage import Lineage
from mlpop.experiment.resume.start import lineage_of
from mlpop.inference.posteriors.model_files import DIGESTS, load_packed, read_digests
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.posteriors.store import POSTERIOR_FILE
from mlpop.tracking import Node, Store, connect, root_of, tree
from mlpop.tracking.artifacts import read_manifest
from mlpop.tracking.models import DIGEST_TAG, MODEL_URI, fetch_model_file, find_model, require_tag

logger = logging.getLogger(__name__)

RUN_ID = re.compile(r"[0-9a-f]{32}")
ROUND = re.compile(r"round_(\d+)")


def load_posterior(uri: str | os.PathLike[str]) -> KnownPosterior:
    """Load the posterior of an experiment: that of its last complete round.

    It has `sample`, `log_prob`, `map` and `pairplot`, in physical units, with the names `labels`
    and the `prior`, and knows its x_o. Every file is compared with the digest that was recorded
    when it was written.

    Args:
        uri: one of
            `runs:/<run id>`, or the run id alone: of an experiment, or of one of its rounds;
            `models:/<name>@champion`, `models:/<name>/<version>` or `models:/<model id>`;
            a folder: `models/<name>/<stamp>/round_<r>`, `models/<name>/<stamp>`, or
            `models/<name>` for its newest launch.

    Example:
        >>> import mlpop
        >>> result = mlpop.run_experiment("experiments/gaussian_linear.json", mlpop.QUICK)
        >>> posterior = mlpop.load_posterior(f"runs:/{result.run_id}")
        >>> draws = posterior.sample(100, seed=1)
        >>> draws.shape, posterior.log_prob(draws).shape
        ((100, 10), (100,))

    Raises:
        ConfigError: there is no such folder, or it holds no rounds.
        DataError: a file is missing, damaged or changed.
        TrackingError: there is no such run or model, it is of another kind, or no round of it
            is complete.
    """
    text = os.fspath(uri)
    if text.startswith(MODEL_URI):
        return _of_model(connect(), text)
    if text.startswith(RUN_URI):
        run_id, _, artifact = text.removeprefix(RUN_URI).strip("/").partition("/")
        if artifact not in ("", MODEL_NAME):
            raise TrackingError(f"{text}: give {RUN_URI}{run_id}, without '{artifact}'")
        return _of_run(connect(), run_id)
    if RUN_ID.fullmatch(text) and not Path(text).exists():
        return _of_run(connect(), text)
    return _of_folder(Path(text))


def _of_folder(folder: Path) -> KnownPosterior:
    if not _is_round(folder):
        folder = launch_folder(folder, field="mlpop.load_posterior")
        numbers = [int(m[1]) for p in folder.iterdir() if (m := ROUND.fullmatch(p.name))]
        finished = [n for n in numbers if (folder / f"round_{n}" / POSTERIOR_FILE).is_file()]
        if not finished:
            raise DataError(f"{folder}: no round has a {POSTERIOR_FILE}; resume the training")
        if max(finished) != max(numbers):
            _warn_unfinished(str(folder), max(finished))
        folder = folder / f"round_{max(finished)}"
    match = ROUND.fullmatch(folder.resolve().name)
    posterior = load_round(folder, int(match[1]) if match else 0)
    return _known(posterior, folder, folder.resolve().parent / "round_0")


def _is_round(folder: Path) -> bool:
    """Whether a folder is that of a round, be it an unfinished one."""
    if (folder / POSTERIOR_FILE).is_file():
        return True
    named = folder.is_dir() and ROUND.fullmatch(folder.name) is not None
    return named and not any(folder.glob("**/round_0"))


def _of_run(store: Store, run_id: str) -> KnownPosterior:
    node = _node(store, run_id)
    if node.kind not in ("experiment", "round"):
        raise TrackingError(
            f"run {run_id} is of kind '{node.kind or 'unknown'}'; give an experiment or a round"
        )
    lineage = whole = lineage_of(store, node)
    if node.kind == "round":
        whole = lineage_of(store, tree(store, root_of(store, run_id)))
    else:
        rounds: list[Node] = []
        while (found := lineage.round(len(rounds))) is not None and _is_complete(store, found):
            rounds.append(found)
        if not rounds:
            raise TrackingError(f"run '{node.name}' ({run_id}): no round of it is complete")
        if found is not None or node.status != "FINISHED":
            _warn_unfinished(f"run '{node.name}' ({run_id})", len(rounds) - 1)
        node = rounds[-1]
    number = node.round or 0
    with TemporaryDirectory(prefix="mlpop-posterior-") as scratch:
        folder = Path(scratch, f"round_{number}")
        fetch_round(lineage, node, folder)
        posterior = load_round(folder, number)
        if number:
            _fetch_x_o(whole, folder.with_name("round_0"))
        return _known(posterior, folder, folder.with_name("round_0"))


def _fetch_x_o(lineage: Lineage, folder: Path) -> None:
    """Copy the x_o of an experiment from its first round."""
    first = lineage.round(0)
    if first is not None:
        for name in {X_O, X_O_JSON}.intersection(lineage.names(first)):
            lineage.fetch(first, name, folder / name)


def _known(posterior: Posterior, *folders: Path) -> KnownPosterior:
    """Join a posterior with the x_o that its round, or else round 0, was given."""
    for folder in folders:
        if (folder / X_O).is_file() and (folder / X_O_JSON).is_file():
            x, truth = load_x_o(folder)
            return KnownPosterior(posterior, x, truth)
    return KnownPosterior(posterior)


def _of_model(store: Store, uri: str) -> KnownPosterior:
    model = find_model(store, uri)
    digest = require_tag(model, DIGEST_TAG, uri)
    with TemporaryDirectory(prefix="mlpop-posterior-") as scratch:
        folder = Path(scratch, MODEL_NAME)

        def fetch(name: str) -> None:
            fetch_model_file(store, model, f"artifacts/{MODEL_NAME}/{name}", folder / name)

        fetch(DIGESTS)
        for name in read_digests((folder / DIGESTS).read_bytes(), digest, uri):
            fetch(name)
        try:
            posterior = load_packed(folder, digest)
        except DataError as error:
            raise DataError(f"{uri}: {error}") from None
    with TemporaryDirectory(prefix="mlpop-posterior-") as scratch:
        try:
            _fetch_x_o(lineage_of(store, _node(store, str(model.source_run_id))), Path(scratch))
        except (MlpopError, OSError):
            # a model may outlive its run
            return KnownPosterior(posterior)
        return _known(posterior, Path(scratch))


def _node(store: Store, run_id: str) -> Node:
    top = tree(store, root_of(store, run_id))
    for _, node in top.walk():
        if node.run_id == run_id:
            return node
    # a branch or an attempt of another tree
    return tree(store, run_id)


def _is_complete(store: Store, node: Node) -> bool:
    return node.status == "FINISHED" and read_manifest(store.client, node.run_id) is not None


def _warn_unfinished(source: str, round_: int) -> None:
    logger.warning("%s: is not complete; taking round %d, its last complete one", source, round_)
