"""A VITS graph cut in two: text to latent frames, and the decoder (HiFi-GAN) that turns those into sound.

Decided here: where the cut is, and how many frames on either side a decoded frame depends on. The decoder is found by
its shape, not by names: all that follows the input of the last convolution before the first transposed one. Works on
an onnx.ModelProto in memory without importing onnx; called by piper_voice.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_FLOAT = 1  # onnx.TensorProto.FLOAT
_POINTWISE = frozenset(("Add", "Div", "Identity", "LeakyRelu", "Mul", "Relu", "Tanh", "Unsqueeze"))


@dataclass(frozen=True, slots=True)
class Decoder:
    """The second half. Its inputs are `latent`, [1, channels, frames], and `conditions` (of speakers), given whole."""

    model: Any  # onnx.ModelProto
    latent: str
    conditions: tuple[str, ...]
    hop: int  # samples of sound a frame
    reach: int  # frames before and after a frame that can change its sound


def durations_of(model: Any) -> str | None:
    """The name of the tensor with the frames of every phoneme id; None where it cannot be told."""
    names = [name for node in model.graph.node if node.op_type == "Ceil" for name in node.output]
    return names[0] if len(names) == 1 else None


def add_output(model: Any, name: str) -> None:
    """Make a tensor an output, unless it is one."""
    if all(output.name != name for output in model.graph.output):
        model.graph.output.add().name = name


def cut(model: Any) -> Decoder:
    """Take the decoder out of `model`, whose outputs then are the latent, then the conditions.

    Raises ValueError, `model` unchanged, where the graph is not of this kind.
    """
    graph = model.graph
    latent = _latent(graph)
    weights = {weight.name: weight for weight in graph.initializer}
    inside, made = _followers(graph, latent)
    hop, reach = _reach(inside, latent, weights, {output.name for output in graph.output})
    wanted = {name for node in inside for name in node.input if name} - made - {latent}
    constants = [node for node in graph.node if node.op_type == "Constant" and wanted & set(node.output)]
    conditions = wanted - set(weights) - {name for node in constants for name in node.output}
    if conditions & {given.name for given in graph.input}:
        raise ValueError("the decoder reads an input of the whole graph")
    decoder = type(model)()
    decoder.ir_version = model.ir_version
    decoder.opset_import.extend(model.opset_import)
    decoder.graph.name = "decoder"
    decoder.graph.node.extend([*constants, *inside])
    decoder.graph.initializer.extend([weights[name] for name in weights if name in wanted])
    decoder.graph.output.extend(graph.output[:1])
    for name in (latent, *sorted(conditions)):
        given = decoder.graph.input.add()
        given.name = name
        given.type.tensor_type.elem_type = _FLOAT
    _reduce(graph, made, (latent, *sorted(conditions)))
    return Decoder(decoder, latent, tuple(sorted(conditions)), hop, reach)


def _latent(graph: Any) -> str:
    """The input of the decoder's first convolution."""
    maker = {name: node for node in graph.node for name in node.output}
    node = next((node for node in graph.node if node.op_type == "ConvTranspose"), None)
    while node is not None:
        node = maker.get(node.input[0]) if node.input else None
        if node is not None and node.op_type == "Conv":
            return str(node.input[0])
        if node is not None and node.op_type not in _POINTWISE:
            break
    raise ValueError("no decoder of transposed convolutions")


def _followers(graph: Any, latent: str) -> tuple[list[Any], set[str]]:
    """The nodes that depend on the latent, in order, and what they make."""
    made: set[str] = set()
    inside = []
    for node in graph.node:
        if any(name == latent or name in made for name in node.input):
            inside.append(node)
            made.update(node.output)
    return inside, made


def _reach(inside: list[Any], latent: str, weights: dict[str, Any], outputs: set[str]) -> tuple[int, int]:
    """Samples a frame, and frames of reach. Raises ValueError for an operation whose reach is not known."""
    seen = {latent: (1, 0.0)}  # tensor -> its steps a frame, and its reach in frames
    for node in inside:
        before = [seen[name] for name in node.input if name in seen]
        steps, reach = before[0][0], max(reach for _, reach in before)
        if len({steps for steps, _ in before}) != 1:
            raise ValueError(f"{node.name} mixes rates")
        match node.op_type:
            case "Conv" | "ConvTranspose" if node.input[1] in weights:
                size = weights[node.input[1]].dims[2]
                stride, dilation = _attribute(node, "strides"), _attribute(node, "dilations")
                width = dilation * (size - 1) + 1
                even = width - stride  # what keeps `stride` steps for every step; for a Conv half of it on each side
                if _pads(node) != [even // 2] * 2 or even % 2 or (node.op_type == "Conv" and stride != 1):
                    raise ValueError(f"{node.name} is not centred")
                reach += (width // 2 if node.op_type == "Conv" else math.ceil(width / 2 / stride)) / steps
                steps *= stride
            case operation if operation not in _POINTWISE:
                raise ValueError(f"{operation} in the decoder")
        seen.update({name: (steps, reach) for name in node.output})
    found = [seen[name] for name in outputs if name in seen]
    if len(found) != 1:
        raise ValueError("the decoder does not end in the sound")
    return found[0][0], math.ceil(found[0][1])


def _attribute(node: Any, name: str) -> int:
    return next((int(attribute.ints[0]) for attribute in node.attribute if attribute.name == name), 1)


def _pads(node: Any) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == "pads"), [0, 0])


def _reduce(graph: Any, made: set[str], outputs: tuple[str, ...]) -> None:
    """What is left without the nodes that make `made`."""
    nodes = [node for node in graph.node if not made & set(node.output)]
    used = {name for node in nodes for name in node.input}
    for number in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[number].name not in used:
            del graph.initializer[number]
    kept = [type(node)() for node in nodes]
    for copy, node in zip(kept, nodes, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(kept)
    del graph.output[:]
    for name in outputs:
        graph.output.add().name = name
