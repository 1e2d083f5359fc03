"""Flow: performances in, codec files out."""

from __future__ import annotations

from dexter_model.codec.files import save_codec
from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.reading.sandbox import Sandbox
from flows.parameters import EncodeParameters
from tasks.encode import Encoded, encode_corpus, encode_files
from tasks.orchestration import HOUR, flow
from tasks.progress import say, track

ONE_FILE_SECONDS = 10.0  # of the processor, for a file that a person waits for


@flow(name="encode", flow_run_name="encode {parameters.out}", timeout_seconds=24 * HOUR)
def encode(parameters: EncodeParameters) -> Encoded:
    """Encode one performance to a file, or a corpus to a folder of them; no cluster takes part."""
    out = parameters.out
    if parameters.corpus is None:
        return _encode_one(parameters, out)
    roots = CorpusRoots(datasets_root=parameters.datasets_root, data_root=parameters.data_root)
    sources = discover(parameters.corpus, roots)
    with Sandbox() as sandbox:
        done = encode_corpus(sandbox, track(sources, len(sources), f"Encoding {parameters.corpus}"), out)
    for code, told in done.quarantined:
        say(f"quarantined ({code}) {told}")
    say(f"{out}: {len(done.written)} encoded, {len(done.quarantined)} quarantined")
    return done


def _encode_one(parameters: EncodeParameters, out: str) -> Encoded:
    assert parameters.performance is not None, "the parameters are checked"
    with Sandbox(timeout=ONE_FILE_SECONDS) as sandbox:
        encoded = encode_files(sandbox, parameters.performance, parameters.score, parameters.alignment)
    save_codec(out, encoded)
    unknown = f", {encoded.unknown_ids} ids the score does not have" if encoded.unknown_ids else ""
    say(f"{out}: {len(encoded.matched)} notes, {int(encoded.matched.sum())} matched{unknown}")
    return Encoded([out])
