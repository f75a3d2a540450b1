"""One launch of a command: its MLflow run, its folders, its log, and how it ends."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpop.compute import Backend, make_backend
from mlpop.config.blocks.compute import ComputeConfig
from mlpop.config.files.sbi import SbiConfig
from mlpop.experiment.logs import log_to
from mlpop.experiment.output_tree import OutputTree, output_tree
from mlpop.experiment.profile import Profiler
from mlpop.io.files import json_digest, write_atomically
from mlpop.tracking import (
    Node,
    Store,
    TrackedRun,
    check_artifacts,
    connect,
    graceful_signals,
    note_attempt,
    open_run,
    parameters,
    prepare_pages,
    record_provenance,
    replay,
    where_to_look,
)
from mlpop.tracking.outages import resumable
from mlpop.tracking.run import CONFIG_DIGEST_TAG

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One launch of a command.

    Attributes:
        run: its MLflow run, at the top of the tree.
        tree: its folders.
        code: version and commit of mlpop, see `record_provenance`.
        files: name among the artifacts -> file: what completes the run; commands add theirs.
        compared: kind in the plural, as in `views.VIEWS` -> runs of this launch to compare.
    """

    run: TrackedRun
    tree: OutputTree
    code: Mapping[str, str | None]
    files: dict[str, Path] = field(default_factory=dict)
    compared: dict[str, list[str]] = field(default_factory=dict)

    def profiler(self, config: SbiConfig) -> Profiler:
        """Return a profiler, whose two files become artifacts of the run."""
        names = (config.profile_json, config.profile_log)
        self.files.update({name: self.tree.logs / name for name in names})
        return Profiler(
            self.tree.logs, json_name=names[0], log_name=names[1], show=config.show_profiling
        )

    @contextmanager
    def backend(
        self, n_processes: int, enable_dask: bool, workers_dask: int | None, compute: ComputeConfig
    ) -> Iterator[Backend]:
        """Start the workers for the length of a block; the run's tags say which. Arguments are
        those of `make_backend`.
        """
        with make_backend(
            n_processes=n_processes,
            enable_dask=enable_dask,
            workers_dask=workers_dask,
            compute=compute,
            logs=self.tree.logs,
        ) as backend:
            self.run.set_tags(
                {
                    "mlpop.backend": backend.name,
                    "mlpop.workers": backend.workers,
                    "mlpop.dask_dashboard": getattr(backend, "dashboard_link", None),
                }
            )
            yield backend


@contextmanager
def session(
    kind: str,
    name: str,
    resolved: Mapping[str, Any],
    *,
    config_file: str,
    save_dir: Path,
    models: bool = True,
    root_seed: int | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    store: Store | None = None,
    resumed: Node | None = None,
) -> Iterator[Session]:
    """Open a launch for the length of a block, and complete its run if the block ends well.

    Curves that earlier processes could not send are sent; the store is checked before hours of
    work. The log of a launch that fails is kept in its run.

    Args:
        kind: of the run.
        name: of the run and of the folders.
        resolved: the whole configuration, as its file is to hold it.
        config_file: name of that file, beside the models or else the log, and as an artifact.
        save_dir: root of the output tree.
        models: whether the launch has a folder of models beside that of its logs.
        root_seed: every random bit comes from it; None where there are no random bits.
        params: parameters of the run, beside the root seed; by default every field of `resolved`.
        tags: further tags of the run.
        store: the tracking store, by default `connect()`.
        resumed: the run to go on with, and with its folders if they are here.

    Raises:
        TrackingError: the store cannot be used, or a living process works on `resumed`.
        DataError: the folders or the log cannot be written.
    """
    seed = {} if root_seed is None else {"root_seed": root_seed}
    with graceful_signals():
        store = store or connect()
        replay(store.client, store.spill_folder)
        if resumed is not None:
            note_attempt(store, resumed)
        with (
            open_run(
                kind,
                name,
                tags={
                    **(tags or {}),
                    **{f"mlpop.{key}": value for key, value in seed.items()},
                    CONFIG_DIGEST_TAG: json_digest(dict(resolved)),
                    "mlpop.state": "starting",
                },
                params={**(parameters(resolved) if params is None else params), **seed},
                store=store,
                run_id=None if resumed is None else resumed.run_id,
            ) as run,
            resumable(),
        ):
            check_artifacts(store, run.experiment_id)
            prepare_pages(store, run.experiment_id)
            earlier = {} if resumed is None else resumed.tags
            tree = output_tree(save_dir, name, earlier, run_id=run.run_id, models=models)
            with log_to(tree.log_file), _log_kept(run, tree):
                if root_seed is not None:
                    logger.info("root seed %d", root_seed)
                logger.info("%s", where_to_look(store, run.experiment_id, run.run_id))
                run.set_tags(tree.folders)
                config = tree.models / config_file
                write_atomically(config, json.dumps(resolved, indent=2) + "\n")
                run.send(config)
                launch = Session(run, tree, record_provenance(run))
                run.set_state("running")
                yield launch
            run.commit({"log.txt": tree.log_file, **launch.files})
            logger.info("files: %s", " and ".join(map(str, tree.folders.values())))
            logger.info("%s", where_to_look(store, run.experiment_id, run.run_id, launch.compared))


@contextmanager
def _log_kept(run: TrackedRun, tree: OutputTree) -> Iterator[None]:
    """Store the log of a launch that fails: what went before helps to see why."""
    try:
        yield
    except BaseException:
        # a store that is away must not hold the error up
        if run.answers():
            run.spare(tree.log_file, tree.log_file.name)
        raise
