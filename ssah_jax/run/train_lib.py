"""Training: the phases of a run, and the loop."""

import collections
import dataclasses
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from ssah_jax.config import Config, ConfigError, to_json
from ssah_jax.data import TrainIterator, split_to_json
from ssah_jax.data.reading import Reader
from ssah_jax.data.sealed import sealed
from ssah_jax.method import steps
from ssah_jax.method.views import generate, make_views
from ssah_jax.run import evaluators, parallel, processes
from ssah_jax.run.checkpointing import Checkpoints, open_checkpoints
from ssah_jax.run.experiment import Experiment, check_devices, iterate, spread_labels
from ssah_jax.run.other_sets import start_from
from ssah_jax.run.report import pictures
from ssah_jax.run.report.card import write_card
from ssah_jax.run.report.gallery import Gallery, write_gallery
from ssah_jax.run.trackers import Trackers, open_trackers
from ssah_jax.run.warm_start import load_backbone
from ssah_jax.run.workdir import ModelInfo, Workdir, WorkdirError, write_atomically
from ssah_jax.types import Batch, ImagePool, Metrics, PaceState, Params, TrainState

_STRIP_IMAGES = 12
_MEASURED = ("map", "map_stable", "precision_radius2", "ndcg")
_AHEAD = 2
"""Steps that may wait for the devices; each holds its batch."""


class DivergedError(RuntimeError):
    """The loss is no longer finite; the message names the step."""


@dataclasses.dataclass
class Run:
    """Everything of a run that is set up before anything compiles.

    Attributes:
        experiment: configuration, images, split.
        workdir: where it lives.
        checkpoints: open for writing.
        iterator: at the position of `state`.
        state: the next step's input, placed for it.
        seconds: of training before this process took over.
        spread: what spread labels say of all images, `[N, C]`, if training asks.
    """

    experiment: Experiment
    workdir: Workdir
    checkpoints: Checkpoints
    iterator: TrainIterator
    state: TrainState
    seconds: float
    spread: Float32[np.ndarray, "N C"] | None = None

    def record_skipped(self) -> None:
        """Write which images were skipped so far, if any."""
        skipped = self.experiment.skipped
        self.workdir.write_skipped(skipped.reasons if skipped else [])


@contextmanager
def open_run(
    experiment: Experiment, workdir: Workdir, *, start: Path | None = None
) -> Iterator[Run]:
    """Set up a new run, or resume the one that lives in the workdir.

    Args:
        experiment: a prepared one.
        workdir: where the run lives, or will.
        start: workdir of an earlier run, whose parameters a new one begins with.

    Raises:
        ValueError: one line: devices, workdir, weights or checkpoint do not fit the
            configuration. The workdir is then untouched.
    """
    config = experiment.config
    check_devices(config)
    workdir.check_free_for(config)
    if processes.several():
        processes.check_same(
            {"config": to_json(config), "checkpoints": workdir.saved_steps()}
        )
    info, backbone = experiment.info, None
    # A run that has a checkpoint no longer needs the weights that it began with.
    if config.hnet.weights and not _has_checkpoint(workdir):
        found = load_backbone(config, experiment.image_shape)
        info = dataclasses.replace(
            info, weights=found.spec, weights_sha256=found.sha256
        )
        backbone = found.variables
    workdir.check_same_data(info)
    spread = workdir.read_spread()
    if spread is None:
        spread = spread_labels(experiment)
    first = init_state(experiment, backbone=backbone)
    if config.optim.accumulate > 1 and first.batch_stats:
        raise ConfigError(
            f"config.optim.accumulate: found {config.optim.accumulate}, accepted is 1 "
            "with batch normalisation: moments of parts are not those of the batch; "
            "config.hnet.norm=group has none"
        )
    began_with = workdir.first_weights()
    if (
        began_with
        and not info.weights
        and start is None
        and not _has_checkpoint(workdir)
    ):
        raise WorkdirError(
            f"{workdir.path}: began with the parameters of {began_with} and has no "
            f"checkpoint yet; give --from-run={began_with} again"
        )
    if start is not None and not _has_checkpoint(workdir):
        first, digest = start_from(first, Workdir(start))
        info = dataclasses.replace(info, weights=str(start), weights_sha256=digest)
        workdir.check_same_data(info)
    state = parallel.place_state(first, config)
    iterator = iterate(experiment, spread=spread)
    with ExitStack() as stack:
        if processes.is_first():
            stack.enter_context(workdir.locked())
        if processes.several():
            _check_same_start(info, state, spread)
        if processes.is_first():
            workdir.create(config, split_to_json(experiment.split), info, spread)
            workdir.extend(config)
            said = experiment.understanding.to_json()
            workdir.write_data(said, experiment.data_path)
            workdir.write_missing(experiment.source.missing)
        checkpoints = stack.enter_context(open_checkpoints(workdir.checkpoints))
        if checkpoints.latest_step() is not None:
            restored = checkpoints.restore_latest(
                parallel.globally(state), iterators=iterator.streams
            )
            state = restored if config.parallel == "jit" else parallel.locally(restored)
        seconds = 0.0
        if processes.is_first():
            seconds = workdir.drop_metrics_after(int(state.step))
        yield Run(experiment, workdir, checkpoints, iterator, state, seconds, spread)


