"""A picture of what pace and A-Net do: hardness, reach, diversity, windows, angles.

    python benchmarks/mechanism.py --workdir RUN --out docs/results/mechanism.svg
    python benchmarks/mechanism.py --workdir RUN --strips docs/results/strips.png

Curves are a run's own log. Windows and angles are drawn by the A-Net of its last
checkpoint for unlabelled images, and beside them uniform ones of the same reach, both
with the same keys: how many bits of the teacher's codes each flips is what A-Net's
choices are worth as an adversary's. The record is benchmarks/results/mechanism.json,
or another --record; the last panel shows the study `adversary`. With --strips
there is a second picture: what A-Net made of the same images at each evaluation.
"""

import dataclasses
import io
import json
import statistics
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import records
from absl import app, flags
from matplotlib import image as pictures
from matplotlib.figure import Figure

from ssah_jax import pacing
from ssah_jax.method.adversary import turned
from ssah_jax.method.codes import encode
from ssah_jax.method.views import generate, make_views, max_angle
from ssah_jax.run import train_state
from ssah_jax.run.experiment import iterate, prepare
from ssah_jax.run.report.pictures import STRIP_GAP, reduce_picture
from ssah_jax.run.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "A finished run; none to draw again.")
_OUT = flags.DEFINE_string("out", None, "Where the picture goes.")
_RECORD = flags.DEFINE_string("record", "mechanism", "Name of the record.")
_STRIPS = flags.DEFINE_string("strips", None, "Where that of the same images goes.")
_BATCHES = flags.DEFINE_integer("batches", 16, "Batches of images.")

_CURVES = {
    "threshold": "pace/threshold",
    "occluded": "pace/hardness_occluded",
    "rotated": "pace/hardness_rotated",
    "windows": "pace/reach_window",
    "angles to": "pace/reach_angle",
    "scales": "entropy/scale_batch",
    "positions": "entropy/position_batch",
    "angles": "entropy/angle_batch",
}
_COLUMN = "50"


def drawn(workdir: Workdir) -> dict:
    """What the last A-Net draws, and how hard that is beside uniform draws.

    Shares of window scales, positions and angles; the mean share of bits that its
    samples flip, and that uniform ones of the same reach do.
    """
    experiment = prepare(workdir.read_config())
    config = experiment.config
    state = jax.device_get(train_state.restore_state(experiment, workdir)[0])
    iterator = iterate(experiment, seed=config.seed + 1)

    uniform = dataclasses.replace(
        config, anet=dataclasses.replace(config.anet, kind="random")
    )

    @jax.jit
    def deform(key, batch):
        views = make_views(key, batch, config=config)
        clean = _codes(state, views.unlabelled, config)
        flips = []
        for who in (config, uniform):
            made = generate(state.anet, views, state.pace, config=who)
            hard = made.images[len(views.label) :]
            flips.append(pacing.bit_flips(_codes(state, hard, config), clean))
            rotated = turned(made)[len(views.label) :]
            flips.append(rotated)
            if who is config:
                deformations = made.deformations
        return deformations, flips

    batches = [
        deform(jax.random.key(index), jax.tree.map(jnp.asarray, next(iterator)))
        for index in range(_BATCHES.value)
    ]
    found = [one for one, _ in batches]
    ours, ours_turned, theirs, theirs_turned = (
        np.concatenate(parts)
        for parts in zip(*(flips for _, flips in batches), strict=True)
    )
    scale, position, angle = (
        np.concatenate([getattr(one, name) for one in found])
        for name in ("scale", "position", "angle")
    )
    # A sample is occluded or turned; the other choice is 0.
    occluded = scale.sum(axis=1) > 0
    scale, position, angle = scale[occluded], position[occluded], angle[~occluded]
    where = np.einsum("bs,bsyx->yx", scale, position) / len(scale)
    bound = float(max_angle(state.pace, config=config))
    edges = np.linspace(-bound, bound, config.anet.angle_bins + 1)
    counts, _ = np.histogram(angle, edges)
    return {
        "images": len(occluded),
        "scales": scale.mean(0).tolist(),
        "sides": [float(state.pace.window) * scale for scale in config.anet.scales],
        "positions": where.tolist(),
        "angle_edges_degrees": np.rad2deg(edges).tolist(),
        "angles": (counts / counts.sum()).tolist(),
        "bits_flipped": {
            name: {"anet": float(a.mean()), "uniform": float(b.mean())}
            for name, a, b in (
                ("occluded", ours[~ours_turned], theirs[~theirs_turned]),
                ("rotated", ours[ours_turned], theirs[theirs_turned]),
            )
        },
    }


def _codes(state, images, config):
    return encode(state.teacher, state.teacher_stats, images, config=config)


