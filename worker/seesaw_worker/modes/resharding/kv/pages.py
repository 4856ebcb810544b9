"""The connector's worker half: copies between one rank's KV pages and the buffer.

Saves run in the step, right after the attention of each layer. Loads run in a thread of their own.
A request is scheduled only after its load has ended on every rank.
"""

import queue
import threading
import time
from collections import defaultdict

import torch
from vllm.model_executor.models.utils import extract_layer_index

from seesaw_core.errors import IntegrityError
from seesaw_core.resharding.placement import KvShard, place_kv
from seesaw_worker.devices import current_device
from seesaw_worker.modes.resharding.kv.buffer import KvBuffer, as_pages
from seesaw_worker.modes.resharding.kv.checksums import PageSums
from seesaw_worker.modes.resharding.kv.transfer import BlockCopy
from seesaw_worker.settings.engine import EngineSettings


class Pages:
    """Copies between this rank's pages and the buffer."""

    def __init__(self, settings: EngineSettings, rank: int) -> None:
        self._settings = settings
        self._shard: KvShard = place_kv(settings.layout, settings.shape)[rank]
        self._device = current_device()
        self._buffer = KvBuffer(
            settings.buffer_path,
            self._device,
            num_layers=settings.shape.num_layers,
            num_kv_heads=settings.shape.num_kv_heads,
            page_bytes=settings.page_bytes,
        )
        self._sums = PageSums(settings) if settings.verify_kv else None
        self._pools: dict[str, tuple[int, torch.Tensor]] = {}
        self._jobs: queue.SimpleQueue[BlockCopy] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._loaded: set[str] = set()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def register(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Find this rank's pages in vLLM's pool.

        Raises: IntegrityError if the pool has another layout, or layers of another rank.
        """
        heads = len(self._shard.heads)
        for name, layer_kv in kv_caches.items():
            pages = as_pages(layer_kv, num_heads=heads, page_bytes=self._settings.page_bytes)
            self._pools[name] = (extract_layer_index(name), pages)
        layers = sorted(layer for layer, _ in self._pools.values())
        expected = list(range(self._shard.layers.start, self._shard.layers.stop))
        if layers != expected:
            raise IntegrityError(f"this rank holds layers {layers}, expected {expected}")

    def save(self, layer_name: str, saves: list[BlockCopy]) -> None:
        if not saves or not self._shard.writes:
            return
        start = time.perf_counter()
        layer, pool = self._pools[layer_name]
        for copy in saves:
            self._buffer.save(
                pool,
                layer=layer,
                shard=self._shard,
                pool_blocks=copy.pool_blocks,
                buffer_blocks=copy.buffer_blocks,
            )
            if self._sums is not None:
                self._sums.write(pool, layer, self._shard, copy)
        self._seconds["save"] += time.perf_counter() - start

    def start_loads(self, loads: list[BlockCopy]) -> None:
        if loads and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="seesaw-kv-load", daemon=True)
            self._thread.start()
        for copy in loads:
            self._jobs.put(copy)

    def take_loaded(self) -> set[str]:
        """Return the requests whose loads have ended since the last call.

        Raises: IntegrityError if a load has failed.
        """
        with self._lock:
            loaded, self._loaded = self._loaded, set()
            failure = self._failure
        if failure is not None:
            raise IntegrityError("loading KV from the buffer failed") from failure
        return loaded

    def synchronize(self) -> None:
        self._device.synchronize()

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent copying so far, by direction."""
        return dict(self._seconds)

    def _run(self) -> None:
        while True:
            copy = self._jobs.get()
            try:
                self._load(copy)
            except BaseException as error:  # noqa: BLE001 - raised by the next step, which stops the engine
                with self._lock:
                    self._failure = error
                return
            with self._lock:
                self._loaded.add(copy.request_id)

    def _load(self, copy: BlockCopy) -> None:
        start = time.perf_counter()
        for layer, pool in self._pools.values():
            self._buffer.load(
                pool,
                layer=layer,
                shard=self._shard,
                buffer_blocks=copy.buffer_blocks,
                pool_blocks=copy.pool_blocks,
            )
        self._device.synchronize()
        if self._sums is not None:
            for layer, pool in self._pools.values():
                self._sums.check(pool, layer, self._shard, copy)
        self._seconds["load"] += time.perf_counter() - start
