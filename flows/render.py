"""Flow: scores in, expressive performances out."""

from __future__ import annotations

from flows.facts import of_renders
from flows.parameters import RenderParameters
from tasks.controls import Controls
from tasks.orchestration import DAY, flow, only_writer, publish_markdown, tag_run
from tasks.progress import say
from tasks.render import RenderResult, RenderSettings, render_scores, render_split
from tasks.runs import recorded


@flow(name="render", flow_run_name="render {parameters.out}", timeout_seconds=2 * DAY)
@recorded("render", lambda parameters: parameters.out, of_renders)
def render(parameters: RenderParameters) -> RenderResult:
    """Render score files, or the pieces of a data set's split; what is rendered already is kept."""
    settings = RenderSettings(
        checkpoint=parameters.checkpoint,
        steps=parameters.steps,
        guidance=parameters.guidance,
        sampler=parameters.sampler,
        eta=parameters.eta,
        depth=parameters.depth,
        controls=Controls(parameters.steer, parameters.steer_curve, parameters.source, parameters.like),
        samples=parameters.samples,
        seed=parameters.seed,
        workers=parameters.workers,
        batch_size=parameters.batch_size,
        gpu_share=parameters.gpu_share,
    )
    tag_run(store=parameters.store)
    with only_writer(parameters.out):
        if parameters.store is None:
            result = render_scores(parameters.scores, parameters.out, settings)
        else:
            which = {"paired": parameters.paired, "pieces": parameters.pieces, "version": parameters.version}
            result = render_split(parameters.store, parameters.split, parameters.out, settings, **which)
    tag_run(store=parameters.store, model=result.checkpoint["label"])
    for line in told(result):
        say(line)
    publish_markdown("renders", "\n".join(f"- {line}" for line in told(result)), "Rendered performances")
    return result


def told(result: RenderResult) -> list[str]:
    """A rendering job in a few lines for a person."""
    refused = [f"quarantined ({row['code']}) {row['path']}: {row['reason']}" for row in result.quarantined]
    seconds = sum(row["duration_sec"] for row in result.renders)
    notes = sum(row["notes"] for row in result.renders)
    made = (
        f"{len(result.renders)} performances ({result.made} made now), {notes:,} notes, {seconds / 60:.1f} min of music"
    )
    return [*refused, f"{made}, {len(result.quarantined)} quarantined, in {result.folder}"]
