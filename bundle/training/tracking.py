"""Curves of a training: TensorBoard always, MLflow when asked. A resumed run goes on in the same curves."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ignite.engine import Events
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch.utils.tensorboard import SummaryWriter

from bundle.common import processes
from bundle.common.errors import InputError
from bundle.common.extras import install_line
from bundle.common.run_folder import PROVENANCE, amend, read_record
from bundle.evaluation.tables import means
from bundle.training.run_state import RunKeeper
from bundle.training.trainers import CycleTrainer
from bundle.training.validation import Validation

logger = logging.getLogger("bundle")
EXPERIMENT = "virtual staining"
WIRING = {"imports", "initialize", "finalize", "run"}  # lists of a config that are no setting


class Curves:
    """Writes the losses of every step to TensorBoard.

    Steps taken again after a kill replace those of the first time, and what ``latest.pt`` holds is on disk
    before it is written: every step is in the curves once, whatever happened to the run.

    Args:
        writer: TensorBoard's.
    """

    def __init__(self, writer: SummaryWriter) -> None:
        self.writer = writer
        self.begun = False

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer, before what saves the run; in the main process."""
        if processes.is_main():
            engine.add_event_handler(Events.EPOCH_STARTED, self.epoch_started)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.iteration_completed)
            engine.add_event_handler(Events.COMPLETED, self.writer.flush)

    def epoch_started(self, engine: CycleTrainer) -> None:
        """Where this part of the run begins, void all that an earlier part wrote of later steps."""
        if not self.begun:
            event = Event(step=engine.state.iteration + 1, session_log=SessionLog(status=SessionLog.START))
            self.writer._get_file_writer().add_event(event)
            self.begun = True

    def iteration_completed(self, engine: CycleTrainer) -> None:
        """One step."""
        for name, value in engine.state.output.items():
            self.writer.add_scalar(name, value, engine.state.iteration)
        self.writer.flush()


