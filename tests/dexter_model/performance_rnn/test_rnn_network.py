"""Cells, parameter counts and full-size losses of the specification, and two ways through one network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from golden_pieces import PIECE, columns
from torch import Tensor, nn

from dexter_model.performance_rnn.config import PUBLISHED, NetworkConfig
from dexter_model.performance_rnn.controls import controls_of_events
from dexter_model.performance_rnn.encodings import heads, tokens_of_notes
from dexter_model.performance_rnn.events import step_notes
from dexter_model.performance_rnn.layers import Dense, LstmLayer
from dexter_model.performance_rnn.loss import Batch, token_loss
from dexter_model.performance_rnn.network import PerformanceRnn, in_bfloat16, initial_network

PARAMETERS = [6160740, 6242692, 6242692, 5480836, 6055739, 6259076, 6267268, 6283652, 6285700]
GOLDEN = {  # loss, first logit of the first step, last one of the last
    "performance": (5.889265, 0.111120, 0.006190),
    "performance_with_dynamics": (5.963467, 0.114824, 0.126439),
    "performance_with_dynamics_compact": (5.963467, 0.114824, 0.126439),
    "performance_with_dynamics_and_modulo_encoding": (5.951839, 0.115482, 0.170271),
    "performance_with_dynamics_and_note_encoding": (3.705937, 0.102168, 0.002881),
    "density_conditioned_performance_with_dynamics": (5.960780, 0.114482, 0.087989),
    "pitch_conditioned_performance_with_dynamics": (5.964378, 0.114626, 0.027815),
    "multiconditioned_performance_with_dynamics": (5.979807, 0.113900, 0.137815),
    "optional_multiconditioned_performance_with_dynamics": (5.964075, 0.114528, 0.064938),
}
SMALL: dict[str, Any] = {
    "plain": {},
    "modulo": {"encoding": "modulo"},
    "notes": {"encoding": "notes"},
    "steered": {"density": True, "histogram": True, "optional": True},
    "attention": {"attention": 5, "density": True},
    "residual": {"residual": True},
    "attention and residual": {"attention": 3, "residual": True},
}


def hashed(k: int, shape: tuple[int, ...]) -> Tensor:
    j = np.arange(np.prod(shape))
    x = np.sin(12.9898 * (j + 1) + 78.233 * (k + 1)) * 43758.5453
    return torch.from_numpy((2 * (x - np.floor(x)) - 1).reshape(shape))


def fill(tensors: list[nn.Parameter], *, scaled: bool) -> None:
    for k, weights in enumerate(tensors):
        rows = weights.shape[0] if weights.dim() > 1 else 300.0
        weights.data = hashed(k, tuple(weights.shape)) * (np.sqrt(3 / rows) if scaled else 1.0)


def batch_of_piece(config: NetworkConfig) -> Batch:
    tokens = tokens_of_notes(step_notes(*columns(PIECE)), config)
    assert tokens is not None
    tokens_BTK = torch.from_numpy(tokens.astype(np.int64))[None]
    controls = controls_of_events(tokens_BTK[..., 0], config, torch.tensor([False]))
    return Batch(tokens_BTK, controls.double())


def small(**settings: Any) -> PerformanceRnn:
    return initial_network(replace(NetworkConfig(layers=(12, 8)), **settings), 1).double().eval()


def random_tokens(config: NetworkConfig, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.stack([torch.randint(0, classes, shape, generator=generator) for classes in heads(config)], dim=-1)


def test_golden_cells() -> None:
    first, second, head = LstmLayer(5, 4), LstmLayer(4, 4), Dense(4, 6)
    fill([first.kernel, first.bias, second.kernel, second.bias, head.weights, head.biases], scaled=False)
    outputs = second(first(hashed(99, (1, 3, 5))))
    expected = [
        [-0.062766, 0.192148, -0.006967, -0.098406],
        [-0.156380, 0.250436, -0.016683, -0.150073],
        [-0.135713, 0.378453, -0.002804, -0.243211],
    ]
    np.testing.assert_allclose(outputs[0].detach(), expected, atol=1e-6)
    logits = [
        [0.761596, -0.897533, -0.836766, 0.770481, -0.802093, -0.388350],
        [0.856951, -0.905441, -0.737625, 0.872749, -0.781848, -0.340422],
    ]
    np.testing.assert_allclose(head(outputs)[0, [0, 2]].detach(), logits, atol=1e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_golden_losses_of_full_size_networks(name: str) -> None:
    config = PUBLISHED[name]
    network = PerformanceRnn(config).double()
    fill(list(network.parameters()), scaled=True)
    assert (
        sum(weights.numel() for weights in network.parameters()) == dict(zip(PUBLISHED, PARAMETERS, strict=True))[name]
    )
    batch = batch_of_piece(config)
    with torch.no_grad():
        logits = network(*batch.inputs)[0]
        loss = token_loss(network, batch, heads(config))
    np.testing.assert_allclose([loss, logits[0, 0], logits[-1, -1]], GOLDEN[name], atol=1e-6)


@pytest.mark.parametrize("kind", SMALL)
def test_a_token_at_a_time_is_a_sequence_at_once(kind: str) -> None:
    network = small(**SMALL[kind])
    tokens = random_tokens(network.config, 3, 9)
    controls = torch.rand(3, 9, network.config.controls, dtype=torch.float64)
    with torch.no_grad():
        state, logits = network.initial(3), []
        for t in range(9):
            found, state = network.step(tokens[:, t], controls[:, t], state)
            logits.append(found)
        torch.testing.assert_close(torch.stack(logits, dim=1), network(tokens, controls), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", SMALL)
def test_bfloat16_says_nearly_the_same(kind: str) -> None:
    network, half = small(**SMALL[kind]).float(), in_bfloat16(small(**SMALL[kind]).float())
    tokens, controls = random_tokens(network.config, 3, 20), torch.rand(3, 20, network.config.controls)
    states = network.initial(3), half.initial(3)
    with torch.no_grad():
        for t in range(20):
            said, states = zip(
                *(made.step(tokens[:, t], controls[:, t], s) for made, s in zip((network, half), states, strict=True)),
                strict=True,
            )
    torch.testing.assert_close(said[0], said[1], atol=0.02, rtol=0.0)
    assert said[1].dtype == torch.float32


@pytest.mark.parametrize("kind", SMALL)
def test_every_weight_learns(kind: str) -> None:
    network = small(**SMALL[kind])
    tokens = random_tokens(network.config, 3, 9)
    controls = torch.rand(3, 9, network.config.controls, dtype=torch.float64)
    token_loss(network, Batch(tokens, controls), heads(network.config)).backward()
    assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in network.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_first_loss_is_that_of_chance(name: str) -> None:
    batch = batch_of_piece(PUBLISHED[name])
    network = initial_network(replace(PUBLISHED[name], layers=(64,)), 3)
    batch = Batch(batch.tokens_BTK, batch.controls_BTC.float())
    chance = {"performance": 5.875, "performance_with_dynamics_and_note_encoding": 3.689}.get(name, 5.961)
    assert token_loss(network, batch, heads(network.config)).item() == pytest.approx(chance, abs=0.02)


def test_what_comes_after_a_sequence_changes_nothing() -> None:
    network = small()
    tokens = random_tokens(network.config, 2, 9)
    none = torch.zeros(2, 9, 0, dtype=torch.float64)
    tokens[1, 5:] = -1
    together = token_loss(network, Batch(tokens, none), heads(network.config)).item()
    parts = [
        token_loss(network, Batch(tokens[:1], none[:1]), heads(network.config)).item() * 8,
        token_loss(network, Batch(tokens[1:, :5], none[1:, :5]), heads(network.config)).item() * 4,
    ]
    assert together == pytest.approx(sum(parts) / 12, abs=1e-12)


def test_dropout_is_of_outputs_and_only_in_training() -> None:
    network = small(keep=0.5)
    tokens, none = random_tokens(network.config, 2, 9), torch.zeros(2, 9, 0)
    torch.testing.assert_close(network(tokens, none), network(tokens, none))
    network.train()
    assert not torch.equal(network(tokens, none), network(tokens, none))
