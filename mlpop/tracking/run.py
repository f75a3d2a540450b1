"""One open MLflow run, and all that can be written to it."""

import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlpop.config.names import key_of
from mlpop.errors import TrackingError
from mlpop.io.digits import rounded
from mlpop.io.errors import StoreAway
from mlpop.tracking import artifacts
from mlpop.tracking.artifacts import Record
from mlpop.tracking.curves import CurveBuffer
from mlpop.tracking.outages import answers, patiently
from mlpop.tracking.owner import OWNER_TAG, Owner, owner_of
from mlpop.tracking.params import PREFIX, logged_value
from mlpop.tracking.store import Store, few_retries, translated

logger = logging.getLogger(__name__)

NOTE_TAG = "mlflow.note.content"
PARENT_TAG = "mlflow.parentRunId"
ENDED_TAG = "mlpop.ended"
# MLflow's pages do not show tags that begin so
STAGE_TAG = "mlflow.mlpop.stage"
CONFIG_DIGEST_TAG = "mlflow.mlpop.config_digest"
NOW_TAG = "mlpop.now"
PARAMS_PER_CALL = 100
LONGEST_TAG = 5000
DIGEST_LENGTH = 36  # most characters that MLflow takes for the digest of a dataset


class TakenOver(TrackingError):
    """Another process works on the run: this one must not write into it any more."""


