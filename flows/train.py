"""Flow: a data set in, a checkpoint out."""

from __future__ import annotations

from flows.facts import of_training
from flows.parameters import AnyTraining
from tasks.orchestration import DAY, flow, only_writer, publish_markdown, tag_run
from tasks.progress import say
from tasks.runs import recorded
from tasks.train import TrainResult
from tasks.train import train as train_model


@flow(name="train", flow_run_name="train {parameters.out}", timeout_seconds=14 * DAY)
@recorded("train", lambda parameters: parameters.out, of_training)
def train(parameters: AnyTraining) -> TrainResult:
    """Train a model by Ray Train; an interrupted training goes on from its last checkpoint."""
    tag_run(store=parameters.store, model=parameters.label, system=parameters.system)
    with only_writer(parameters.out):
        result = train_model(
            parameters.store,
            parameters.config(),
            parameters.out,
            workers=parameters.workers,
            gpus=parameters.gpus,
            label=parameters.label,
            version=parameters.version,
        )
    how = f"{result.steps} steps, loss {result.loss:.4f}, {result.seconds:.0f} s"
    best = f"; the best one by validation is {result.best}" if result.best else ""
    summary = f"{parameters.label}: {how}, in {result.checkpoint}{best}"
    say(summary)
    publish_markdown("model", summary, "Trained model")
    return result
