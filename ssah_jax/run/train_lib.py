"""Training: the loop, and its end in results."""

import collections
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from tqdm import tqdm

from ssah_jax.run import evaluators, parallel, processes
from ssah_jax.run.opening import Run
from ssah_jax.run.results import write_results
from ssah_jax.run.stop_requests import stop_requests
from ssah_jax.run.strips import strip_drawer
from ssah_jax.run.trackers import Trackers, open_trackers
from ssah_jax.types import ImagePool, Metrics

_MEASURED = ("map", "map_stable", "precision_radius2", "ndcg")
_AHEAD = 2
"""Steps that may wait for the devices; each holds its batch."""


class DivergedError(RuntimeError):
    """The loss is no longer finite; the message names the step."""


def train(run: Run, *, log: Sequence[str] = ()) -> dict[str, Any] | None:
    """Train to the last step, evaluate, and write results and report.

    Args:
        run: an open one.
        log: words of `tracker_kinds.KINDS`, which the first process tells as well what
            it writes.

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
        with stop_requests() as stopped:
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


def _loop(
    run: Run,
    evaluator: evaluators.Evaluator,
    trackers: Trackers,
    stopped: Callable[[], bool],
) -> bool:
    """Step until the last step (True) or a request to stop (False)."""
    config, first = run.experiment.config, int(run.state.step)
    step_fn = parallel.train_step(config, _device_pool(run))
    draw_strip = strip_drawer(run.experiment, run.workdir.path / "strips")
    any_process = parallel.AnyProcess()
    unlogged: tuple[int, Metrics] | None = None
    running: collections.deque[jax.Array] = collections.deque()
    bar = tqdm(
        total=config.steps,
        initial=first,
        unit="step",
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
    log = _Log(run, trackers, bar)
    with bar:
        for step in range(first + 1, config.steps + 1):
            with log.clock.waiting():
                batch = parallel.place_batch(next(run.iterator), config)
            run.state, metrics = step_fn(run.state, batch)
            bar.update()
            # What is fetched below is of steps before: the devices always have work.
            running.append(metrics["loss/total"])
            if len(running) > _AHEAD:
                running.popleft().block_until_ready()
            if unlogged is not None:
                log.write(unlogged[0], log.read(*unlogged, rates=True))
                unlogged = None
            last, stop = step == config.steps, any_process(stopped())
            due = _is_time(step, config.log_every) or last or stop
            evaluate = _is_time(step, config.eval.every) or last
            save = _is_time(step, config.checkpoint_every) or last or stop
            if not (evaluate or save):
                unlogged = (step, metrics) if due else None
                continue
            # Before anything that diverged is evaluated or replaces a checkpoint.
            numbers = log.read(step, metrics, rates=due)
            line: dict[str, Any] = numbers if due else {}
            metric = None
            if evaluate and config.eval.every:
                state = parallel.locally(run.state)
                line |= dict(evaluator.validate(state))
                if "validation/map" in line:
                    # Each has computed it; one decides which checkpoint is best.
                    metric = float(processes.gather(repr(line["validation/map"]))[0])
                if processes.is_first():
                    trackers.log_image("strip", draw_strip(state), step=step)
            log.write(step, line)
            if evaluate:
                # Its seconds are not the step's.
                log.clock.restart(step)
            if save:
                run.checkpoints.save(
                    step,
                    parallel.globally(run.state),
                    iterators=run.iterator.streams,
                    metric=metric,
                )
            # The first alone drew and wrote; no collective shall wait for that.
            processes.gather("")
            if stop and not last:
                return False
    return True


class _Log:
    """Where the numbers of steps go: metrics.jsonl, the trackers, the progress bar.

    Attributes:
        clock: what it takes the rates from.
    """

    def __init__(self, run: Run, trackers: Trackers, bar: tqdm) -> None:
        """Goes on after the step that the run is at."""
        batch = run.experiment.config.batch
        self._run, self._trackers, self._bar = run, trackers, bar
        self._start = time.perf_counter() - run.seconds
        self.clock = _Clock(
            int(run.state.step), images=batch.labelled + batch.unlabelled
        )

    def read(self, step: int, metrics: Metrics, *, rates: bool) -> dict[str, float]:
        """The numbers of a step, and with `rates` how fast the steps were until now.

        Raises:
            DivergedError: a loss or a gradient is not finite.
        """
        line = {k: float(v) for k, v in jax.device_get(metrics).items()}
        _check_finite(line, step)
        if rates:
            line |= self.clock.rates(step)
            self._bar.set_postfix_str(_progress(line))
        return line

    def write(self, step: int, line: dict[str, Any]) -> None:
        """Tells of a step; nothing of an empty line."""
        if line and processes.is_first():
            seconds = round(time.perf_counter() - self._start, 3)
            self._run.workdir.log({"step": step, "seconds": seconds} | line)
            self._run.record_skipped()
            self._trackers.log_scalars(line, step=step)


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