@dataclass(frozen=True)
class TrackedRun:
    """An open run.

    Attributes:
        store: where it is kept.
        run_id: its id in MLflow.
        experiment_id: the MLflow experiment it is in.
        kind: the noun it stands for: experiment, round, member, dynamics, ...
        name: its name in MLflow.
        root_id: id of the run at the top of its tree.
        parent_id: id of the run it is nested in, None at the top.
        artifact_uri: where its artifacts are kept.
        curves: its curves, sent in the background.
        records: digests of the artifacts that this process sent.
    """

    store: Store
    run_id: str
    experiment_id: str
    kind: str
    name: str
    root_id: str
    parent_id: str | None
    curves: CurveBuffer
    artifact_uri: str = ""
    records: dict[str, Record] = field(default_factory=dict)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; a value of None is left out, others become text.

        Raises:
            TrackingError: the store refuses, or was away until the deadline.
        """
        patiently(lambda: self.try_tags(tags), f"tags of run {self.run_id}")

    def try_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags in one attempt, see `set_tags`."""
        from mlflow.entities import RunTag

        items = [
            RunTag(key, str(value)[:LONGEST_TAG])
            for key, value in tags.items()
            if value is not None
        ]
        with translated(f"tags of run {self.run_id}"):
            self.store.client.log_batch(self.run_id, tags=items)

    def set_state(self, state: str) -> None:
        """Say what the run is at: the tag `mlpop.state`, and `STAGE_TAG` until it is complete.

        A run that is stopped loses its state, but not its stage.
        """
        stage = {} if state == "complete" else {STAGE_TAG: state}
        self.set_tags({"mlpop.state": state} | stage)

    def set_note(self, markdown: str) -> None:
        """Set the description that MLflow shows on the page of the run."""
        self.set_tags({NOTE_TAG: markdown})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters under `cfg.`, apart from those that MLflow Projects logs itself.

        A parameter never changes in MLflow. Where a resumed run has another value now, the first
        stays and the new one becomes the tag `mlpop.now.<key>`.

        Raises:
            TrackingError: the store refuses, or was away until the deadline.
        """
        from mlflow.entities import Param

        client = self.store.client
        values = {key_of(f"{PREFIX}{key}"): logged_value(value) for key, value in params.items()}

        def attempt() -> dict[str, str]:
            logged: dict[str, str] = client.get_run(self.run_id).data.params
            new = [Param(key, value) for key, value in values.items() if key not in logged]
            for start in range(0, len(new), PARAMS_PER_CALL):
                client.log_batch(self.run_id, params=new[start : start + PARAMS_PER_CALL])
            return logged

        logged = patiently(attempt, f"parameters of run {self.run_id}")
        changed = {
            f"{NOW_TAG}.{key.removeprefix(PREFIX)}": value
            for key, value in values.items()
            if logged.get(key, value) != value
        }
        if changed:
            self.set_tags(changed)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log final numbers, `rounded`, at once; curves go through `curves`.

        Names become keys by `key_of`.

        A number that a resumed run has at this step already is not logged again.

        Raises:
            TrackingError: the store refuses, or was away until the deadline.
        """
        from mlflow.entities import Metric

        values = rounded({key_of(name): value for name, value in metrics.items()})
        # an attempt whose answer is lost is repeated with the same time, and so counts once
        now = time.time_ns() // 1_000_000

        def attempt() -> None:
            logged = self._logged(values, step) if self.curves.continued else set()
            items = [
                Metric(key, value, now, step) for key, value in values.items() if key not in logged
            ]
            self.store.client.log_batch(self.run_id, metrics=items)

        patiently(attempt, f"metrics of run {self.run_id}")

    def _logged(self, metrics: Mapping[str, float], step: int) -> set[str]:
        """Return which of these numbers the run has at this step already."""
        client = self.store.client
        logged = client.get_run(self.run_id).data.metrics
        return {
            key
            for key in metrics.keys() & logged.keys()
            if any(m.step == step for m in client.get_metric_history(self.run_id, key))
        }

    def send(self, path: Path, name: str | None = None) -> Record:
        """Store a file as artifact `name` and remember its digest for the manifest."""
        record = artifacts.send(self.store.client, self.run_id, path, name)
        self.records[name or path.name] = record
        return record

    def answers(self) -> bool:
        """Whether the servers that keep the run can be reached now: asked within seconds."""
        return answers(self.store.uri, self.artifact_uri)

    def store_answers(self) -> bool:
        """Whether the tracking store can be reached now, wherever the artifacts are."""
        return answers(self.store.uri, "")

    def _send_curves(self) -> None:
        """Send the curves; wait for a store that is away. One that refuses them is a warning.

        Raises:
            TrackingError: the store was away until the deadline; the curves are on disk.
        """
        what = f"curves of run {self.run_id}"

        def attempt() -> None:
            if not self.curves.flush() and not self.store_answers():
                raise StoreAway(f"{what}: {self.store.safe_uri} does not answer")

        patiently(attempt, what)

    def _require_mine(self) -> None:
        """Refuse to go on with a run that another machine took for dead and has taken over.

        That happens where this process could not tell for long that it lives.

        Raises:
            TakenOver: who works on it now.
        """
        run = patiently(lambda: self.store.client.get_run(self.run_id), f"run {self.run_id}")
        tags = run.data.tags
        if Owner.from_tag(tags.get(OWNER_TAG)) not in (None, Owner.current()):
            raise TakenOver(
                f"run {self.run_id} was taken over by {owner_of(tags)}, "
                "which could not see that this one lives"
            )

    def spare(self, path: Path, name: str) -> bool:
        """Store a file that no manifest lists, such as a checkpoint; never raises.

        Returns:
            Whether it is stored. A store that is away is a warning: the work goes on.
        """
        try:
            with few_retries():
                artifacts.send(self.store.client, self.run_id, path, name)
        except TrackingError as error:
            logger.warning("%s: not stored: %s", name, error)
            return False
        return True

    def spare_text(self, text: str, name: str) -> bool:
        """Store a text that no manifest lists, see `spare`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "text")
            path.write_text(text, encoding="utf-8")
            return self.spare(path, name)

    def send_json(self, name: str, value: Any) -> Record:
        """Store a value as a JSON artifact."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "value.json")
            path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
            return self.send(path, name)

    def send_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Store a table that MLflow's evaluation view compares between runs, row by row.

        Args:
            name: of the artifact, ending in `.json`.
            columns: their names; the first one says what a row is about.
            rows: one value a column.
        """
        self.send_json(name, {"columns": list(columns), "data": [list(row) for row in rows]})
        self.set_tags({"mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"}])})

    def keep(self, name: str) -> Record:
        """Take an artifact that an earlier process sent into the manifest of this one."""
        with artifacts.fetched(self.store.client, self.run_id, name) as path:
            record = self.records[name] = artifacts.file_record(path)
        return record

    def log_dataset(
        self,
        name: str,
        digest: str,
        source: str,
        context: str,
        profile: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a dataset as an input of the run: the Dataset column of MLflow's run table.

        Args:
            name: what the dataset is called, for instance `training`; see `recorded_datasets`.
            digest: of its content; MLflow shows the first 36 characters, the source has all.
            source: path or URI of its index file.
            context: what it is used for, for instance `training`, `testing`, `observed`.
            profile: numbers to show with it, for instance the number of rows.

        Raises:
            TrackingError: the store refuses, or was away until the deadline.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source, "digest": digest}),
            profile=json.dumps(dict(profile)) if profile else None,
        )
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        patiently(
            lambda: self.store.client.log_inputs(self.run_id, datasets=inputs),
            f"dataset {name} of run {self.run_id}",
        )

    def commit(self, files: Mapping[str, Path] | None = None) -> dict[str, Any]:
        """Store `files`, then the manifest of all that was sent, and say `complete`.

        Raises:
            TakenOver: another process works on the run.
            TrackingError: something could not be stored; the run is then not complete.
        """
        self._send_curves()
        self._require_mine()
        manifest = artifacts.commit(self.store.client, self.run_id, files or {}, self.records)
        self.records.update(artifacts.manifest_records(manifest))
        self.set_state("complete")
        return manifest


def six_digits(value: float) -> float:
    """Return a number as it is logged: MLflow's pages and its copies of it agree."""
    return float(f"{float(value):.6g}")
