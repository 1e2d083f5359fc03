"""The U-Net with weights made by a formula gives the original's numbers; what its options promise holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dexter_model.composer.config import DataConfig, NetworkConfig
from dexter_model.composer.layers import ConvBlock, SelfAttention
from dexter_model.composer.network import ComposerUnet, Stage, time_embedding

REFERENCE = NetworkConfig(time_injection="reference", exchange="reference")
SMALL = NetworkConfig(channels=16)
PROBES = {
    "input": (-0.29310, -0.63568, 0.08793),
    "place": (-0.37993, -1.46655, -0.31356),
    "down.0": (1.14466, -0.05916, 1.50369),
    "down_attention.0": (1.38324, -0.34533, 2.42585),
    "down_attention.1": (-0.99555, -0.32726, 0.33091),
    "down_attention.2": (1.58780, 1.36398, -0.19184),
    "middle.2": (-0.48200, 0.61160, 0.39888),
    "up_attention.0": (0.17885, 0.90203, 1.22531),
    "up_attention.1": (0.68803, 2.38498, -0.97915),
    "up_attention.2": (1.50111, -1.46067, 1.72303),
}
OUTPUT = {
    (0, 0): (-0.82155, -1.29615, 1.26727),
    (0, 1): (0.17023, -0.00984, 1.32328),
    (0, 64): (0.00211, 0.40616, -1.18853),
    (0, 127): (1.25890, 0.63186, -1.11967),
    (1, 0): (-0.92894, -0.21880, 0.03419),
    (1, 63): (0.04443, 1.51288, -0.29223),
    (1, 127): (0.34526, 0.58087, -0.64406),
}


def weights_of(module: nn.Module) -> Iterator[tuple[Tensor, str]]:
    """Weights in the original's order, with the kind that tells their layout there."""
    if isinstance(module, ConvBlock):
        yield from ((module.conv1.weight, "conv"), (module.conv2.weight, "conv"))
        yield from norms_of(module)
        for squeeze in (module.scale1, module.scale2):
            yield from ((squeeze.squeeze.weight, "dense"), (squeeze.excite.weight, "dense"))
    elif isinstance(module, SelfAttention):
        for name in ("query", "key", "value", "output"):
            layer = getattr(module, name)
            yield from ((layer.weight, "dense" if name == "output" else "heads"), (layer.bias, "bias"))
        yield from norms_of(module)
        for layer in (module.dense1, module.dense2):
            yield from ((layer.weight, "dense"), (layer.bias, "bias"))
    elif isinstance(module, Stage):
        for part in (module.block1, module.block2, module.time):
            yield from weights_of(part)
    elif isinstance(module, (nn.Linear, nn.Conv1d)):
        yield from ((module.weight, "dense" if isinstance(module, nn.Linear) else "conv"), (module.bias, "bias"))  # type: ignore[misc]
    else:
        raise TypeError(type(module))


def norms_of(module: ConvBlock | SelfAttention) -> Iterator[tuple[Tensor, str]]:
    for norm in (module.norm1, module.norm2):
        yield from ((norm.weight, "scale"), (norm.bias, "bias"))


def in_order(net: ComposerUnet) -> list[tuple[Tensor, str]]:
    def pairs(stages: Any, attentions: Any) -> list[nn.Module]:
        return [each for pair in zip(stages, attentions, strict=True) for each in pair]

    parts = [net.input, net.place, *pairs(net.down, net.down_attention), *net.middle]
    parts += [*pairs(net.up, net.up_attention), net.output]
    return [weight for part in parts for weight in weights_of(part)]


def formula(number: int, size: int) -> np.ndarray:
    j = np.arange(size, dtype=np.float64)
    s = np.sin(12.9898 * (j + 1) + 78.233 * (number + 1)) * 43758.5453
    return 2.0 * (s - np.floor(s)) - 1.0


def original_layout(weight: Tensor, kind: str, number: int) -> Tensor:
    """The formula's values as the original shapes them, turned to this network's layout."""
    u = formula(number, weight.numel())
    if kind in ("bias", "scale"):
        return torch.from_numpy(0.1 * u + (kind == "scale")).float()
    shape = tuple(reversed(weight.shape))  # (in, out), or (k, in, out)
    last = shape[-1] // 2 if kind == "heads" else shape[-1]  # q, k, v: (in, head, width)
    kernel = torch.from_numpy(u * np.sqrt(3.0 * last / len(u))).float().reshape(shape)
    return kernel.permute(*reversed(range(kernel.ndim)))


