"""Jobs over Ray actors that come and go with the nodes of a cluster.

An actor proves itself before it gets a job, so one that finds no place holds up nothing, and an autoscaler sees it
waiting. A job whose actor dies runs again, on another node if there is one; only deaths on a node that lives on are
counted against it. Trouble with storage is taken for such a death, since it may be that node's alone, but no job is
blamed for it: in the end it is raised.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dexter_model.errors import InputError, storage_trouble
from dexter_model.tally import count
from tasks.telemetry import export, show, start_in_actor

DEATHS_ALLOWED = 3  # of a job's worker, on nodes that live on; of as many troubles with storage the last is raised
STARTS_ALLOWED = 3  # workers in a row that die before their first job
LOOK_SECONDS = 5.0  # between two looks at how large the cluster is
PATIENCE_SECONDS = 60.0  # without a worker that is ready, after which that is told
_DIED, _LOST, _STORAGE = "died alone", "lost with a node", "storage failed"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerDied:
    """In place of a result: the job's worker died ``DEATHS_ALLOWED`` times with nothing else in it."""

    reason: str


class Actor:
    """Holds a worker on a node of the cluster."""

    def __init__(self, make_worker: Callable[[], Any]) -> None:
        self.make_worker = make_worker

    def ready(self, settings: dict[str, str]) -> str:
        """Take over environment variables and make the worker; the id of the node.

        Ray's own way for these, the runtime environment, writes secrets into logs, and what an actor is made with is
        kept by the head. A call goes from process to process.
        """
        import ray

        os.environ.update(settings)
        start_in_actor()
        self.worker = self.make_worker()
        return ray.get_runtime_context().get_node_id()

    def run(self, job: Any) -> Any:
        """What the worker makes of a job."""
        try:
            return self.worker.run(job)
        finally:
            export()


@dataclass(frozen=True)
class Ready:
    """An actor that has its worker, and the id of its node."""

    actor: Any
    node: str


