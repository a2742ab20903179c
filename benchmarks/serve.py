"""`glaucoma serve` from ONNX: the latency of one photograph alone, then fifty clients at a time for a minute.

The server is a process of its own, the clients are threads here: on two cores they take some of its time. A client that
is turned away with 503 asks again after as many seconds as `Retry-After` says. Clients send photographs of noise, which
are the slowest to decode.

python benchmarks/serve.py > benchmarks/serve.md
"""

from __future__ import annotations

import http.client
import io
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from measuring import SEED, Row, Scale, machine, main, run_part
from PIL import Image

__all__ = ["measure"]

ALONE = 100  # requests, one after the other
CLIENTS, SECONDS = 50, 60.0
WARM = 0.25  # share of the time after which memory is first looked at
SERVE = "from glaucoma.cli import main; main()"


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Serve EfficientNetLite0 with random weights as ONNX, and ask."""
    run_part("export", _export, folder, scale, alone=not scale.tiny)
    clients, seconds, alone = (8, 2.0, 5) if scale.tiny else (CLIENTS, SECONDS, ALONE)
    body = _form(_photograph(scale.photograph))
    with _server(folder / "network.onnx") as (process, port):
        single = sorted(_asked(port, body)[1] for _ in range(alone))
        counts, times, early, late = _storm(process.pid, port, body, clients, seconds)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(counts.items()))
    asked = f"{clients} clients for {seconds:g} s on loopback"
    what = "serving a photograph"
    by = f"{scale.photograph} px JPEG, quality checks and likeness, EfficientNetLite0 at {scale.size} px"
    slow = f"median of {alone}, one after the other; 95 % within {1000 * single[int(0.95 * alone)]:.0f} ms"
    strange = {status for status in counts if status not in (200, 503)}
    return [
        Row(what, "s", None, float(np.median(single)), f"{by}; {slow}", ours_aim=0.15),
        Row(
            f"{what}, {clients} clients",
            "images/s",
            None,
            counts[200] / seconds,
            f"{asked}: {answers}; median latency of an answer {1000 * np.median(times):.0f} ms",
            "nothing but 200 and 503" if not strange else f"also {sorted(strange)}",
        ),
        Row(
            f"{what}, memory after {clients} clients",
            "GB",
            None,
            late,
            f"resident at the end; {early:.3f} GB after {WARM:.0%} of the time",
            ours_aim=1.05 * early,
        ),
    ]


def _export(folder: Path, scale: Scale) -> dict[str, Any]:
    from glaucoma.model.artifacts import save_model
    from glaucoma.model.backbones import build_backbone
    from glaucoma.model.likeness import learn
    from glaucoma.model.network import CLASSES, build_network
    from glaucoma.predict.conversion import export_model

    size = scale.size
    pixels = np.random.default_rng(SEED).integers(0, 256, (40, size, size, 3), dtype=np.uint8)
    card = {"classes": list(CLASSES), "likeness": learn(pixels, np.arange(len(pixels))).as_dict()}
    network = build_network(build_backbone("EfficientNetLite0", size, "none"), dropout=0.2, seed=SEED)
    save_model(network, folder / "network.keras", card)
    export_model(folder / "network.keras", folder / "network.onnx")
    return {}


@contextmanager
def _server(model: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    command = [sys.executable, "-c", SERVE, "serve", str(model), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = next(line for line in process.stdout if line.startswith("http"))
        yield process, urlsplit(address.split()[0]).port
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _storm(
    pid: int, port: int, body: bytes, clients: int, seconds: float
) -> tuple[Counter[int], list[float], float, float]:
    """Answers by status, seconds of those that were 200, and resident memory in GB, after the start and at the end."""
    counts, times, end = Counter(), [], time.monotonic() + seconds
    lock = threading.Lock()

    def client() -> None:
        while time.monotonic() < end:
            status, took, retry = _asked(port, body)
            with lock:
                counts[status] += 1
                if status == 200:
                    times.append(took)
            if status == 503:
                time.sleep(retry)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for one in threads:
        one.start()
    time.sleep(WARM * seconds)
    early = _resident(pid)
    for one in threads:
        one.join()
    return counts, times, early, _resident(pid)


def _asked(port: int, body: bytes) -> tuple[int, float, float]:
    """Status, seconds, and after how many to ask again."""
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/predict", body, {"Content-Type": "multipart/form-data; boundary=photograph"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, time.perf_counter() - begin, float(answer.headers.get("Retry-After", 0))


def _form(content: bytes) -> bytes:
    head = b'--photograph\r\nContent-Disposition: form-data; name="photographs"; filename="eye.jpg"\r\n\r\n'
    return head + content + b"\r\n--photograph--\r\n"


def _photograph(side: int) -> bytes:
    noise = np.random.default_rng(SEED).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=90)
    return file.getvalue()


def _resident(pid: int) -> float:
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)  # noqa: S607
    return int(told.stdout) * 1024 / 1e9


if __name__ == "__main__":
    main(__doc__, measure, export=_export)
    if "--part" not in sys.argv:
        about = machine()
        where = f"{about['processor']}, {about['cores']} cores (load {about['load']} at the end)"
        print(f"\n{where}, onnxruntime {version('onnxruntime')}; random weights.")
