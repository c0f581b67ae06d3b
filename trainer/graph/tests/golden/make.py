"""Writes tiny networks of torchvision as NAME.onnx, and what PyTorch makes of them in f64 as NAME.values, into this folder.

    python make.py

Needs torch, torchvision and onnx. The values are a GraphProto with a tensor for each of `labels`, `logits`, `loss`, `x.grad`
(of the first channel of the first image), `NAME.grad` of all parameters, and `NAME.next` of running statistics.
"""

import pathlib
import warnings
from functools import partial

import numpy as np
import onnx
import torch
import torch.nn.functional as F
import torchvision.models as models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.resnet import BasicBlock, ResNet

warnings.filterwarnings("ignore")
FOLDER = pathlib.Path(__file__).parent
CLASSES, ROWS = 5, 8


class TinyResNet(ResNet):
    """ResNet-18 with 4 to 8 channels."""

    def __init__(self):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=CLASSES)
        self.fc = torch.nn.Linear(8, CLASSES)

    @property
    def inplanes(self):
        return self.planes

    @inplanes.setter
    def inplanes(self, planes):
        self.planes = 4 if planes == 64 else planes

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        return super()._make_layer(block, 4 if planes == 64 else 8, blocks, stride, dilate)


def mobilenet():
    block = partial(InvertedResidualConfig, dilation=1, width_mult=0.5)
    settings = [
        block(8, 3, 8, 8, True, "RE", 2),
        block(8, 3, 24, 16, False, "RE", 2),
        block(16, 5, 32, 16, True, "HS", 1),
    ]
    return MobileNetV3(settings, 16, num_classes=CLASSES, dropout=0.0)


def convnext():
    settings = [CNBlockConfig(6, 8, 1), CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)]
    return ConvNeXt(settings, num_classes=CLASSES, stochastic_depth_prob=0.0, layer_scale=0.5)


def vit():
    return models.VisionTransformer(32, 8, 2, 2, 12, 24, num_classes=CLASSES)


NETWORKS = {
    "resnet18": (TinyResNet, 64, True),
    "mobilenet_v3_small": (mobilenet, 48, True),
    "convnext_tiny": (convnext, 32, False),
    "vit": (vit, 32, False),
}


def shorten(graph):
    """Gives nodes, and what they make, short names."""
    kept = {output.name for output in graph.output}
    names = {}
    for at, node in enumerate(graph.node):
        node.name, _ = f"n{at}", node.ClearField("doc_string")
        names |= {output: f"v{at}.{place}" for place, output in enumerate(node.output) if output not in kept}
    for node in graph.node:
        for names_of in (node.input, node.output):
            names_of[:] = [names.get(name, name) for name in names_of]
    del graph.value_info[:]


for name, (build, px, is_training) in NETWORKS.items():
    torch.manual_seed(3)
    model = build()
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        # No two parameters begin alike, so that the exporter merges none.
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
        for buffer in (buffer for key, buffer in model.named_buffers() if "running" in key):
            buffer.add_(0.3 * torch.rand(buffer.shape, generator=random))
    model.train(is_training)
    x = torch.arange(ROWS * 3 * px * px).reshape(ROWS, 3, px, px) * 7919 % 997 / 200 - 2.5
    labels = torch.arange(ROWS) % CLASSES
    mode = torch.onnx.TrainingMode.TRAINING if is_training else torch.onnx.TrainingMode.EVAL
    path = FOLDER / f"{name}.onnx"
    torch.onnx.export(
        model, (x,), path, dynamo=False, opset_version=17, input_names=["x"], output_names=["logits"],
        training=mode, do_constant_folding=False, dynamic_axes={"x": {0: "N"}, "logits": {0: "N"}},
    )
    stored = onnx.load(path)
    shorten(stored.graph)
    onnx.save(stored, path)

    # The export of a network in training moves its statistics.
    own = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in stored.graph.initializer}
    state = model.state_dict()
    model.load_state_dict({key: own.get(key, value) for key, value in state.items()})
    model = model.double()
    images = x.double().requires_grad_()
    logits = model(images)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    values = {"labels": labels, "logits": logits, "loss": loss, "x.grad": images.grad[0, 0]}
    values |= {f"{key}.grad": parameter.grad for key, parameter in model.named_parameters()}
    if is_training:
        values |= {f"{key}.next": buffer for key, buffer in model.named_buffers() if "running" in key}
    graph = onnx.GraphProto(name=name)
    for key, value in values.items():
        value = value.detach().numpy()
        value = value.astype(np.float32) if value.dtype == np.float64 else value
        graph.initializer.append(onnx.numpy_helper.from_array(value, key))
    (FOLDER / f"{name}.values").write_bytes(graph.SerializeToString())
