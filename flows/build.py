"""Flow: corpora in, a data set version out."""

from __future__ import annotations

from collections import Counter

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.dataset.encodings import encoding
from dexter_model.dataset.perceptual import told_sources
from dexter_model.errors import InputError
from flows.facts import of_build
from flows.parameters import BuildParameters
from tasks.build import BuildResult, build_dataset
from tasks.orchestration import DAY, flow, only_writer, publish_markdown, tag_run
from tasks.progress import say
from tasks.runs import recorded

_REASONS_TOLD = 12


@flow(name="build-dataset", flow_run_name="build {parameters.store}", timeout_seconds=2 * DAY)
@recorded("build", lambda parameters: parameters.store, of_build)
def build(parameters: BuildParameters) -> BuildResult:
    """Make the data set hold the corpora as they are now; what did not change is not computed again."""
    tag_run(store=parameters.store)
    with only_writer(parameters.store, shared=True):
        result = _build(parameters, dry_run=False)
    for line in told(result):
        say(line)
    publish_markdown("dataset", as_markdown(parameters, result), "Data set version")
    return result


def dry_run(parameters: BuildParameters) -> BuildResult:
    """What ``build`` would do, and why; changes nothing."""
    return _build(parameters, dry_run=True)


def _build(parameters: BuildParameters, *, dry_run: bool) -> BuildResult:
    roots = CorpusRoots(datasets_root=parameters.datasets_root, data_root=parameters.data_root)
    robust_only = parameters.robust_alignments_only
    corpora = dict.fromkeys(parameters.corpora)
    found = [piece for corpus in corpora for piece in discover(corpus, roots, robust_only=robust_only)]
    sources = [piece for piece in found if piece.performances]
    if not sources:
        remedy = "Name a corpus with performances; scores alone can be rendered"
        raise InputError(", ".join(parameters.corpora), "no piece has a performance", remedy, "no_performances")
    return build_dataset(
        sources,
        parameters.store,
        encoding=encoding(parameters.encoding, parameters.perceptual),
        workers=parameters.workers,
        retry_quarantined=parameters.retry_quarantined,
        verify=parameters.verify,
        dry_run=dry_run,
    )


def told(result: BuildResult) -> list[str]:
    """A build in a few lines for a person: what ran and why, and the counts, which add up."""
    pieces = [f"  {corpus} {piece}: {reason}" for corpus, piece, reason in result.runs[:_REASONS_TOLD]]
    if len(result.runs) > _REASONS_TOLD:
        reasons = Counter(reason for _, _, reason in result.runs[_REASONS_TOLD:])
        more = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
        pieces.append(f"  ... and {len(result.runs) - _REASONS_TOLD} more ({more})")
    codes = ", ".join(f"{count} {code}" for code, count in result.codes.items())
    return [
        f"{len(result.runs)} pieces encoded, {result.resumed} of them by an interrupted build before; "
        f"{result.unchanged} unchanged, {len(result.removed)} removed"
        + (f"; {len(result.resplit)} in another split, as the rule of splits changed" if result.resplit else ""),
        *pieces,
        f"{result.built} performances built + {result.quarantined} quarantined = {result.discovered} discovered"
        + (f" ({codes})" if codes else ""),
        *([f"perceptual features: {told_sources(result.perceptual)}"] if result.perceptual.keys() - {"none"} else []),
        f"version {result.version}, digest {(result.digest or '')[:12]}, {result.seconds:.1f} s",
    ]


def as_markdown(parameters: BuildParameters, result: BuildResult) -> str:
    """The same for Prefect's artifact."""
    return f"**{parameters.store}** from {', '.join(parameters.corpora)}\n\n" + "\n".join(
        f"- {line.strip()}" for line in told(result)
    )
