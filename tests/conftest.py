"""What every test relies on: fixed seeds, one thread, no window, no network; and other processes to train with."""

import contextlib
import functools
import importlib.metadata
import multiprocessing
import os
import pickle
import random
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Set before any test module imports the libraries that read them; child processes inherit them.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

# Where the environment forbids to keep compiled modules beside their sources, they are kept here: every process that a
# test starts would compile all libraries anew otherwise, which takes longer than what most of them do.
if sys.dont_write_bytecode and sys.pycache_prefix is None:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The same examples in every run, however slow the machine.
hypothesis.settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

# Lightning looks through all installed packages for each Trainer that it makes, of which a short run makes six. What is
# installed does not change while tests run.
importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)

SEED = 0
LONGEST = tuple(Path(__file__).parent / folder for folder in ("run", "e2e", "study"))
"""Folders of tests that train whole runs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders that take longest, so that no process ends long before another."""
    items.sort(key=lambda item: not any(item.path.is_relative_to(folder) for folder in LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole files, in their order: several processes would each make the runs that the tests of one share."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def in_a_worker() -> Callable[[Any], Any]:
    """Gives an object as torch's loader hands it to a worker process. No file is read: the bytes are made here."""
    return lambda sent: pickle.loads(pickle.dumps(sent))


@pytest.fixture(scope="session")
def noting_display() -> type:
    """A display in the place of a terminal's, which notes the texts of what is done."""
    from rich.console import Console

    class Noted:
        console = Console(quiet=True)

        def __init__(self) -> None:
            self.texts: list[str] = []

        def opened(self, work: Any, *, at_once: bool) -> None:
            self.texts.append(work.text)

        def changed(self, work: Any) -> None: ...
        def closed(self, work: Any) -> None: ...
        def told(self) -> None: ...

    return Noted


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seed the global generators of those libraries that are loaded; a test of text alone need not wait for torch."""
    random.seed(SEED)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(SEED)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(SEED)


@pytest.fixture(autouse=True)
def quick_work_is_not_told(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is told of work that takes over a second, which any may take on a machine that is busy."""
    if request.path.name != "test_progress.py":
        monkeypatch.setattr("vision_train.progress.SECONDS_UNTOLD", 1e6)


@pytest.fixture(autouse=True)
def no_digests_of_other_tests() -> None:
    """A process writes its digests of files beside a run once there are many, and all tests of one share a process."""
    if content := sys.modules.get("vision_train.data.content"):
        content.CONTENTS._new = 0


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuse connections that leave this machine; two processes still meet on the loopback address."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, loopback_only(getattr(socket.socket, name)))
    yield
    patch.undo()


def loopback_only(connect: Any) -> Any:
    """Wrap `connect` so that it raises for any address but a local socket's or the machine's own."""

    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise RuntimeError(f"a test tried to reach {address[0]}:{address[1]}; tests work without a network")
        return connect(self, address)

    return guarded


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1", socket.gethostname()) or host.startswith("127.")


LOADED = (
    *("vision_train.run.fit", "vision_train.run.evaluate", "vision_train.run.predict", "vision_train.run.preview"),
    *("vision_train.run.dry_run", "vision_train.run.inspection", "vision_train.cli", "vision_train.study.conduct"),
    *(
        f"vision_train.tasks.{task}.task"
        for task in ("classification", "pretraining", "bags", "detection", "grounding")
    ),
    # What runs import late, and what test modules import.
    *("sklearn.datasets", "sklearn.model_selection", "h5py", "hypothesis", "pytest"),
)
"""What fresh processes have imported: with all that it needs, this takes longer than most trainings of the tests."""


@pytest.fixture(scope="session")
def fresh_processes() -> BaseContext:
    """Starts processes that know nothing of this one, as ``spawn`` does, but need not import the libraries anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED])
    return context


@pytest.fixture(scope="session")
def two_processes(fresh_processes: BaseContext) -> Callable[..., None]:
    """Call ``function(rank, *args)`` in two fresh processes that meet over gloo; a child's traceback is raised here."""

    def call(function: Callable[..., None], *args: Any) -> None:
        import torch

        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_ports()), "NODE_RANK": "0"}
        processes = torch.multiprocessing.start_processes(
            _child, args=(environment, function, args), nprocs=2, join=False, start_method="forkserver"
        )
        # One that waits for a failed other in native code hears no gentle signal.
        while not processes.join(grace_period=1):
            pass

    return call


def _free_ports(count: int = 120) -> int:
    """The first of so many ports in a row that nobody listens on.

    They lie below those that systems hand out to outgoing connections, of which the processes open many. Tests that run
    beside one another look first at ports of their own, of which a test that trains every recipe needs about a hundred.
    """
    places = range(20_000, 32_000, count)
    first_choice = os.getpid() % len(places)
    for first in (*places[first_choice:], *places[:first_choice]):
        with contextlib.ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError(f"no {count} free ports in a row below 32000")


def _child(rank: int, environment: Mapping[str, str], function: Callable[..., None], args: tuple[Any, ...]) -> None:
    import torch

    os.environ |= {**environment, "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    function(rank, *args)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The Chromium of the system, driven by Playwright; tests that want it are skipped where there is none."""
    library = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (extra `browser`)")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(names)} is on the path")
    with library.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[[Path, int, str], Any]]:
    """Opens a page of a file in a window of a width, light or dark; no test passes with an error on its console."""
    pages, said = [], []

    def open_page(file: Path, width: int, scheme: str) -> Any:
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(file.resolve().as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert said == []
