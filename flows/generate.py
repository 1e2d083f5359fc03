"""Flow: a generator's checkpoint and a seed in, pieces out."""

from __future__ import annotations

from flows.facts import of_renders
from flows.parameters import AnyGeneration
from flows.render import told
from tasks.generate import GenerateSettings, describe_generation
from tasks.generate import generate as make_pieces
from tasks.orchestration import DAY, flow, only_writer, publish_markdown, tag_run
from tasks.progress import say
from tasks.render import RenderResult
from tasks.runs import recorded


@flow(name="generate", flow_run_name="generate {parameters.out}", timeout_seconds=2 * DAY)
@recorded("generate", lambda parameters: parameters.out, of_renders)
def generate(parameters: AnyGeneration) -> RenderResult:
    """Make pieces by a generator; what is there already is kept."""
    with only_writer(parameters.out):
        result = make_pieces(parameters.out, _settings(parameters))
    tag_run(model=result.checkpoint["label"])
    for line in told(result):
        say(line)
    publish_markdown("generated", "\n".join(f"- {line}" for line in told(result)), "Generated pieces")
    return result


def dry_run(parameters: AnyGeneration) -> str:
    """The model, and how many pieces are to be made."""
    return describe_generation(parameters.out, _settings(parameters))


def _settings(parameters: AnyGeneration) -> GenerateSettings:
    return GenerateSettings(
        parameters.system,
        parameters.checkpoint,
        parameters.pieces,
        parameters.seed,
        parameters.batch_size,
        parameters.workers,
        parameters.gpu_share,
        parameters.how,
    )
