"""Makes ``small.mag`` and ``small.json`` with TensorFlow itself, which the tests do not need.

A generator bundle as the original saves it: a protobuf around a checkpoint in TensorFlow's first format and the graph
it is of. The network has two layers of 4 cells and random weights; the JSON holds what TensorFlow's own LSTM cell and
head say for a few events, as logits.

    python -m venv tf && tf/bin/pip install tensorflow-cpu && tf/bin/python make_bundle.py [FOLDER]
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

LAYERS, CLASSES, EVENTS = (4, 4), 388, [355, 380, 60, 300, 188, 355]
NAME = "performance_with_dynamics"


def bundle_message() -> type:
    """The message class of a generator bundle."""
    file = descriptor_pb2.FileDescriptorProto(name="generator.proto", package="bundle", syntax="proto3")
    string, data, message = 9, 12, 11
    messages: dict[str, list[tuple[str, int, int | str, int]]] = {
        "Details": [("id", 1, string, 1), ("description", 2, string, 1)],
        "BundleDetails": [("description", 1, string, 1)],
        "Bundle": [
            ("generator_details", 1, ".bundle.Details", 1),
            ("checkpoint_file", 2, data, 3),
            ("metagraph_file", 3, data, 1),
            ("bundle_details", 4, ".bundle.BundleDetails", 1),
        ],
    }
    for name, fields in messages.items():
        described = file.message_type.add(name=name)
        for field, number, kind, label in fields:
            kinds = {"type": kind} if isinstance(kind, int) else {"type": message, "type_name": kind}
            described.field.add(name=field, number=number, label=label, **kinds)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bundle.Bundle"))


def main(folder: Path) -> None:
    tf.compat.v1.disable_eager_execution()
    generator, v1 = np.random.default_rng(5), tf.compat.v1
    variables, x, width = [], tf.one_hot(EVENTS, CLASSES), CLASSES

    def variable(name: str, *shape: int) -> tf.Variable:
        value = generator.normal(size=shape).astype(np.float32)
        variables.append(v1.get_variable(name, initializer=tf.constant(value), use_resource=False))
        return variables[-1]

    for layer, cells in enumerate(LAYERS):
        scope = f"rnn/multi_rnn_cell/cell_{layer}/basic_lstm_cell"
        kernel, bias = variable(f"{scope}/kernel", width + cells, 4 * cells), variable(f"{scope}/bias", 4 * cells)
        c = h = tf.zeros((1, cells))
        none, outputs = tf.zeros(cells), []
        for t in range(len(EVENTS)):
            _, c, _, _, _, _, h = tf.raw_ops.LSTMBlockCell(
                x=x[t : t + 1], cs_prev=c, h_prev=h, w=kernel, wci=none, wcf=none, wco=none, b=bias, forget_bias=1.0
            )
            outputs.append(h)
        x, width = tf.concat(outputs, axis=0), cells
    logits = x @ variable("fully_connected/weights", width, CLASSES) + variable("fully_connected/biases", CLASSES)
    variables.append(v1.get_variable("global_step", initializer=tf.constant(7, tf.int64), use_resource=False))
    variable("fully_connected/biases/Adam", CLASSES)
    saver = v1.train.Saver(variables, write_version=v1.train.SaverDef.V1)
    with v1.Session() as session, tempfile.TemporaryDirectory() as scratch:
        session.run(v1.global_variables_initializer())
        saver.save(session, f"{scratch}/model.ckpt")
        said = session.run(logits)
        bundle = bundle_message()(
            generator_details={"id": NAME, "description": "Performance RNN with dynamics"},
            checkpoint_file=[Path(scratch, "model.ckpt").read_bytes()],
            metagraph_file=Path(scratch, "model.ckpt.meta").read_bytes(),
            bundle_details={"description": "Random weights"},
        )
    (folder / "small.mag").write_bytes(bundle.SerializeToString())
    (folder / "small.json").write_text(
        json.dumps({"events": EVENTS, "logits": said[:, :8].astype(float).round(5).tolist()}) + "\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
