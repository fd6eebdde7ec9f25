"""Sending and receiving between two ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from mx_autopatch.softnpu.hccl.agreement import described
from mx_autopatch.softnpu.hccl.buffers import octets
from mx_autopatch.softnpu.hccl.work import Queue, SoftWork

__all__ = ["Peers"]

# What is on its way: what the sender has, what the receiver takes, the data.
_OFFER, _ANSWER, _DATA = range(3)
_LENGTH = 64


class Peers:
    """The queues between this rank and each other one, one for each direction.

    Messages between two ranks arrive in the order in which they were sent: HCCL knows no
    tags. Receiver and sender tell each other dtype and size first, since Gloo would end the
    process of a receiver that has too little room.

    Args:
        gloo: Moves the data.
        names: The global ranks in the group, for messages.
    """

    def __init__(self, gloo: Any, names: list[int]) -> None:
        self._gloo, self._names = gloo, names
        self._queues: dict[tuple[str, int], Queue] = {}

    def send(self, tensor: Tensor, to: int) -> SoftWork:
        """Send ``tensor`` to rank ``to`` of the group."""
        return self._start("send", tensor, to)

    def receive(self, tensor: Tensor, source: int) -> SoftWork:
        """Receive into ``tensor`` what rank ``source`` of the group sends next."""
        return self._start("receive", tensor, source)

    def close(self, seconds: float) -> None:
        """End the threads."""
        for queue in self._queues.values():
            queue.close(seconds)

    def abort(self) -> None:
        """End the threads; what has not begun yet fails."""
        for queue in self._queues.values():
            queue.abort()

    def _start(self, what: str, tensor: Tensor, peer: int) -> SoftWork:
        if not 0 <= peer < len(self._names) or peer == self._gloo.rank():
            raise RuntimeError(
                f"hccl: cannot {what}: rank {peer} of the group is none other than this one"
            )
        key = (what, peer)
        if key not in self._queues:
            self._queues[key] = Queue(f"hccl {what} {peer}")
        sends = what == "send"

        def job() -> None:
            try:
                self._meet(tensor, peer, sends)
                data = octets(tensor)
                if len(data) and sends:
                    self._gloo.send([data], peer, _DATA).wait()
                elif len(data):
                    self._gloo.recv([data], peer, _DATA).wait()
            except dist.DistBackendError:
                raise
            except RuntimeError as error:
                words = described(what, list(tensor.shape), tensor.dtype, self._names[peer])
                raise dist.DistBackendError(f"hccl: {words}: {error}") from error

        return self._queues[key].run(SoftWork([tensor], tensor.device), job, at_once=False)

    def _meet(self, tensor: Tensor, peer: int, sends: bool) -> None:
        """Tell the peer what is sent, or taken, and hear what it takes, or sends."""
        mine = torch.zeros(_LENGTH, dtype=torch.uint8)
        words = f"{tensor.numel()} elements of {tensor.dtype}".encode()
        mine[: len(words)] = torch.frombuffer(bytearray(words), dtype=torch.uint8)
        theirs = torch.empty_like(mine)
        out = self._gloo.send([mine], peer, _OFFER if sends else _ANSWER)
        self._gloo.recv([theirs], peer, _ANSWER if sends else _OFFER).wait()
        out.wait()
        if not torch.equal(mine, theirs):
            other = bytes(theirs.tolist()).rstrip(b"\0").decode(errors="replace")
            me, name = self._names[self._gloo.rank()], self._names[peer]
            raise dist.DistBackendError(
                f"hccl: rank {me if sends else name} sends "
                f"{words.decode() if sends else other}, rank {name if sends else me} receives "
                f"{other if sends else words.decode()}"
            )
