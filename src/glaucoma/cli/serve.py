"""`glaucoma serve`: a page on this machine to drop photographs on, and the API behind it."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from joblib import cpu_count

from glaucoma.base.errors import GlaucomaError, ParamsError, many, shown
from glaucoma.base.files import sha256_file
from glaucoma.cli.predict import MODEL, answering, by_name, number, thresholds_of

if TYPE_CHECKING:
    from glaucoma.serve.app import Desk

__all__ = ["add", "desk_of"]

TOKEN = "GLAUCOMA_TOKEN"  # noqa: S105 - the variable's name
SHORTEST = 16  # characters of a token
INSTALL = "pip install 'glaucoma[serve]'"
CHOSEN = "chosen"  # a threshold given as a number, among those to choose from


def add(commands: argparse._SubParsersAction) -> None:
    """Register `serve`."""
    about = "serve a page to drop photographs on, and an API; for research, not a medical device"
    more = (
        "Photographs stay in memory and are never written. A model with an ONNX export beside it runs without "
        f"TensorFlow. On any other address than loopback clients need a token: that of {TOKEN}, or a new one, which "
        f"is printed. Needs {INSTALL}."
    )
    serve = commands.add_parser("serve", help=about, description=f"{about[0].upper()}{about[1:]}. {more}")
    serve.add_argument("model", metavar="MODEL", help=MODEL)
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="0 takes any free one (default: %(default)s)")
    what = "the threshold that the page begins with, as in `predict` (default: the model's own, or fixed)"
    serve.add_argument("--threshold", metavar="T", help=what)
    serve.set_defaults(work=_serve)


def _serve(given: argparse.Namespace) -> None:
    """Serve until Ctrl-C.

    Raises:
        GlaucomaError: the packages are not installed, or the address cannot be listened on.
        ParamsError: a token too short, or a threshold that cannot be used.
        WeightsError: no such model.
    """
    try:
        import python_multipart  # noqa: F401
        import uvicorn

        from glaucoma.serve.app import NOTICE, application
        from glaucoma.serve.guard import is_loopback
    except ImportError as error:
        raise GlaucomaError(f"glaucoma serve needs {error.name}, which is not installed", INSTALL) from None
    from glaucoma.base.progress import silent

    token, loopback = os.environ.get(TOKEN) or None, is_loopback(given.host)
    if token is not None and (len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token):
        remedy = "python -c 'import secrets; print(secrets.token_urlsafe())' prints one"
        raise ParamsError(f"{TOKEN} must have {SHORTEST} plain characters or more", remedy)
    if token is None and not loopback:
        token = secrets.token_urlsafe()
    silent()
    desk = desk_of(given.model, given.threshold)
    with _listening(given.host, given.port) as listener:
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (
            f"#token={quote(token, safe='')}" if token else ""
        )
        about = desk.about
        print(f"{about.name}: {many(about.networks, 'network')}, {about.size} px, {about.runs_on}. {NOTICE}")
        if about.warning:
            print(f"WARNING: {about.warning}", file=sys.stderr)
        if not loopback:
            print("Not encrypted: put a proxy with TLS before it, where others share the network.", file=sys.stderr)
        print(f"{url}   (Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(
            application(desk, token=token, loopback=loopback),
            http="h11",
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_level="warning",
            access_log=False,  # who sent what is nobody's business
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        with suppress(KeyboardInterrupt):  # uvicorn has shut down by then
            uvicorn.Server(config).run(sockets=[listener])


def desk_of(name: str, threshold: str | None = None) -> Desk:
    """What the server answers with, for a model as `predict` names it; it has predicted once and is warm.

    Raises:
        GlaucomaError: it needs Keras, which is not installed.
        ParamsError: a threshold that cannot be used.
        WeightsError: no such model.
    """
    limit = number(threshold) if threshold else None
    from glaucoma.model.log_odds import Threshold
    from glaucoma.model.portable import Runner
    from glaucoma.predict.heat import heat_of_photograph, heats
    from glaucoma.predict.homes import decision_for, home_of
    from glaucoma.predict.inference import find_models, load_classifier, warned
    from glaucoma.serve.app import LIMITS, Desk, Limit, Model

    models = find_models(name)
    title = shown(Path(name).name or name)
    if threshold and limit is None:
        by_name(threshold, models)  # says which there are
    entry, why = decision_for(models)
    if entry is None and home_of(models):
        print(f"calibration and thresholds by name are left out: {why}", file=sys.stderr)
    try:
        loaded = [load_classifier(path) for path in _exported(models)]
    except ImportError as error:  # in the container
        remedy = "write it as ONNX with `glaucoma export` where Keras is installed, and serve that"
        raise GlaucomaError(f"{title} needs Keras, and {error.name} is not installed", remedy) from None
    limits = thresholds_of(models, loaded)
    if limit and threshold not in limits:
        limits, threshold = {CHOSEN: limit, **limits}, CHOSEN
    method, explain = heats(loaded)
    portable = all(isinstance(one.network, Runner) for one in loaded)
    answer = answering(models, loaded, LIMITS.megapixels)
    answer([("blank", _blank())], Threshold.of(0.5))
    about = Model(
        name=title,
        networks=len(loaded),
        size=max(one.size for one in loaded),
        crop=loaded[0].crop,
        runs_on="ONNX" if portable else "Keras",
        heat=method,
        thresholds={key: Limit(**one._asdict()) for key, one in limits.items()},
        threshold=threshold or next(iter(limits)),
        warning=warned([replace(one, path=Path(title)) for one in loaded]),
    )

    def heat(content: bytes):
        return heat_of_photograph(loaded, explain, content, max_megapixels=LIMITS.megapixels)

    return Desk(about, answer, heat, workers=cpu_count() if portable else 1)  # Keras predicts in one thread at a time


def _exported(models: list[Path]) -> list[Path]:
    """For each model its ONNX export beside it, if that was made from the file as it is now."""
    from glaucoma.model.portable import SUFFIX
    from glaucoma.model.sidecar import read_sidecar

    chosen = []
    for path in models:
        twin = path.with_suffix(SUFFIX)
        if path != twin and twin.is_file():
            if read_sidecar(twin).get("keras_sha256") == sha256_file(path):
                path = twin
            else:
                what = f"{shown(twin)} was not made from {shown(path)} as it is now"
                print(f"WARNING: {what}: Keras is used; `glaucoma export` writes it again", file=sys.stderr)
        chosen.append(path)
    return chosen


def _blank() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (256, 256), "grey").save(file, "PNG")
    return file.getvalue()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        remedy = "name another with --host and --port; --port 0 takes any free one"
        raise GlaucomaError(f"cannot listen on {shown(host)}, port {port}: {error}", remedy) from None
