"""The page and the API behind it: photographs in, predictions and heat out; nothing is kept but in memory."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypeVar

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from PIL import Image, ImageDraw
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp

from glaucoma import __version__
from glaucoma.base.errors import shown
from glaucoma.model.log_odds import Threshold
from glaucoma.photos.images import Unreadable, read_header
from glaucoma.predict.heat import SAYS, Heat
from glaucoma.serve.guard import Guard

__all__ = ["LIMITS", "NOTICE", "Desk", "application", "coloured"]

NOTICE = "For research. Not a medical device. Do not base decisions about a person on it."  # as on the report page


class Limits(BaseModel):
    """What a request may ask for."""

    photographs: int = Field(default=32, description="in a request")
    bytes: int = Field(default=64 * 2**20, description="of a request")
    megapixels: float = Field(default=50.0, description="of a photograph")
    seconds: float = Field(default=60.0, description="for a request to arrive, and again to be answered")
    requests: int = Field(default=16, description="at a time, one more is answered with 503")


LIMITS = Limits()
NUMBER = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
RETRY = 1  # seconds after which a client that was turned away may ask again

# cividis (Nuñez et al., PLOS ONE 13:e0199239, 2018), the colours of the report's heat, at 17 of its 256 places: the
# server does without matplotlib
CIVIDIS = (
    "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 "
    "8b8778 9a9376 aaa073 bbad6d ccba64 ddc858 efd748 fee838"
)
OPAQUE = 0.6  # over the photograph in grey, as in the report


class Row(BaseModel):
    """What is said of one photograph, as `glaucoma predict --format json` does."""

    image: str
    probability: float | None = Field(description="of abnormal, 0–1; null where the photograph cannot be read")
    log_odds: float | None
    calibrated: float | None = Field(default=None, description="the probability, calibrated; where that was fitted")
    spread: float | None = Field(default=None, description="standard deviation of the networks' probabilities")
    threshold: float = Field(description="the probability from which on the decision is abnormal")
    decision: Literal["normal", "abnormal", ""]
    fault: str = Field(description="why the photograph cannot be read; empty where it can")
    warnings: str = Field(description="poor quality, out of distribution")


class Answer(BaseModel):
    """A row for each photograph, in their order."""

    photographs: list[Row]
    notice: str = NOTICE


class Overlay(BaseModel):
    """The regions that speak for abnormal."""

    image: str
    method: str = Field(description="Grad-CAM, or occlusion: by how much the log-odds fall when a place is covered")
    note: str
    photograph: str = Field(description="data: URI of a JPEG, 512 pixels at most")
    overlay: str = Field(description="data: URI of a JPEG of the same size, blue where nothing speaks for abnormal")
    notice: str = NOTICE


class Limit(BaseModel):
    """From where on the decision is abnormal."""

    log_odds: float
    probability: float


class Model(BaseModel):
    """What predicts here."""

    name: str
    networks: int
    size: int = Field(description="pixels a side that the largest network sees")
    crop: str
    runs_on: str
    heat: str
    thresholds: dict[str, Limit]
    threshold: str = Field(description="which of them decides where none is given")
    warning: str = Field(description="what speaks against the networks; empty where nothing does")
    notice: str = NOTICE
    limits: Limits = LIMITS
    version: str = __version__


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"


class Refusal(BaseModel):
    """Why a request was refused, in a sentence."""

    detail: str


@dataclass(frozen=True)
class Desk:
    """What the server answers with.

    Attributes:
        about: the model.
        answer: rows of photographs, given with their names, at a threshold.
        heat: the heat of one photograph.
        workers: photographs that may be worked on at a time.
    """

    about: Model
    answer: Callable[[Sequence[tuple[str, bytes]], Threshold], list[dict[str, Any]]]
    heat: Callable[[bytes], Heat]
    workers: int


Found = TypeVar("Found")
REFUSALS = {
    401: "a token is needed",
    403: "from a page of another site",
    408: "it did not arrive in time",
    413: "too large",
    415: "no multipart/form-data",
    421: "asked under another name than this machine's",
    422: "not what is asked for",
    503: "too much to do: ask again after `Retry-After` seconds",
}
TOLD: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text} for status, text in REFUSALS.items()
}
ASKED: dict[int | str, dict[str, Any]] = {status: TOLD[status] for status in (401, 403, 421)}


def application(desk: Desk, *, token: str | None = None, loopback: bool = True) -> ASGIApp:
    """The server's ASGI application.

    Args:
        desk: what it answers with.
        token: what clients must know; None where anybody may ask.
        loopback: whether it listens on loopback alone.
    """
    app = FastAPI(title="glaucoma serve", version=__version__, description=NOTICE, docs_url=None, redoc_url=None)
    page, policy = _page()
    line = _Line(desk.workers, LIMITS.requests)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def _index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    @app.get("/health", responses={403: TOLD[403], 421: TOLD[421]})
    async def health() -> Health:
        """Whether the server answers."""
        return Health()

    @app.get("/model", responses=ASKED)
    async def model() -> Model:
        """What predicts here, the thresholds to choose from, and the limits of a request."""
        return desk.about

    @app.post(
        "/predict",
        response_model=Answer,
        responses=TOLD,
        openapi_extra={
            **_form("photographs", many=True),
            "parameters": [
                {
                    "name": "threshold",
                    "in": "query",
                    "description": "a name of /model, or a probability from 0 to 1",
                    "schema": {
                        "anyOf": [{"enum": list(desk.about.thresholds)}, {"type": "number", "minimum": 0, "maximum": 1}]
                    },
                }
            ],
        },
    )
    async def predict(request: Request) -> Any:
        """Predict photographs; one that cannot be read gets a row with its fault."""
        limit = _limit(request.query_params.get("threshold"), desk.about)
        return await line.through(
            request,
            "photographs",
            LIMITS.photographs,
            lambda photographs: {"photographs": _rows(desk, photographs, limit)},
        )

    @app.post("/heat", response_model=Overlay, responses=TOLD, openapi_extra=_form("photograph", many=False))
    async def heat(request: Request) -> Any:
        """Show which regions of one photograph speak for abnormal."""
        return await line.through(request, "photograph", 1, lambda photographs: _overlay(desk, *photographs[0]))

    return Guard(app, token, loopback)


class _Line:
    """A bounded queue of requests: their bodies are read only while they have a place in it.

    Args:
        workers: threads that work.
        most: requests that wait, are read or are worked on.
    """

    def __init__(self, workers: int, most: int):
        self._pool, self._free = ThreadPoolExecutor(workers), most

    async def through(
        self, request: Request, field: str, most: int, work: Callable[[list[tuple[str, bytes]]], Found]
    ) -> Found:
        """Read the photographs of a request, and what `work` makes of them in a thread.

        Raises:
            HTTPException: refused, for one of `REFUSALS`.
        """
        busy = {"Retry-After": str(RETRY)}
        if not self._free:
            with suppress(asyncio.TimeoutError):  # unread, a browser would see a broken connection, and no answer
                await asyncio.wait_for(_unread(request), LIMITS.seconds)
            raise HTTPException(503, "too many requests at a time", busy)
        self._free -= 1
        future = None
        try:
            try:
                photographs = await asyncio.wait_for(_photographs(request, field, most), LIMITS.seconds)
            except asyncio.TimeoutError:
                raise HTTPException(408, f"it took longer than {LIMITS.seconds:g} seconds to arrive") from None
            future = self._pool.submit(work, photographs)
            del photographs
            try:
                return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), LIMITS.seconds)
            except asyncio.TimeoutError:
                future.cancel()
                raise HTTPException(503, f"no answer within {LIMITS.seconds:g} seconds", busy) from None
        finally:
            loop = asyncio.get_running_loop()
            if future is None:
                self._release()
            else:  # a thread cannot be stopped: its place is free when it is
                future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))

    def _release(self) -> None:
        self._free += 1


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    """The parts of a body as they arrive.

    Raises:
        HTTPException: it is too large.
    """
    refused = HTTPException(413, f"larger than {LIMITS.bytes >> 20} MB")
    said, total = request.headers.get("content-length", ""), 0
    if said.isdecimal() and int(said) > LIMITS.bytes:
        raise refused
    async for chunk in request.stream():
        total += len(chunk)
        if total > LIMITS.bytes:
            raise refused
        yield chunk


async def _unread(request: Request) -> None:
    async for _ in _body(request):
        pass


class _InMemory(MultiPartParser):
    """Starlette's own would write photographs to temporary files."""

    spool_max_size = 0  # no limit: `_body` has one