def formula_network(config: NetworkConfig = REFERENCE, rows: int = 1) -> ComposerUnet:
    net = ComposerUnet(config, DataConfig(rows=rows, programs="all"))
    with torch.no_grad():
        for number, (weight, kind) in enumerate(in_order(net)):
            weight.copy_(original_layout(weight, kind, number))
    return net.eval()


def asked(net: ComposerUnet, x_BHN3: Tensor, t: list[int], active: Tensor | None = None) -> Tensor:
    rows = x_BHN3.shape[:2]
    active = torch.ones(rows, dtype=torch.bool) if active is None else active
    with torch.no_grad():
        return net(x_BHN3, torch.tensor(t), torch.zeros(rows, dtype=torch.long), active)


def golden_input() -> Tensor:
    w, c = np.arange(128)[:, None], np.arange(3)[None]
    return torch.from_numpy(np.stack([np.sin(0.1 * w + c), np.cos(0.05 * w - c)])[:, None]).float()


def test_the_weights_are_as_many_as_the_originals() -> None:
    net = ComposerUnet(REFERENCE, DataConfig())
    counts = {name: sum(w.numel() for w in part.parameters()) for name, part in net.named_children()}
    assert counts["input"] == 31_296
    assert [sum(w.numel() for w in stage.parameters()) for stage in net.down] == [202_624, 743_168, 1_411_328]
    assert [sum(w.numel() for w in block.parameters()) for block in net.middle] == [1_247_232, 1_640_448, 607_232]
    assert [sum(w.numel() for w in stage.parameters()) for stage in net.up] == [3_552_128, 896_960, 247_616]
    for rows in (1, 4):
        net = ComposerUnet(REFERENCE, DataConfig(rows=rows, programs="all"))
        assert sum(weight.numel() for weight in net.parameters()) == 12_316_355
    assert sum(weight.numel() for weight in ComposerUnet(NetworkConfig(), DataConfig()).parameters()) == 12_316_355


def test_the_formula_gives_the_golden_weights() -> None:
    kinds = in_order(ComposerUnet(REFERENCE, DataConfig()))
    assert len(kinds) == 272
    firsts = [original_layout(kinds[k][0], kinds[k][1], k) for k in (0, 2, 271)]
    np.testing.assert_allclose(
        firsts[0].permute(2, 1, 0).flatten()[:4], [0.18149, 0.04868, -0.03421, -0.17205], atol=1e-5
    )
    np.testing.assert_allclose(firsts[1][:3], [0.98398, 0.95929, 1.08066], atol=1e-5)
    np.testing.assert_allclose(firsts[2], [-0.02247, -0.08512, 0.09097], atol=1e-5)


def test_the_network_gives_the_originals_numbers() -> None:
    net = formula_network()
    seen: dict[str, Tensor] = {}
    net.down[0].register_forward_pre_hook(lambda _, given: seen.update(place=given[0]))
    for name in PROBES.keys() - {"place"}:
        net.get_submodule(name).register_forward_hook(lambda _, __, made, name=name: seen.update({name: made}))
    output = asked(net, golden_input(), [10, 500])
    for name, expected in PROBES.items():
        np.testing.assert_allclose(seen[name][0, 0, :3, 5], expected, atol=1e-3, err_msg=name)
    assert float(seen["input"].std(correction=0)) == pytest.approx(0.51650, abs=1e-3)
    for (segment, note), expected in OUTPUT.items():
        np.testing.assert_allclose(output[segment, 0, note], expected, atol=1e-3)
    assert float(output.mean()) == pytest.approx(0.163454, abs=1e-3)
    assert float(output.std(correction=0)) == pytest.approx(1.090947, abs=1e-3)
    assert float(output.abs().sum()) == pytest.approx(671.3525, abs=0.05)


