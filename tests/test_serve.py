"""`glaucoma serve`: real servers in processes of their own, asked over sockets, with the container's packages alone."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import numpy as np
import pandas as pd
import pytest
import requests
import schemathesis
import uvicorn
from conftest import ROOT, run_glaucoma
from PIL import Image
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset
from schemathesis.specs.openapi.checks import positive_data_acceptance
from trees import bomb, broken, jpeg, odd, onnx_model, photograph

from glaucoma.base import paths
from glaucoma.base.errors import WeightsError
from glaucoma.base.files import sha256_file, write_json
from glaucoma.cli.serve import desk_of
from glaucoma.evaluate.decisions import decisions
from glaucoma.evaluate.scores import predictions_table
from glaucoma.model.likeness import learn
from glaucoma.model.log_odds import Threshold
from glaucoma.serve.app import LIMITS, NOTICE, Desk, Limit, Model, application
from glaucoma.serve.guard import is_loopback

# The command `glaucoma` as the container has it: no package but those of its lock, and every file that it opens to
# write is named on standard error
ALONE = """
import os, re, sys
from importlib.metadata import packages_distributions
from pathlib import Path

plain = lambda name: re.sub(r"[-_.]+", "-", name).lower()
lock = re.findall(r"^([\\w.-]+)==", Path(sys.argv.pop(1)).read_text(), flags=re.MULTILINE)
known, there = {plain(name) for name in lock} | {"glaucoma"}, packages_distributions()
known.add("pylibjpeg-libjpeg")  # a plug-in: installed, pylibjpeg finds its entry point and imports it

class Absent:
    def find_spec(self, name, path=None, target=None):
        packages = there.get(name.split(".")[0], ())
        if packages and not known & set(map(plain, packages)):
            raise ModuleNotFoundError(f"the container has no {name}", name=name)

def written(event, arguments):
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        os.write(2, f"WRITES {arguments[0]!r}\\n".encode())