class MlflowRun:
    """Reports a training to MLflow: settings at its start, means at each epoch's end, the record at its end.

    The run's id is kept in ``provenance.json``; a resumed run goes on in the same MLflow run, and an epoch
    made again after a kill is not reported again.

    Args:
        output_dir: the run's folder.
        keeper: has the sums of each epoch.
        validation: has the scores of the epochs that are validated.
        mlflow: ``True`` for a file store in ``mlflow/`` of the run's folder, or the URI of a store or server;
            ``False`` reports nothing.
        method: what is trained, for a tag.

    Raises:
        InputError: if it is asked for and MLflow is not installed, or ``mlflow`` is neither.
    """

    def __init__(
        self,
        output_dir: str,
        keeper: RunKeeper,
        validation: Validation,
        mlflow: bool | str = False,
        method: str = "",
    ) -> None:
        self.folder = Path(output_dir)
        self.keeper, self.validation = keeper, validation
        self.method = method
        self.client: Any = None
        self.run_id = ""
        self.reported: set[int] = set()
        self.unsent: list[Any] = []
        if not isinstance(mlflow, (bool, str)) or mlflow == "":
            raise InputError(f"mlflow is {mlflow!r}; it must be true, false or the URI of a tracking server.")
        if mlflow and find_spec("mlflow") is None:
            raise InputError(f"mlflow is asked for but not installed; {install_line('mlflow')}, or leave the id out.")
        self.uri = (self.folder.resolve() / "mlflow").as_uri() if mlflow is True else mlflow

    def attach(self, engine: CycleTrainer) -> None:
        """Register with the trainer, before what saves the run; in the main process, if it is asked for."""
        if self.uri and processes.is_main():
            engine.add_event_handler(Events.STARTED, self.started)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_completed)
            engine.add_event_handler(Events.EXCEPTION_RAISED, self.exception_raised)

    def started(self, engine: CycleTrainer) -> None:
        """Begin an MLflow run, or go on with the one on record.

        Raises:
            InputError: if the store or server does not take it; later failures are warned of alone.
        """
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # since 3.13 a file store must be asked for twice
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 7 hold a step up for minutes
        from mlflow.exceptions import MlflowException

        try:
            self.open()
        except MlflowException as error:
            raise InputError(
                f"mlflow {self.uri} cannot be used ({first_line(error)}); start the server, or leave the id out."
            ) from error

    def open(self) -> None:
        """Connect, and make a run or find the one on record."""
        from mlflow import MlflowClient  # seconds

        record = read_record(self.folder / PROVENANCE)
        self.client = MlflowClient(tracking_uri=str(self.uri))
        known = record.get("mlflow", {})
        if known.get("uri") == self.uri:
            self.run_id = known["run_id"]
            self.client.update_run(self.run_id, status="RUNNING")
            self.reported = {point.step for point in self.client.get_metric_history(self.run_id, "loss")}
            return
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        number = self.client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
        run = self.client.create_run(number, run_name=self.folder.resolve().name, tags=tags(record, self.method))
        self.run_id = run.info.run_id
        for name, value in settings(record["config"]).items():
            self.client.log_param(self.run_id, name, value)
        amend(str(self.folder), mlflow={"uri": self.uri, "run_id": self.run_id})

    def epoch_completed(self, engine: CycleTrainer) -> None:
        """Report the epoch's means, its learning rate, and its validation if it has one."""
        from mlflow.entities import Metric

        epoch, sums = engine.state.epoch, self.keeper.sums
        if epoch in self.reported or not sums.get("steps"):
            return
        values = {name: value / sums["steps"] for name, value in sums.items() if name != "steps"}
        values["learning_rate"] = engine.optimizers["g"].param_groups[0]["lr"]
        scores = {f"validation/{name}": means(self.validation.rows, name) for name in self.validation.slides.metrics}
        values |= {name: by_epoch[epoch] for name, by_epoch in scores.items() if epoch in by_epoch}
        now = int(1000 * time.time())
        points = [Metric(name, float(value), now, epoch) for name, value in values.items()]
        self.reported.add(epoch)
        self.unsent = [*self.unsent, *points][-1000:]  # as many as a call may have
        with outages_told():
            self.client.log_batch(self.run_id, metrics=self.unsent)
            self.unsent = []

    def exception_raised(self, engine: CycleTrainer, error: BaseException) -> None:
        """Mark the run as failed; the error itself is for the keeper."""
        if self.run_id:
            with outages_told():
                self.client.set_terminated(self.run_id, "FAILED")

    def conclude(self) -> None:
        """Attach config and record, and mark the run as finished, or as ended by a signal."""
        if not self.run_id:
            return
        with outages_told():
            for name in ("config.json", PROVENANCE):
                self.client.log_artifact(self.run_id, str(self.folder / name))
            self.client.set_terminated(self.run_id, "KILLED" if self.keeper.stopped_by else "FINISHED")


@contextmanager
def outages_told() -> Iterator[None]:
    """A server that fails in the middle of a run is warned of; the training goes on."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        logger.warning("not reported to MLflow: %s; the training goes on", first_line(error))


def first_line(error: Exception) -> str:
    """The beginning of a message that can be a page long."""
    return str(error).splitlines()[0][:200]


def tags(record: Mapping[str, Any], method: str) -> dict[str, str]:
    """What tells one run from another: code, config, data, method."""
    data = "".join(sorted(record["data_sha256"].values()))
    return {
        "method": method,
        "code": str(record["code"]),
        "config_sha256": record["config_sha256"],
        "data_sha256": sha256(data.encode()).hexdigest(),
        "dataset_dir": record["dataset_dir"],
    }


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The top-level ids of a config that are values, not wiring."""
    wiring = WIRING | {name for name, value in config.items() if isinstance(value, dict)}
    wiring |= {name for name, value in config.items() if isinstance(value, list) and "_target_" in json.dumps(value)}
    return {name: str(value) for name, value in config.items() if name not in wiring}