async def _photographs(request: Request, field: str, most: int) -> list[tuple[str, bytes]]:
    """Names and contents of the files that a form holds."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, f"send multipart/form-data with files called {field}")
    try:
        form = await _InMemory(request.headers, _body(request), max_files=most, max_fields=0).parse()
    except MultiPartException as error:
        why = f"send files called {field}, {most} at most, and nothing else: {error.message}"
        raise HTTPException(422, why) from None
    found = []
    for name, file in form.multi_items():
        if name != field or not isinstance(file, UploadFile):
            raise HTTPException(422, f"send files called {field}, and nothing else")
        found.append((shown(file.filename or ""), await file.read()))
    if not found:
        raise HTTPException(422, f"send files called {field}")
    return found


def _limit(given: str | None, about: Model) -> Threshold:
    if given is None or given in about.thresholds:
        return Threshold(**about.thresholds[given or about.threshold].model_dump())
    probability = float(given) if NUMBER.fullmatch(given) else -1.0
    if not 0 <= probability <= 1:
        known = ", ".join(about.thresholds)
        raise HTTPException(422, f"the threshold {shown(given)} is neither a number from 0 to 1 nor one of {known}")
    return Threshold.of(probability)


def _rows(desk: Desk, photographs: list[tuple[str, bytes]], limit: Threshold) -> list[dict[str, Any]]:
    """A row per photograph, in order; too large ones are recognised by their headers."""
    faults = {i: fault for i, (_, content) in enumerate(photographs) if (fault := _too_large(content))}
    rows = iter(desk.answer([one for i, one in enumerate(photographs) if i not in faults], limit))
    empty = {"probability": None, "log_odds": None, "threshold": limit.probability, "decision": "", "warnings": ""}
    return [
        {"image": name, **empty, "fault": faults[i]} if i in faults else next(rows)
        for i, (name, _) in enumerate(photographs)
    ]


def _too_large(content: bytes) -> str:
    try:
        width, height = read_header(content)
    except Unreadable:
        return ""  # said when it is decoded
    millions = width * height / 1e6
    if millions <= LIMITS.megapixels:
        return ""
    return f"{width} × {height} pixels ({millions:.0f} megapixels): this server takes {LIMITS.megapixels:g} at most"


def _overlay(desk: Desk, name: str, content: bytes) -> dict[str, Any]:
    if fault := _too_large(content):
        raise HTTPException(422, f"{name}: {fault}")
    try:
        found = desk.heat(content)
    except Unreadable as fault:
        raise HTTPException(422, f"{name}: {fault}") from None
    says = "yellow at the hottest place of this picture, blue where nothing speaks for abnormal"
    if not found.heat.any():
        says = "no region speaks for abnormal"
    elif found.frames:
        says += ". The frame is what the network saw"
    return {
        "image": name,
        "method": desk.about.heat,
        "note": f"{SAYS[desk.about.heat]}: {says}.",
        "photograph": _picture(found.photograph, found.frames),
        "overlay": _picture(coloured(found), found.frames),
    }


def coloured(found: Heat) -> np.ndarray:
    """The heat in colours, as shares of its highest value, over the photograph in grey; uint8 (height, width, 3)."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in CIVIDIS.split()])
    share = found.heat / (found.heat.max() or 1.0) * (len(anchors) - 1)
    colours = np.stack([np.interp(share, range(len(anchors)), anchors[:, i]) for i in range(3)], axis=2)
    grey = found.photograph.mean(axis=2, keepdims=True)
    return (OPAQUE * colours + (1 - OPAQUE) * grey).round().astype(np.uint8)