assert not {"tensorflow", "keras"} & known
sys.meta_path.insert(0, Absent())
sys.addaudithook(written)
from glaucoma.cli import main
main()
"""


class Server:
    """A running server: its address with token, and what it has said so far."""

    def __init__(self, process: subprocess.Popen, printed: list[str], errors: Path):
        self.process, self.printed, self._errors = process, printed, errors
        self.url, _, self.token = printed[-1].split()[0].partition("/#token=")
        self.url = self.url.rstrip("/").replace("0.0.0.0", "127.0.0.1")
        self.host, self.port = urlsplit(self.url).hostname, urlsplit(self.url).port

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def post(self, path: str, files: list[tuple[str, bytes]] | None = None, field: str = "photographs", **options):
        parts = [(field, (name, content, "application/octet-stream")) for name, content in files or []]
        return requests.post(self.url + path, files=parts or None, timeout=60, **options)

    def get(self, path: str, **options):
        return requests.get(self.url + path, timeout=60, **options)


def command(*words: object) -> list[str]:
    """`glaucoma serve` as the container has it."""
    return [sys.executable, "-c", ALONE, str(ROOT / "requirements-serve.lock"), "serve", *map(str, words)]


@contextmanager
def serving(cwd: Path, *words: object, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Start a server in a folder; it is stopped by Ctrl-C, and its exit code must be 0."""
    errors = cwd / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            command(*words, "--port", "0"),
            cwd=cwd,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "Ctrl-C" in line:
                break
        assert printed, errors.read_text()
        assert "Ctrl-C" in printed[-1], errors.read_text()
        yield Server(process, printed, errors)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, errors.read_text()
    finally:
        process.kill()
        process.stdout.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classifiers as ONNX; the first is the export of a `.keras` file beside it, which nothing may need to load."""
    top = tmp_path_factory.mktemp("serve") / "models"
    likeness = learn(np.stack([np.asarray(photograph(seed, size=32)) for seed in range(40)]), np.arange(40))
    onnx_model(top / "fold2.onnx", 2, threshold=0.4, likeness=likeness.as_dict())
    twin = top.parent / "twin/fold1.keras"
    twin.parent.mkdir()
    twin.write_bytes(b"no network")
    for home in (top, twin.parent):
        onnx_model(home / "fold1.onnx", 1, threshold=0.4, keras_sha256=sha256_file(twin), likeness=likeness.as_dict())
    return top


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), models.parent / "twin/fold1.keras") as found:
        yield found


def rows(answer: requests.Response) -> list[dict]:
    assert answer.status_code == 200, answer.text
    return answer.json()["photographs"]


def test_what_it_says_of_photographs_is_what_predict_says_also_by_several_networks(models, server, tmp_path, capsys):
    contents = {f"{i}.jpg": jpeg(i, size=80) for i in range(3)} | {"noise.png": b"no image", "grey.png": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    names = [tmp_path / name for name in contents]
    with serving(tmp_path, models) as both:
        for model, one in ((models / "fold1.onnx", server), (models, both)):
            capsys.readouterr()
            assert run_glaucoma("predict", model, *names, "--format", "json") == 3
            expected = json.loads(capsys.readouterr().out)
            found = rows(one.post("/predict", list(contents.items())))
            for row, wanted in zip(found, expected, strict=True):
                wanted["image"] = Path(wanted["image"]).name
                assert {key: row[key] for key in wanted} == pytest.approx(wanted, abs=1e-6)
        assert both.get("/model").json()["networks"] == 2
    assert server.get("/model").json()["runs_on"] == "ONNX"


def test_a_project_s_ensemble_has_its_calibration_and_thresholds_by_name(tmp_path):
    abnormal, log_odds = np.tile([True] * 4 + [False] * 4, 5), np.tile(np.arange(8.0) - 4, 5)
    tables = [
        predictions_table([f"{split}{i}" for i in range(40)], abnormal, log_odds=log_odds).assign(
            split=split, fold=fold
        )
        for fold in range(2)
        for split in ("test", "valid")
    ]
    for fold in range(2):
        onnx_model(tmp_path / f"models/crossval/fold{fold}.onnx", fold)
    write_json(tmp_path / paths.SUMMARY / "decision.json", decisions(pd.concat(tables), 1.0))
    with serving(tmp_path, "crossval", "--threshold", "youden") as one:
        about = one.get("/model").json()
        assert (about["networks"], about["threshold"]) == (2, "youden")
        assert {"fixed", "youden", "least_cost"} <= set(about["thresholds"])
        (row,) = rows(one.post("/predict", [("eye.jpg", jpeg(1))]))
        assert row["threshold"] == about["thresholds"]["youden"]["probability"]
        assert row["calibrated"] not in (None, row["probability"])
        assert row["spread"] > 0
        (other,) = rows(one.post("/predict?threshold=least_cost", [("eye.jpg", jpeg(1))]))
        assert other["threshold"] == about["thresholds"]["least_cost"]["probability"]


def test_dicom_is_read_and_no_word_of_its_header_is_told(server):
    eye = np.asarray(photograph(1, size=64))
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.OphthalmicPhotography8BitImageStorage
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.Rows, data.Columns, data.Modality = "Gallows^Ann", 64, 64, "OP"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = eye.tobytes()
    whole, png = io.BytesIO(), io.BytesIO()
    data.save_as(whole, enforce_file_format=True)
    Image.fromarray(eye).save(png, "PNG")
    files = [("eye.dcm", whole.getvalue()), ("eye.png", png.getvalue()), ("cut.dcm", whole.getvalue()[:5000])]
    answer = server.post("/predict", files)
    first, second, cut = rows(answer)
    assert first["log_odds"] == second["log_odds"]
    assert cut["fault"]
    assert server.post("/heat", files[:1], "photograph").status_code == 200
    assert "Gallows" not in answer.text + server.errors


def test_each_hostile_file_gets_a_sentence_and_nothing_is_written(server):
    bad, strange = dict(broken()), dict(odd())
    everything = list({**bad, **strange}.items())
    found = []
    for start in range(0, len(everything), LIMITS.photographs):
        found += rows(server.post("/predict", everything[start : start + LIMITS.photographs]))
    for (name, content), row in zip(everything, found, strict=True):
        assert bool(row["fault"]) is (name in bad), name
        assert (row["probability"] is None) is (name in bad), name
        refused = server.post("/heat", [(name, content)], "photograph")
        assert refused.status_code == (422 if name in bad else 200), (name, refused.text)
    (row,) = rows(server.post("/predict", [("large.png", bomb(9000, 9000))]))
    assert row["fault"] == "9000 × 9000 pixels (81 megapixels): this server takes 50 at most"
    assert "Traceback" not in server.errors
    assert "WRITES" not in server.errors


@pytest.mark.parametrize(
    ("path", "request_", "status", "says"),
    [
        ("/predict", {"files": [("eye.jpg", b"x")] * (LIMITS.photographs + 1)}, 422, "32 at most"),
        ("/predict", {"files": [("eye.jpg", b"x")], "field": "images"}, 422, "files called photographs"),
        ("/predict", {"data": b"x", "headers": {"Content-Type": "image/jpeg"}}, 415, "multipart/form-data"),
        ("/predict", {"data": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "boundary"),
        ("/predict?threshold=2", {"files": [("eye.jpg", b"x")]}, 422, "neither a number from 0 to 1 nor one of own"),
        ("/predict?threshold=nan", {"files": [("eye.jpg", b"x")]}, 422, "the threshold nan"),
        ("/heat", {"files": [("eye.jpg", b"x")] * 2, "field": "photograph"}, 422, "1 at most"),
        ("/heat", {"files": [("eye.jpg", b"x")], "field": "photograph"}, 422, "eye.jpg: no image"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_in_a_sentence(server, path, request_, status, says):
    answer = server.post(path, **request_)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


def test_a_body_that_is_too_large_is_refused_before_it_is_read_or_while(server):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(LIMITS.bytes + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413

    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="photographs"; filename="a.jpg"\r\n\r\n'
        for _ in range(LIMITS.bytes // 2**20 + 1):
            yield bytes(2**20)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = requests.post(f"{server.url}/predict", data=pieces(), headers=headers, timeout=60)
        assert answer.status_code == 413
    except requests.ConnectionError:  # it hung up while the rest was still being sent
        pass
    assert server.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize("threshold", ["fixed", "own", "0", "1", "0.3", "1e-05"])
def test_the_threshold_decides_and_is_the_model_s_own_by_default(server, threshold):
    eye = [("eye.jpg", jpeg(1))]
    (row,) = rows(server.post(f"/predict?threshold={threshold}", eye))
    limit = {"fixed": 0.5, "own": 0.4}.get(threshold) or float(threshold)
    assert row["threshold"] == limit
    assert row["decision"] == ("abnormal" if row["probability"] >= limit else "normal")
    (row,) = rows(server.post("/predict", eye))
    assert row["threshold"] == 0.4


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "["}, 421),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_sites_get_nothing_done(server, headers, status):
    answer = server.post("/predict", [("eye.jpg", jpeg(1))], headers=headers)
    assert answer.status_code == status, answer.text
    same = {"Origin": server.url}
    assert server.post("/predict", [("eye.jpg", jpeg(1))], headers=same).status_code == 200
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


def test_what_is_loopback():
    loopback = ["localhost", "127.0.0.1", "127.8.8.8", "::1"]
    assert [is_loopback(host) for host in loopback] == [True] * 4
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.example.org"]))


@pytest.mark.workflow
@pytest.mark.slow
def test_any_other_address_than_loopback_asks_for_the_token(models, tmp_path):
    eye = [("eye.jpg", jpeg(1))]
    for given in ("", "sixteen-letters-and-more"):
        environment = {"GLAUCOMA_TOKEN": given}
        with serving(tmp_path, models / "fold1.onnx", "--host", "0.0.0.0", environment=environment) as one:
            assert len(one.token) >= 16
            assert given in ("", one.token)
            for path in ("/model", "/openapi.json", "/nothing"):
                answer = one.get(path)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            for wrong in ("", "Bearer", "Bearer wrong", f"Basic {one.token}", f"Bearer {one.token}x", "Bearer é"):
                headers = {"Authorization": wrong.encode()}
                assert one.post("/predict", eye, headers=headers).status_code == 401
            right = {"Authorization": f"Bearer {one.token}"}
            assert rows(one.post("/predict", eye, headers=right))
            assert (one.get("/").status_code, one.get("/health").status_code) == (200, 200)
            assert "Not encrypted" in one.errors


@pytest.mark.parametrize(
    ("words", "environment", "code", "says"),
    [
        (["fold9"], {}, 5, "there is no model fold9"),
        (["MODEL", "--threshold", "youden"], {}, 2, "there is no threshold youden"),
        (["MODEL", "--threshold", "7"], {}, 2, "--threshold is 7"),
        (["MODEL", "--host", "192.0.2.1"], {}, 1, "cannot listen on 192.0.2.1"),
        (["MODEL", "--port", "99999"], {}, 1, "cannot listen on"),
        (["MODEL"], {"GLAUCOMA_TOKEN": "short"}, 2, "16 plain characters"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(models, words, environment, code, says, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = [str(models / "fold1.onnx") if word == "MODEL" else word for word in words]
    assert run_glaucoma("serve", *words) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "path",
    ["/fold1.keras", "/../fold1.keras", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/static/..%2fapp.py"],
)
def test_no_file_can_be_asked_for(server, path):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())) == (404, {"detail": "Not Found"})


def test_without_keras_a_model_that_is_not_exported_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "one.keras").write_bytes(b"no network")
    done = subprocess.run(command(tmp_path / "one.keras"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: one.keras needs Keras, and h5py is not installed\n  → write it as ONNX" in done.stderr
    assert "Traceback" not in done.stderr


def test_more_requests_than_there_are_places_are_turned_away_until_one_is_free(server):
    def half() -> socket.socket:
        one = socket.create_connection((server.host, server.port))
        head = f"POST /predict HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        one.sendall(f"{head}Content-Length: 100\r\n\r\n--x".encode())
        return one

    with ExitStack() as stack:
        for _ in range(LIMITS.requests):
            stack.enter_context(half())
        answer = server.post("/predict", [("eye.jpg", jpeg(1))])
        for _ in range(100):  # until the server has seen them all
            if answer.status_code == 503:
                break
            answer = server.post("/predict", [("eye.jpg", jpeg(1))])
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["detail"] == "too many requests at a time"
        assert server.get("/health").status_code == 200
    for _ in range(100):  # until it has noticed that they are gone
        if (answer := server.post("/predict", [("eye.jpg", jpeg(1))])).status_code == 200:
            break
    assert rows(answer)
    assert "Traceback" not in server.errors


@pytest.fixture
def slow() -> Iterator[tuple[int, threading.Event]]:
    """A server in this process whose model takes until the event, with half a second for everything."""
    free, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))
    about = Model(
        name="slow",
        networks=1,
        size=32,
        crop="none",
        runs_on="ONNX",
        heat="occlusion",
        thresholds={"fixed": Limit(log_odds=0, probability=0.5)},
        threshold="fixed",
        warning="",
    )

    def answer(photographs: list[tuple[str, bytes]], limit: Threshold) -> list[dict]:
        free.wait()
        known = {
            "probability": 0.1,
            "log_odds": -2.2,
            "threshold": 0.5,
            "decision": "normal",
            "fault": "",
            "warnings": "",
        }
        return [{"image": name, **known} for name, _ in photographs]

    desk = Desk(about, answer, lambda content: None, workers=1)
    before, LIMITS.seconds = LIMITS.seconds, 0.5
    server = uvicorn.Server(uvicorn.Config(application(desk), lifespan="off", ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1], free
    free.set()
    server.should_exit = True
    thread.join()
    listener.close()
    LIMITS.seconds = before


def test_what_does_not_arrive_or_end_in_time_is_given_up_and_keeps_its_place_as_long_as_it_works(slow):
    port, free = slow
    url, eye = f"http://127.0.0.1:{port}", {"photographs": ("eye.jpg", b"x")}
    with socket.create_connection(("127.0.0.1", port)) as one:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        one.sendall(f"{head}Content-Length: 100\r\n\r\n--x".encode())
        assert b" 408 " in one.recv(200)
    late = [requests.post(f"{url}/predict", files=eye, timeout=60) for _ in range(2)]
    assert [answer.status_code for answer in late] == [503] * 2
    assert [answer.json()["detail"] for answer in late] == ["no answer within 0.5 seconds"] * 2
    assert requests.get(f"{url}/health", timeout=60).status_code == 200
    free.set()
    for _ in range(100):
        if requests.post(f"{url}/predict", files=eye, timeout=60).status_code == 200:
            break
    else:
        raise AssertionError("no place became free")


def test_heat_is_two_pictures_of_one_size_and_a_sentence(server):
    answer = server.post("/heat", [("eye.jpg", jpeg(1, size=640))], "photograph")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    sizes = []
    for name in ("photograph", "overlay"):
        head, _, content = found[name].partition(",")
        assert head == "data:image/jpeg;base64"
        sizes.append(Image.open(io.BytesIO(base64.b64decode(content))).size)
    assert sizes == [(512, 512)] * 2
    assert found["method"] == "occlusion"
    assert found["note"].startswith("Occlusion, ")
    assert found["notice"] == NOTICE


def test_the_page_holds_everything_itself_and_its_policy_allows_just_that(server):
    answer = server.get("/")
    assert "{{" not in answer.text
    assert NOTICE in answer.text
    assert not re.search(r"https?://|@import|\bsrc=|onclick=", answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    for name in ("script", "style"):
        (text,) = re.findall(rf"<{name}>(.*?)</{name}>", answer.text, flags=re.DOTALL)
        assert f"{name}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy


def test_an_export_of_another_file_is_not_taken_for_the_model(models, tmp_path, capsys):
    twin = models.parent / "twin/fold1.keras"
    about = desk_of(str(twin), "0.7").about
    assert (about.runs_on, about.heat, about.threshold) == ("ONNX", "occlusion", "chosen")
    for name in ("fold1.onnx", "fold1.onnx.json"):
        (tmp_path / name).write_bytes((twin.parent / name).read_bytes())
    (tmp_path / "fold1.keras").write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"fold1\.keras"):
        desk_of(str(tmp_path / "fold1.keras"))
    assert "fold1.onnx was not made from" in capsys.readouterr().err


@pytest.fixture(scope="module")
def schema(server: Server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize(
    ("asked", "mode"),
    [
        ("GET /health", "positive"),  # without a parameter there is nothing to get wrong
        ("GET /model", "positive"),
        ("POST /predict", "positive"),
        ("POST /predict", "negative"),
        ("POST /heat", "positive"),
        ("POST /heat", "negative"),
    ],
)
def test_whatever_is_asked_the_answer_is_one_that_openapi_promises(server, schema, asked, mode):
    method, path = asked.split()

    @hypothesis.given(case=schema[path][method].as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    @hypothesis.settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        # OpenAPI knows bytes, no photographs: of most there is no heat
        case.call_and_validate(excluded_checks=[positive_data_acceptance] if asked == "POST /heat" else [])

    ask()
    assert "Traceback" not in server.errors