def _check_same_start(
    info: ModelInfo, state: TrainState, spread: Float32[np.ndarray, "N C"] | None
) -> None:
    """Check that all processes have the same data and begin with the same numbers."""
    processes.check_same(
        {
            "data": info.data_digest,
            "first weights": info.weights_sha256,
            "first state": processes.digest(state),
            "spread labels": processes.digest(spread),
        }
    )


def init_state(experiment: Experiment, *, backbone: Params | None = None) -> TrainState:
    """The state before the first step of an experiment.

    Args:
        experiment: a prepared one.
        backbone: variables that the backbone begins with, as in `steps.init_state`.
    """
    make = _init_program(
        experiment.config, experiment.image_shape, experiment.source.num_classes
    )
    return make(jax.random.key(experiment.config.seed), backbone=backbone)


@lru_cache(maxsize=1)
def _init_program(
    config: Config, image_shape: tuple[int, int, int], num_classes: int
) -> Callable[..., TrainState]:
    """The first state as one program: operation by operation it compiles hundreds."""
    return jax.jit(
        partial(
            steps.init_state,
            config=config,
            image_shape=image_shape,
            num_classes=num_classes,
        )
    )


def restore_state(
    experiment: Experiment, workdir: Workdir, wanted: str = "last"
) -> tuple[TrainState, bool]:
    """The state of a run from one of its checkpoints.

    Args:
        experiment: of the run.
        workdir: where it lives; nothing is written.
        wanted: "last", "best" (on validation queries), or a step's number.

    Returns:
        The state, and whether it is the last checkpoint's.

    Raises:
        ValueError: there is no such checkpoint, or it or the data set does not fit the
            experiment.
    """
    workdir.check_same_data(experiment.info)
    with open_checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
        step = checkpoints.find(wanted)
        like = jax.eval_shape(lambda: init_state(experiment))
        state = parallel.locally(checkpoints.restore(like, step=step))
        return state, step == checkpoints.latest_step()


def train(run: Run, *, log: Sequence[str] = ()) -> dict[str, Any] | None:
    """Train to the last step, evaluate, and write results and report.

    Args:
        run: an open one.
        log: words of `trackers.KINDS`, which the first process tells as well what it
            writes.

    Returns:
        What results.json holds; None if a signal ended training early, after a
        checkpoint from which the same command resumes.

    Raises:
        DivergedError: if the loss is not finite at a logged step.
        DataError: if an image cannot be read, or too many cannot.
    """
    evaluator = evaluators.Evaluator(run.experiment)
    told = log if processes.is_first() else ()
    with open_trackers(
        told,
        run.workdir.path,
        step=int(run.state.step),
        lines=run.workdir.read_metrics() if told else (),
    ) as trackers:
        trackers.log_hyperparameters(dataclasses.asdict(run.experiment.config))
        with _stop_requests() as stopped:
            finished = _loop(run, evaluator, trackers, stopped)
            run.checkpoints.wait()
        if not finished:
            return None
        state = parallel.locally(run.state)
        encoded = evaluator.encode_test(state)
        results = dict(evaluator.results(state, encoded))
        if processes.is_first():
            run.record_skipped()
            write_results(run.workdir, results, shown=evaluator.draw_gallery(encoded))
            measured = {n: results[n] for n in _MEASURED if n in results}
            if measured:
                trackers.log_summary(measured, step=results["steps"])
            for path in (run.workdir.results, run.workdir.report):
                trackers.log_artifact(path)
    return results


