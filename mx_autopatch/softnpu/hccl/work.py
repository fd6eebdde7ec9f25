"""What a collective returns, and the queue in which collectives run.

HCCL puts every collective of a communicator on one stream of that communicator, and each
pair of ranks has a stream for what one sends to the other. A :class:`Queue` is such a
stream: what is put into it runs one after the other. A caller who waits at once has it run
in his own thread; otherwise a thread of the queue runs it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Callable

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Queue", "SoftWork", "joined"]

_NO_TIMEOUT = timedelta(0)


class SoftWork(dist.Work):
    """One collective on its way.

    Unlike on the hardware, where it is a stream that waits, ``wait`` blocks the caller until
    the result is there; it raises what the collective has failed with.
    """

    def __init__(self, results: Sequence[Tensor], device: torch.device) -> None:
        super().__init__()
        self._results, self._device = list(results), device
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._waiting: list[torch.futures.Future[Any]] = []

    def carry_out(self, job: Callable[[], None]) -> None:
        """Run ``job``; whatever it raises is kept for those who wait."""
        try:
            job()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._done.set()
            waiting, self._waiting = self._waiting, []
        for gate in waiting:
            # What hangs on the future may wait for a collective behind this one (PowerSGD
            # does), for which the queue's own thread has to be free.
            threading.Thread(target=gate.set_result, args=(None,), daemon=True).start()

    def wait(self, timeout: timedelta = _NO_TIMEOUT) -> bool:
        """Wait for the result, and no longer than ``timeout`` if one is given.

        Raises:
            DistBackendError: it failed, or did not finish in time.
        """
        seconds = timeout.total_seconds() if timeout > _NO_TIMEOUT else None
        if not self._done.wait(seconds):
            raise dist.DistBackendError(f"hccl: the work has not finished within {seconds} s")
        if self._error is not None:
            raise self._error
        return True

    def synchronize(self) -> None:
        self.wait()

    def block_current_stream(self) -> None:
        self.wait()

    def is_completed(self) -> bool:
        return self._done.is_set()

    def is_success(self) -> bool:
        return self._done.is_set() and self._error is None

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> list[Tensor]:
        self.wait()
        return self._results

    def get_future(self) -> torch.futures.Future[Any]:
        """A future of the list of result tensors.

        An error has to pass through ``then``: what ``Future.set_exception`` sets, only
        Python takes for an error, while DDP's reducer, in C++, reads it as a value.
        """
        gate: torch.futures.Future[Any] = torch.futures.Future(devices=[self._device])
        future = gate.then(lambda _: self.result())
        with self._lock:
            if not self._done.is_set():
                self._waiting.append(gate)
                return future
        gate.set_result(None)
        return future


class _Joined(SoftWork):
    """Several works as one."""

    def __init__(self, works: Sequence[dist.Work], device: torch.device) -> None:
        super().__init__([], device)
        self._works = works

    def wait(self, timeout: timedelta = _NO_TIMEOUT) -> bool:
        for work in self._works:
            work.wait(timeout)
        return True

    def is_completed(self) -> bool:
        return all(work.is_completed() for work in self._works)

    def is_success(self) -> bool:
        return all(work.is_success() for work in self._works)

    def exception(self) -> BaseException | None:
        return next((e for work in self._works if (e := work.exception()) is not None), None)

    def result(self) -> list[Tensor]:
        return [tensor for work in self._works for tensor in work.result()]

    def get_future(self) -> torch.futures.Future[Any]:
        futures = torch.futures.collect_all([work.get_future() for work in self._works])
        return futures.then(lambda all_: [t for one in all_.value() for t in one.value()])


def joined(works: Sequence[dist.Work], device: torch.device) -> dist.Work:
    """The work that is done when all of ``works`` are."""
    return works[0] if len(works) == 1 else _Joined(works, device)


def _refusal() -> None:
    raise dist.DistBackendError("hccl: the process group was aborted")


class Queue:
    """Runs jobs in the order in which they were given.

    Args:
        name: For the thread, which is started by the first job that nobody waits for.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[SoftWork, Callable[[], None]] | None]
        self._jobs = queue.SimpleQueue()
        self._unfinished = 0
        self._aborted = False
        self._lock = threading.Lock()
        self._running = threading.Lock()  # held by whoever carries a job out
        self._thread: threading.Thread | None = None

    def run(self, work: SoftWork, job: Callable[[], None], at_once: bool) -> SoftWork:
        """Carry ``job`` out for ``work``, behind those before it.

        Args:
            at_once: The caller is going to wait: it may as well run in his thread.
        """
        with self._lock:
            mine = at_once and not self._unfinished
            self._unfinished += 1
            if mine:
                self._running.acquire()  # which nobody has, with nothing unfinished
            elif self._thread is None:
                # A daemon: a peer that is gone for good does not keep this process.
                self._thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._thread.start()
        if mine:
            try:
                work.carry_out(_refusal if self._aborted else job)
            finally:
                self._running.release()
                self._finished()
        else:
            self._jobs.put((work, job))
        return work

    def close(self, seconds: float) -> None:
        """End the thread, once what is queued has run, and wait for that a while."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            if thread is not threading.current_thread():
                thread.join(seconds)

    def abort(self) -> None:
        """End the thread without waiting; what is queued, and what comes later, fails."""
        self._aborted = True
        self.close(seconds=0)

    def _finished(self) -> None:
        with self._lock:
            self._unfinished -= 1

    def _loop(self) -> None:
        while (item := self._jobs.get()) is not None:
            work, job = item
            del item
            try:
                with self._running:
                    work.carry_out(_refusal if self._aborted else job)
            finally:
                self._finished()
            del work, job  # they keep tensors