def test_times_are_embedded_as_the_originals() -> None:
    embedded = time_embedding(torch.tensor([500]), 256)[0]
    np.testing.assert_allclose(
        embedded[[0, 1, 127, 128, 255]], [-0.46777, 0.06670, 0.04998, -0.88385, 0.99875], atol=1e-4
    )


def test_a_broadcast_time_is_the_same_at_all_notes() -> None:
    stage = Stage(16, 32, replace(SMALL, time_injection="broadcast"))
    x, time = torch.randn(2, 1, 16, 24), torch.randn(2, 256)
    added = stage(x, time) - stage.block2(stage.block1(x))
    torch.testing.assert_close(added, added[..., :1].expand_as(added), atol=1e-5, rtol=0)
    stage.broadcast = False
    scrambled = (stage(x, time) - stage.block2(stage.block1(x)))[0, 0]  # (C, W)
    number = torch.arange(24)[None] * 32 + torch.arange(32)[:, None]
    torch.testing.assert_close(
        scrambled, stage.time(torch.nn.functional.silu(time))[0, number // 24], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("causal", [False, True])
def test_only_the_causal_network_hears_no_later_note(causal: bool) -> None:
    torch.manual_seed(0)
    net = ComposerUnet(replace(SMALL, causal=causal), DataConfig()).double()
    x = torch.randn(1, 1, 64, 3, dtype=torch.float64)
    plain = asked(net, x, [300])
    for note in (1, 21, 40, 63):
        changed = x.clone()
        changed[0, 0, note] += 1.0
        difference = (asked(net, changed, [300]) - plain)[0, 0].abs().sum(dim=1)
        assert (difference[note:] > 0).all()
        assert bool((difference[:note] == 0).all()) == causal


def test_reference_rows_meet_in_means_and_attention_without_new_weights() -> None:
    one, two = formula_network(rows=1), formula_network(rows=2)
    x = golden_input().transpose(0, 1)  # two rows of one segment
    output = asked(two, x, [10])
    assert output.shape == (1, 2, 128, 3)
    changed = x.clone()
    changed[0, 1] += 0.5
    assert (asked(two, changed, [10])[0, 0] - output[0, 0]).abs().max() > 1e-3
    assert (output[:, :1] - asked(one, x[:, :1], [10])).abs().max() > 1e-2


def row_network(rows: int = 3) -> ComposerUnet:
    torch.manual_seed(0)
    net = ComposerUnet(SMALL, DataConfig(rows=rows, programs="all"))
    for attention in [*net.down_rows, *net.up_rows]:
        for layer in (attention.output, attention.dense2):
            nn.init.normal_(layer.weight, std=0.2)
    return net.eval()


def test_rows_hear_each_other_but_none_that_sleeps() -> None:
    net, x = row_network(), torch.randn(2, 3, 32, 3)
    active = torch.tensor([[True, True, False], [True, True, True]])
    plain = asked(net, x, [5, 700], active)
    changed = x.clone()
    changed[:, 2] += 1.0
    difference = (asked(net, changed, [5, 700], active) - plain).abs().amax(dim=(2, 3))
    assert (difference[0, :2] == 0).all()
    assert (difference[1] > 1e-4).all()
    assert asked(net, x, [5, 700], torch.zeros(2, 3, dtype=torch.bool)).isfinite().all()


def test_programs_matter_and_the_order_of_rows_does_not() -> None:
    net, x = row_network(), torch.randn(1, 3, 32, 3)
    programs, active = torch.tensor([[0, 40, 73]]), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        plain = net(x, torch.tensor([9]), programs, active)
        other = net(x, torch.tensor([9]), torch.tensor([[0, 41, 73]]), active)
        order = torch.tensor([2, 0, 1])
        turned = net(x[:, order], torch.tensor([9]), programs[:, order], active)
    assert (other - plain).abs().max() > 1e-4
    torch.testing.assert_close(turned, plain[:, order], atol=1e-5, rtol=1e-4)


def test_with_one_row_both_exchanges_are_one_network() -> None:
    torch.manual_seed(0)
    net = ComposerUnet(SMALL, DataConfig())
    other = ComposerUnet(replace(SMALL, exchange="reference"), DataConfig())
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, 1, 16, 3)
    assert torch.equal(asked(net, x, [3, 4]), asked(other, x, [3, 4]))