class FanOut:
    """A fan-out under way: actors that start, are idle or at work; jobs that wait, and whose death is looked into.

    Ray tells of an actor's death once the cluster has made up its mind: with ``max_task_retries`` it waits out what may
    only be a bad connection. Whose fault the death was is judged by a task sent to the node where it happened: it runs
    there, or the node is declared dead as well.

    Args:
        ray: the module, connected.
        start: starts an ``Actor``.
        settings: environment variables of the actors.
        sizes: what an actor takes of each resource.
        jobs: what actors ``run``.
        workers: how many actors; None for as many as find a place.
    """

    def __init__(
        self,
        ray: Any,
        start: Callable[[], Any],
        settings: dict[str, str],
        sizes: Mapping[str, float],
        jobs: Sequence[Any],
        workers: int | None,
    ) -> None:
        self.ray, self.start, self.settings = ray, start, settings
        self.sizes, self.jobs, self.workers = sizes, jobs, workers
        self.is_alive = ray.remote(num_cpus=0, max_retries=0)(_nothing)
        self.waiting = deque(range(len(jobs)))
        self.starting: dict[Any, tuple[Any, int]] = {}  # actor, how many starts in a row failed with this one
        self.idle: list[Ready] = []
        self.running: dict[Any, tuple[int, Ready]] = {}
        self.judged: dict[Any, tuple[int, str, Exception]] = {}  # job, node, what its actor died of
        self.done: deque[tuple[int, Any]] = deque()
        self.deaths: Counter[tuple[int, str]] = Counter()  # of a job, by cause
        self.failed_at: dict[int, set[str]] = {}  # nodes where a job's worker died
        self.redone: Counter[str] = Counter()
        self.failed_starts = 0
        self.start_again = self.look_again = 0.0
        self.ready_at = time.monotonic()  # when last there was a worker, or no need of one
        self.fit = 0

    def results(self) -> Iterator[tuple[int, Any]]:
        """Results as they come. An actor has its next job before whoever waits for results sees its last one."""
        try:
            while self.waiting or self.running or self.judged or self.done:
                self._start_actors()
                self._tell_when_none_is_ready()
                self._hand_out()
                if self.done:
                    yield self.done.popleft()
                self._settle(0.0 if self.done else LOOK_SECONDS)
                there = len(self.idle) + len(self.running)
                show(jobs_waiting=len(self.waiting), jobs_running=len(self.running), actors=there)
        finally:
            show(jobs_waiting=0, jobs_running=0, actors=0)
            self._let_go()
            for _, ready in self.running.values():
                self.ray.kill(ready.actor)
            if self.redone:
                told = ", ".join(f"{count} {why}" for why, count in sorted(self.redone.items()))
                log.warning("jobs redone: %d of %d (%s)", self.redone.total(), len(self.jobs), told)

    def _start_actors(self) -> None:
        if not (self.waiting or self.judged):
            self._let_go()
            return
        there = len(self.starting) + len(self.idle) + len(self.running)
        wanted = min(self._places(), len(self.waiting) + len(self.running)) - there
        if time.monotonic() >= self.start_again:
            for _ in range(wanted):
                actor = self.start()
                self.starting[actor.ready.remote(self.settings)] = actor, self.failed_starts + 1

    def _places(self) -> int:
        """How many actors to have: as told, or as many as fit and as many again, for a cluster that may grow.

        On one that does not, those wait and hold up nothing.
        """
        if self.workers is not None:
            return self.workers
        if time.monotonic() >= self.look_again:
            self.look_again = time.monotonic() + LOOK_SECONDS
            has = self.ray.cluster_resources()
            self.fit = min(int(has.get(name, 0) / size) for name, size in self.sizes.items() if size)
        there = len(self.idle) + len(self.running)
        return max(self.fit, there) + max(1, there)

    def _tell_when_none_is_ready(self) -> None:
        now = time.monotonic()
        if self.idle or self.running or self.judged or not self.starting:
            self.ready_at = now
        elif now - self.ready_at > PATIENCE_SECONDS:
            self.ready_at = math.inf
            has = self.ray.cluster_resources()
            takes = " and ".join(
                f"{size:g} {name} (the cluster has {has.get(name, 0):g})" for name, size in self.sizes.items() if size
            )
            log.warning("no worker is ready after %g s: each takes %s", PATIENCE_SECONDS, takes)

    def _let_go(self) -> None:
        """End the actors that do nothing."""
        for actor in [*(actor for actor, _ in self.starting.values()), *(ready.actor for ready in self.idle)]:
            self.ray.kill(actor)
        self.starting.clear()
        self.idle.clear()

    def _hand_out(self) -> None:
        for ready in self.idle[::-1]:
            index = next((each for each in self.waiting if self._may_run(each, ready.node)), None)
            if index is not None:
                self.waiting.remove(index)
                self.idle.remove(ready)
                self.running[ready.actor.run.remote(self.jobs[index])] = index, ready

    def _may_run(self, index: int, node: str) -> bool:
        """Whether a job may go to a node: back to one where its worker died only when there are workers on no other."""
        failed = self.failed_at.get(index, set())
        if node not in failed:
            return True
        return all(ready.node in failed for ready in [*self.idle, *(ready for _, ready in self.running.values())])

    def _settle(self, timeout: float) -> None:
        """Wait until something has happened, and take note of all that has."""
        references = [*self.running, *self.starting, *self.judged]
        if not references:
            time.sleep(min(timeout, 0.1))
            return
        for reference in self.ray.wait(references, num_returns=1, timeout=timeout)[0]:
            value, death = self._outcome(reference)
            if reference in self.starting:
                self._started(*self.starting.pop(reference), value, death)
            elif reference in self.running:
                self._ran(*self.running.pop(reference), value, death)
            else:
                self._judge(*self.judged.pop(reference))

    def _outcome(self, reference: Any) -> tuple[Any, Exception | None]:
        """What came of a call, or what its actor died of; what the job raised is raised, but for storage's trouble."""
        errors = self.ray.exceptions
        try:
            return self.ray.get(reference), None
        except errors.RayTaskError as error:
            if storage_trouble(error.cause):
                return None, error.cause
            raise error.cause from None
        except errors.RayError as error:
            fatal = isinstance(error, errors.RuntimeEnvSetupError | errors.AuthenticationError)
            if fatal or getattr(error, "actor_init_failed", False):
                raise  # what makes workers could not even be sent: no fault of the job
            return None, error

    def _started(self, actor: Any, attempt: int, node: str, death: Exception | None) -> None:
        if death is None:
            self.failed_starts = 0
            self.idle.append(Ready(actor, node))
            return
        self.ray.kill(actor)
        # Many may fail at once, with a node: what counts is that those started in their place fail as well.
        if attempt == self.failed_starts + 1:
            self.failed_starts = attempt
            self.start_again = time.monotonic() + min(2.0**attempt, 60.0)
        log.warning("a worker died before its first job: %s", _sentence(death))
        if self.failed_starts >= STARTS_ALLOWED and not (self.idle or self.running):
            if storage_trouble(death):
                raise death
            reason = f"{self.failed_starts} in a row died before their first job: {_sentence(death)}"
            raise InputError("workers", reason, "See Ray's logs, and whether memory suffices", "workers_die")

    def _ran(self, index: int, ready: Ready, value: Any, death: Exception | None) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if death is None:
            self.idle.append(ready)
            self.done.append((index, value))
            return
        self.ray.kill(ready.actor)  # only its result may be lost
        there = NodeAffinitySchedulingStrategy(ready.node, soft=False)
        self.judged[self.is_alive.options(scheduling_strategy=there).remote()] = index, ready.node, death

    def _judge(self, index: int, node: str, death: Exception) -> None:
        """Run a job again whose actor died, unless that happened too often."""
        lives_on = any(each["NodeID"] == node and each["Alive"] for each in self.ray.nodes())
        if lives_on and not getattr(death, "preempted", False):
            why = _STORAGE if storage_trouble(death) else _DIED
            self.deaths[index, why] += 1
            self.failed_at.setdefault(index, set()).add(node)
        else:
            why = _LOST
        if self.deaths[index, why] == DEATHS_ALLOWED:
            if why == _STORAGE:
                raise death
            self.done.append((index, WorkerDied(_sentence(death))))
            return
        told = {"job": index, "node": node, "cause": why}
        log.warning("job %d runs again, %s: %s", index, why, _sentence(death), extra=told)
        count("jobs_redone", cause=why)
        self.redone[why] += 1
        self.waiting.appendleft(index)


def _nothing() -> None:
    """Runs where a node is alive."""


def _sentence(error: Exception) -> str:
    """What Ray says, without its guesses."""
    return " ".join(str(error).split()).partition(" Some common causes")[0]