def is_finished(workdir: Workdir) -> bool:
    """Whether the run has its results; makes up for pages that a kill prevented.

    Raises:
        WorkdirError: they are not what was written.
    """
    finished = workdir.results.exists()
    if finished:
        workdir.read_results()
    if finished and processes.is_first():
        for page, write in (
            (workdir.report, _write_report),
            (workdir.card, write_card),
        ):
            if not page.exists():
                write(workdir)
    return finished


def write_results(
    workdir: Workdir,
    results: dict[str, Any],
    *,
    name: str = "results.json",
    shown: Gallery | None = None,
) -> None:
    """Complete the results with the seconds of training; write them and the report.

    Queries `shown` in the report are written too; None leaves those that are there.
    """
    results["wall_seconds"] = workdir.seconds_at(results["steps"])
    if shown is not None:
        write_gallery(workdir.path / "gallery", shown)
    text = json.dumps(sealed(results), indent=2) + "\n"
    write_atomically(workdir.path / name, text)
    _write_report(workdir)
    if name == workdir.results.name:
        write_card(workdir)


def _write_report(workdir: Workdir) -> None:
    # Not at the top: Matplotlib is half a second before a first step.
    from ssah_jax.run.report.run_page import write_report

    write_report(workdir.path)


def _loop(
    run: Run,
    evaluator: evaluators.Evaluator,
    trackers: Trackers,
    stopped: Callable[[], bool],
) -> bool:
    """Step until the last step (True) or a request to stop (False)."""
    config, first = run.experiment.config, int(run.state.step)
    step_fn = parallel.train_step(config, _device_pool(run))
    draw_strip = _strip_drawer(run)
    any_process = parallel.AnyProcess()
    clock = _Clock(first, images=config.batch.labelled + config.batch.unlabelled)
    start = time.perf_counter() - run.seconds
    unlogged: tuple[int, Metrics] | None = None
    running: collections.deque[jax.Array] = collections.deque()

    def log(step: int, line: dict[str, Any]) -> None:
        if line and processes.is_first():
            seconds = round(time.perf_counter() - start, 3)
            run.workdir.log({"step": step, "seconds": seconds} | line)
            run.record_skipped()
            trackers.log_scalars(line, step=step)

    def fetch(step: int, metrics: Metrics) -> dict[str, float]:
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        # Before anything that diverged is evaluated or replaces a checkpoint.
        _check_finite(values, step)
        return values

    bar = tqdm(
        total=config.steps,
        initial=first,
        unit="step",
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        for step in range(first + 1, config.steps + 1):
            with clock.waiting():
                batch = parallel.place_batch(next(run.iterator), config)
            run.state, metrics = step_fn(run.state, batch)
            bar.update()
            # What is fetched below is of steps before: the devices always have work.
            running.append(metrics["loss/total"])
            if len(running) > _AHEAD:
                running.popleft().block_until_ready()
            if unlogged is not None:
                values = fetch(*unlogged)
                line = values | clock.rates(unlogged[0])
                bar.set_postfix_str(_progress(line))
                log(unlogged[0], line)
                unlogged = None
            last, stop = step == config.steps, any_process(stopped())
            due = _is_time(step, config.log_every) or last or stop
            evaluate = _is_time(step, config.eval.every) or last
            save = _is_time(step, config.checkpoint_every) or last or stop
            if not (evaluate or save):
                unlogged = (step, metrics) if due else None
                continue
            values, line, metric = fetch(step, metrics), {}, None
            if due:
                line = values | clock.rates(step)
                bar.set_postfix_str(_progress(line))
            if evaluate and config.eval.every:
                state = parallel.locally(run.state)
                line |= dict(evaluator.validate(state))
                if "validation/map" in line:
                    # Each has computed it; one decides which checkpoint is best.
                    metric = float(processes.gather(repr(line["validation/map"]))[0])
                if processes.is_first():
                    trackers.log_image("strip", draw_strip(state), step=step)
            log(step, line)
            if evaluate:
                # Its seconds are not the step's.
                clock.restart(step)
            if save:
                run.checkpoints.save(
                    step,
                    parallel.globally(run.state),
                    iterators=run.iterator.streams,
                    metric=metric,
                )
            if stop and not last:
                return False
    return True


class _Clock:
    """Images a second, and the share of time spent waiting for them."""

    def __init__(self, step: int, *, images: int) -> None:
        """Starts at a completed step, of so many images each."""
        self._images = images
        self.restart(step)

    def restart(self, step: int) -> None:
        """What came before this step counts no more."""
        self._tick, self._step, self._waited = time.perf_counter(), step, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what asks for data."""
        asked = time.perf_counter()
        yield
        self._waited += time.perf_counter() - asked

    def rates(self, step: int) -> dict[str, float]:
        """Since the step before that was asked for; `step` has just been completed."""
        seconds = time.perf_counter() - self._tick
        images = (step - self._step) * self._images
        found = {
            "images_per_second": images / seconds,
            "data_wait": self._waited / seconds,
        }
        self.restart(step)
        return found


def _device_pool(run: Run) -> ImagePool | None:
    """All images on every device, if the configuration keeps them there."""
    if run.experiment.config.data.store != "device":
        return None
    source = run.experiment.source
    # `prepare` has seen to it that the images are an array.
    arrays: Any = (source.images, source.labels, run.spread)
    return ImagePool(*parallel.place_state(arrays, run.experiment.config))


def _has_checkpoint(workdir: Workdir) -> bool:
    return bool(workdir.saved_steps())


def _is_time(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _check_finite(line: dict[str, float], step: int) -> None:
    # Gradients tell what the update just made: its loss is that of before.
    checked = {k: v for k, v in line.items() if k.startswith(("loss/", "gradient/"))}
    bad = [k for k, v in checked.items() if not math.isfinite(v)]
    if bad:
        raise DivergedError(
            f"step {step}: {bad[0]} is {line[bad[0]]}; a smaller "
            "config.optim.learning_rate or config.optim.clip_norm may help"
        )


def _progress(line: dict[str, float]) -> str:
    shown = f"loss {line['loss/total']:.3f}"
    if "pace/threshold" in line:
        shown += (
            f", threshold {line['pace/threshold']:.3f}"
            f", recognised {line['pace/recognised']:.0%}"
        )
    return shown + f", {line['images_per_second']:.0f} images/s"


def _strip_drawer(run: Run) -> Callable[[TrainState], bytes]:
    """A function that saves what A-Net makes of the same images, with the same key.

    It returns the PNG; nothing where there is no A-Net.
    """
    experiment, strips = run.experiment, run.workdir.path / "strips"
    config, source = experiment.config, experiment.source
    if config.anet.kind in ("none", "stored"):
        return lambda state: b""
    chosen = experiment.split.labelled[
        :: len(experiment.split.labelled) // _STRIP_IMAGES or 1
    ]
    images, readable = Reader(source.images, skipped=experiment.skipped)(
        chosen[:_STRIP_IMAGES]
    )
    batch = Batch(
        image=jnp.asarray(images[readable]),
        label=jnp.asarray(source.labels[chosen[:_STRIP_IMAGES]][readable]),
        unlabelled=jnp.zeros((0, *source.image_shape), jnp.uint8),
    )
    key, draw = jax.random.key(config.seed), _strip_program(config)

    def save(state: TrainState) -> bytes:
        images, generated = jax.device_get(draw(key, batch, state.anet, state.pace))
        strips.mkdir(exist_ok=True)
        strip = pictures.draw_strip(images, generated)
        write_atomically(strips / f"step_{int(state.step):06d}.png", strip)
        return strip

    return save


@lru_cache(maxsize=1)
def _strip_program(config: Config) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """From key, batch, A-Net and pace to views and hard samples."""

    def draw(
        key: jax.Array, batch: Batch, anet: Params, pace: PaceState
    ) -> tuple[jax.Array, jax.Array]:
        views = make_views(key, batch, config=config)
        return views.labelled, generate(anet, views, pace, config=config).images

    return jax.jit(draw)


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT, SIGTERM, SIGUSR1 and SIGHUP into a request, read between steps.

    A second Ctrl-C acts as it would have without this. Schedulers send SIGUSR1 before a
    time limit and SIGTERM at it: one after the other is the same request. SIGHUP says
    that the terminal is gone, to which nothing can be printed; `nohup` ignores it.
    """
    received: list[int] = []
    previous: dict[int, Any] = {}

    def request(number: int, frame: Any) -> None:
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(number, previous[number])
        if number == getattr(signal, "SIGHUP", None):
            for stream in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)

    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    names = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    try:
        for number in (getattr(signal, name, None) for name in names):
            if number and signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, request)
    except ValueError:  # Not in the main thread, where signals do not arrive.
        previous.clear()
    try:
        yield lambda: bool(received)
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
