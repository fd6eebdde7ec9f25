"""Workers, ranks, forks and the end of a process that has used the soft NPU."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers import environment, python, write_files

SCRIPTS = {
    # What a DataLoader's workers, spawned ranks and forks do.
    "workers.py": """
        import json, multiprocessing, os, torch, torch.multiprocessing
        from torch.utils.data import DataLoader, Dataset

        torch.set_num_threads(1)

        class Numbers(Dataset):
            def __len__(self):
                return 4
            def __getitem__(self, i):
                return torch.full((2,), float(i)), os.getpid()

        class OnDevice(Numbers):
            def __getitem__(self, i):
                return torch.full((2,), float(i), device="npu").cpu(), os.getpid()

        def rank(i, results):
            x = torch.full((2,), float(i), device=f"npu:{i}")
            results.put((i, (x * 2).sum().item(), torch.npu.device_count()))

        def forked(results):
            try:
                results.put(torch.ones(2, device="npu").sum().item())
            except RuntimeError as error:
                results.put(str(error))

        def fork():
            context = multiprocessing.get_context("fork")
            results = context.SimpleQueue()
            process = context.Process(target=forked, args=(results,))
            process.start()
            process.join()
            return results.get()

        def load(dataset, method):
            loader = DataLoader(
                dataset, 2, num_workers=1, multiprocessing_context=method, pin_memory=True
            )
            totals = []
            for x, pids in loader:
                assert x.is_pinned()
                assert os.getpid() not in pids
                totals.append(x.to("npu", non_blocking=True).sum().item())
            return totals

        if __name__ == "__main__":
            out = {"fork before": fork()}
            torch.ones(1, device="npu")
            out["fork after"] = fork()
            out["loaded by fork"] = load(Numbers(), "fork")
            out["loaded by spawn"] = load(OnDevice(), "spawn")
            results = torch.multiprocessing.get_context("spawn").SimpleQueue()
            torch.multiprocessing.spawn(rank, (results,), nprocs=2)
            out["ranks"] = sorted(results.get() for _ in range(2))
            print(json.dumps(out))
    """,
    # A fork for each way to use the device and to end, since the import of torch costs most.
    "forks.py": """
        import atexit, json, os, sys, threading

        # Before torch, so that it is called after torch's own handlers.
        atexit.register(lambda: "x" in globals() and print("at exit", (x + 1).sum().item()))

        import torch

        class Last:
            def __init__(self):
                self.x = torch.ones(2, device="npu")
            def __del__(self):
                self.x.add_(1)

        def live():
            global x, y, pinned, stream, event, last
            x = torch.ones(3, device="npu", requires_grad=True)
            y = (x * 2).sum()
            y.backward()
            pinned = torch.ones(3).pin_memory().to("npu", non_blocking=True)
            stream, event = torch.npu.Stream(), torch.npu.Event()
            event.record(stream)
            last = Last()
            threading.Thread(target=threading.Event().wait, daemon=True).start()

        def ends():
            live()

        def exits():
            live()
            sys.exit(3)

        def raises():
            live()
            raise ValueError("mine")

        def expandable():
            os.environ["PYTORCH_NPU_ALLOC_CONF"] = "expandable_segments:True"
            npu = torch.npu
            full, _ = npu.mem_get_info()
            tensors = [torch.full((1 << 20,), i, device="npu") for i in range(8)]
            assert [t[-1].item() for t in tensors] == list(range(8))
            assert npu.mem_get_info()[0] <= full - (64 << 20)
            del tensors
            npu.empty_cache()
            assert npu.mem_get_info()[0] == full
            x = torch.ones(16 << 20, device="npu")
            assert x.sum().item() == 16 << 20
            kept = torch.arange(5, device="npu")
            assert all(segment["is_expandable"] for segment in npu.memory_snapshot())
            del x
            npu.empty_cache()
            assert kept.sum().item() == 10
            print(full - npu.mem_get_info()[0])

        def small():
            npu = torch.npu
            assert npu.get_device_properties(0).total_memory == 128 << 20
            x = torch.ones(16 << 20, device="npu")
            try:
                torch.ones(20 << 20, device="npu")
            except torch.OutOfMemoryError as error:
                print(error)
            del x
            assert torch.ones(20 << 20, device="npu").sum().item() == 20 << 20

        out = {}
        for use in (ends, exits, raises, expandable, small):
            files = [open(f"{use.__name__}.{kind}", "w+") for kind in ("out", "err")]
            child = os.fork()
            if not child:
                for place, file in enumerate(files, 1):
                    os.dup2(file.fileno(), place)
                use()
                sys.exit()
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            out[use.__name__] = [status, *(open(file.name).read() for file in files)]
        print(json.dumps(out))
    """,
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the scripts print, by what they tell it of."""
    folder = write_files(tmp_path_factory.mktemp("processes"), SCRIPTS)

    def run(name: str, **env: str) -> dict[str, Any]:
        env = environment(
            active=True,
            MX_AUTOPATCH_DEVICE="soft",
            MX_AUTOPATCH_PATCHES_ONLY="torch.soft_npu",
            TORCH_CPP_LOG_LEVEL="ERROR",
            OMP_NUM_THREADS="1",
            **env,
        )
        # What torch_npu's import warns of is not the matter here.
        done = python(name, cwd=folder, env=env, timeout=300, warnings=False)
        assert not done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    with ThreadPoolExecutor(2) as pool:
        workers = pool.submit(run, "workers.py", MX_AUTOPATCH_SOFT_DEVICES="2")
        forks = pool.submit(run, "forks.py", MX_AUTOPATCH_SOFT_MEMORY="128MiB")
        return {**workers.result(), **forks.result()}


def test_workers_and_ranks_have_the_device(seen: dict[str, Any]) -> None:
    assert seen["loaded by fork"] == [2.0, 10.0]
    assert seen["loaded by spawn"] == [2.0, 10.0]
    assert seen["ranks"] == [[0, 0.0, 2], [1, 4.0, 2]]


def test_a_fork_has_the_device_unless_its_parent_has_used_it(seen: dict[str, Any]) -> None:
    assert seen["fork before"] == 2.0
    assert seen["fork after"] == (
        "Cannot re-initialize NPU in forked subprocess. To use NPU with multiprocessing, you must "
        "use the 'spawn' start method"
    )


def test_a_process_ends_as_it_means_to(seen: dict[str, Any]) -> None:
    """With tensors, a graph, streams, events and pinned memory alive, and a daemon thread."""
    assert seen["ends"] == [0, "at exit 6.0\n", ""]
    assert seen["exits"] == [3, "at exit 6.0\n", ""]
    status, stdout, stderr = seen["raises"]
    assert status == 1
    # torch_npu adds a line of its own: [ERROR] … ERR99999 UNKNOWN applicaiton exception
    assert stdout.splitlines()[-1] == "at exit 6.0"
    assert stderr.splitlines()[-1] == "ValueError: mine"


def test_expandable_segments_give_memory_back(seen: dict[str, Any]) -> None:
    # One page of the small pool remains, for the tensor that lives.
    assert seen["expandable"] == [0, f"{2 << 20}\n", ""]


def test_a_card_with_less_memory(seen: dict[str, Any]) -> None:
    status, stdout, _ = seen["small"]
    assert status == 0
    assert "out of memory. Tried to allocate 82.00 MiB (NPU 0; 128.00 MiB total" in stdout