def _picture(pixels: np.ndarray, frames: list[tuple[int, int, int, int]]) -> str:
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for x, y, wide, high in frames:
        for colour, width in (("black", 3), ("white", 1)):
            draw.rectangle((x, y, x + wide - 1, y + high - 1), outline=colour, width=width)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _page() -> tuple[str, str]:
    """The page, which holds everything itself, and the policy by which a browser runs that and nothing else."""
    own, shared = files("glaucoma.serve") / "templates", files("glaucoma.report") / "templates"
    style = (shared / "page.css").read_text("utf-8") + (own / "serve.css").read_text("utf-8")
    script = (own / "serve.js").read_text("utf-8")
    page = (own / "serve.html").read_text("utf-8")
    page = page.replace("{{ notice }}", NOTICE).replace("{{ style }}", style).replace("{{ script }}", script)
    told = {"script": script, "style": style}
    hashes = {name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for name, text in told.items()}
    allowed = [f"{name}-src 'sha256-{one}'" for name, one in hashes.items()]
    rest = "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return page, f"default-src 'none'; {'; '.join(allowed)}; {rest}"


def _form(field: str, *, many: bool) -> dict[str, Any]:
    """The body of a request, for OpenAPI."""
    one = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": one, "minItems": 1, "maxItems": LIMITS.photographs} if many else one
    schema = {"type": "object", "properties": {field: files}, "required": [field], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