def logged(workdir: Workdir) -> list[dict]:
    """The lines of a run's log that tell of the pace."""
    lines = map(json.loads, (workdir.path / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if _CURVES["threshold"] in row]


def draw_strips(workdir: Workdir) -> Figure:
    """The same images, and what A-Net made of them at each evaluation."""
    paces = {row["step"]: row for row in logged(workdir)}
    anet = workdir.read_config().anet
    rows, names = [], ["images"]
    for path in sorted((workdir.path / "strips").glob("step_*.png")):
        strip = pictures.imread(path)
        half = (len(strip) - STRIP_GAP) // 2
        if not rows:
            rows.append(strip[:half])
        rows.append(strip[half + STRIP_GAP :])
        step = int(path.stem.removeprefix("step_"))
        pace = paces[max(one for one in paces if one <= max(step, min(paces)))]
        window = max(anet.scales) * pace[_CURVES["windows"]]
        angle = anet.max_degrees * pace[_CURVES["angles to"]]
        names.append(
            f"step {step}\nthreshold {pace[_CURVES['threshold']]:.3f}\n"
            f"windows to {window:.2f}\nangles to {angle:.0f}°"
        )
    figure = Figure(figsize=(11, 0.86 * len(rows)), layout="constrained", dpi=80)
    for axes, row, name in zip(figure.subplots(len(rows), 1), rows, names, strict=True):
        axes.imshow(row)
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
        axes.set_ylabel(
            name, rotation=0, ha="right", va="center", fontsize="small", labelpad=6
        )
    return figure


def draw(record: dict, study: dict) -> Figure:
    """Six panels in a row."""
    figure = Figure(figsize=(18, 3.2), layout="constrained")
    pace, reach, entropy, windows, angles, robust = figure.subplots(1, 6)
    curves = record["curves"]
    for name in ("threshold", "occluded", "rotated"):
        pace.plot(curves["step"], curves[name], label=name)
    pace.set(
        title="Mean hardness", xlabel="step", ylabel="share of bits", ylim=(0, None)
    )
    for name in ("windows", "angles to"):
        reach.plot(curves["step"], curves[name], label=name.split()[0])
    reach.set(title="Reach", xlabel="step", ylabel="share of the family's")
    reach.set(ylim=(0, 1.02))
    for name in ("scales", "positions", "angles"):
        entropy.plot(curves["step"], curves[name], label=name)
    entropy.set(title="Diversity of choices", xlabel="step")
    entropy.set(ylabel="entropy over its maximum", ylim=(0, 1.02))
    shown = windows.imshow(record["drawn"]["positions"], vmin=0, cmap="magma")
    windows.set(title="Window positions", xticks=[], yticks=[])
    figure.colorbar(shown, ax=windows, label="share of images")
    edges = record["drawn"]["angle_edges_degrees"]
    angles.stairs(record["drawn"]["angles"], edges, fill=True)
    angles.axhline(1 / (len(edges) - 1), color="black", linestyle=":", label="uniform")
    angles.set(title="Angles", xlabel="degrees", ylabel="share of images")
    rows = ("supervised", "random, whole family", "SSAH")
    sets = ("map", "occluded", "rotated")
    for index, row in enumerate(rows):
        (cell,) = (
            cell
            for cell in study["cells"]
            if cell["row"] == row and cell["column"] == _COLUMN
        )
        heights = [statistics.mean(cell[name]) for name in sets]
        places = np.arange(len(sets)) + 0.27 * (index - 1)
        robust.bar(places, heights, 0.25, label=row)
    robust.set(title=f"mAP, {_COLUMN} labels a class", ylim=(0, 1))
    robust.set_xticks(range(len(sets)), ("clean", *sets[1:]))
    for axes in (pace, reach, entropy, angles, robust):
        axes.legend(fontsize="small")
    return figure


def measure(workdir: Workdir) -> dict:
    """What the first four panels show."""
    rows = logged(workdir)
    curves = {name: [row[key] for row in rows] for name, key in _CURVES.items()}
    return {
        "labels_per_class": workdir.read_config().labels_per_class,
        "curves": {"step": [row["step"] for row in rows]} | curves,
        "drawn": drawn(workdir),
    }


def main(_: list[str]) -> None:
    """Measure, write the record and draw it."""
    if _STRIPS.value:
        png = io.BytesIO()
        figure = draw_strips(Workdir(_WORKDIR.value))
        figure.savefig(png, bbox_inches="tight", metadata={"Software": None})
        Path(_STRIPS.value).write_bytes(reduce_picture(png.getvalue(), longest=900))
    if _WORKDIR.value:
        records.write(_RECORD.value, measure(Workdir(_WORKDIR.value)))
    if not _OUT.value:
        return
    found, study = (records.read(name) for name in (_RECORD.value, "adversary"))
    # The same picture from the same records, byte for byte.
    with mpl.rc_context({"svg.hashsalt": "ssah", "svg.fonttype": "none"}):
        draw(found, study).savefig(_OUT.value, metadata={"Date": None})


if __name__ == "__main__":
    app.run(main)
