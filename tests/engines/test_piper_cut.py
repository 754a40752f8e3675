from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from voiceagent.engines.piper_cut import add_output, cut, durations_of

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

CHANNELS = 3
RANDOM = np.random.default_rng(5)


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)


def graph(decoder: list[Any], before: list[Any] | None = None, weights: dict[str, Any] | None = None) -> Any:
    """ "x" -> latent "z" -> `decoder` -> "output"; a Ceil beside the latent, as in VITS."""
    shapes = {"in.w": (CHANNELS, CHANNELS, 5), "up.w": (CHANNELS, 2, 8), "res.w": (2, 2, 3), "out.w": (1, 2, 3)}
    values = {name: RANDOM.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    made = onnx.helper.make_graph(
        [node("Tanh", ["x"], "z"), node("Ceil", ["x"], "w"), *(before or []), *decoder],
        "voice",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, CHANNELS, "T"])],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1, 1, "S"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in {**values, **(weights or {})}.items()],
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8)


def layers(**changed: Any) -> list[Any]:
    """A decoder of hop 4; `changed` replaces one of its nodes."""
    nodes = {
        "first": node("Conv", ["z", "in.w"], "a", pads=[2, 2]),
        "bend": node("LeakyRelu", ["a"], "b"),
        "up": node("ConvTranspose", ["b", "up.w"], "c", strides=[4], pads=[2, 2]),
        "res": node("Conv", ["c", "res.w"], "d", dilations=[4], pads=[4, 4]),
        "sum": node("Add", ["c", "d"], "e"),
        "last": node("Conv", ["e", "out.w"], "output", pads=[1, 1]),
    }
    assert changed.keys() <= nodes.keys()
    return list({**nodes, **changed}.values())


def run(model: Any, **given: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, given)
    return found


def test_the_halves_make_what_the_whole_makes_and_reach_no_further_than_told() -> None:
    model = graph(layers())
    x = RANDOM.normal(size=(1, CHANNELS, 40)).astype(np.float32)
    (whole,) = run(model, x=x)
    decoder = cut(model)
    add_output(model, str(durations_of(model)))
    add_output(model, str(durations_of(model)))  # once is enough
    assert (decoder.latent, decoder.conditions, decoder.hop) == ("z", (), 4)
    latent, frames = run(model, x=x)
    np.testing.assert_array_equal(frames, np.ceil(x))
    assert {weight.name for weight in model.graph.initializer} == set()
    np.testing.assert_allclose(run(decoder.model, z=latent)[0], whole, atol=1e-6)
    changed = latent.copy()
    changed[:, :, 20] += 1.0
    frames_changed = np.flatnonzero((run(decoder.model, z=changed)[0] != run(decoder.model, z=latent)[0])[0, 0]) // 4
    assert 20 - decoder.reach <= frames_changed.min() <= 20 - decoder.reach + 1
    assert 20 + decoder.reach - 1 <= frames_changed.max() <= 20 + decoder.reach


def test_the_voice_of_a_speaker_is_made_before_the_cut() -> None:
    speaker = [node("ReduceMean", ["x"], "g", axes=[2]), node("Conv", ["g", "cond.w"], "cond")]
    decoder = [
        node("Conv", ["z", "in.w"], "a", pads=[2, 2]),
        node("Constant", [], "one", value=onnx.numpy_helper.from_array(np.float32(2.0), "")),
        node("Mul", ["a", "one"], "scaled"),
        *layers(first=node("Add", ["scaled", "cond"], "told"), bend=node("LeakyRelu", ["told"], "b")),
    ]
    weights = {"cond.w": RANDOM.normal(size=(CHANNELS, CHANNELS, 1)).astype(np.float32)}
    model = graph(decoder, speaker, weights)
    x = RANDOM.normal(size=(1, CHANNELS, 12)).astype(np.float32)
    (whole,) = run(model, x=x)
    half = cut(model)
    assert half.conditions == ("cond",)
    latent, cond = run(model, x=x)
    assert cond.shape == (1, CHANNELS, 1)
    np.testing.assert_allclose(run(half.model, z=latent, cond=cond)[0], whole, atol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("Conv", ["z", "in.w"], "output", pads=[2, 2])], "no decoder"),
        (layers(first=node("Softmax", ["z"], "a")), "no decoder"),
        (layers(res=node("Conv", ["c", "res.w"], "d", dilations=[4], pads=[8, 0])), "d is not centred"),
        (layers(up=node("ConvTranspose", ["b", "up.w"], "c", strides=[4])), "c is not centred"),
        (layers(res=node("Softmax", ["c"], "d")), "Softmax in the decoder"),
        (layers(res=node("Conv", ["c", "not.there"], "d", pads=[1, 1])), "Conv in the decoder"),
        (layers(sum=node("Add", ["a", "c"], "e")), "e mixes rates"),
        (layers(bend=node("Mul", ["a", "x"], "b")), "an input of the whole"),
        (layers(last=node("Conv", ["e", "out.w"], "elsewhere", pads=[1, 1])), "does not end"),
    ],
)
def test_other_graphs_are_left_as_they_are(nodes: list[Any], reason: str) -> None:
    model = graph(nodes)
    before = model.SerializeToString()
    with pytest.raises(ValueError, match=reason):
        cut(model)
    assert model.SerializeToString() == before


def test_durations_that_could_be_several_are_none() -> None:
    model = graph(layers(bend=node("Ceil", ["a"], "b")))
    assert durations_of(model) is None
