"""The download against a real HTTP server on loopback (Werkzeug's), with faults on the way."""

import collections
import errno
import fcntl
import filecmp
import hashlib
import itertools
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.utils import send_file
from werkzeug.wrappers import Request, Response

from quickdraw_tfrecords.base.class_names import quickdraw_class_names
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.locks import LOCK_NAME
from quickdraw_tfrecords.sources.download import bucket, fetcher, partial_file
from quickdraw_tfrecords.sources.download.downloader import DownloadSource, download
from quickdraw_tfrecords.sources.download.provenance import read_provenance
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.writing.directory import lasting

DRAWINGS = {"The Eiffel Tower": 9001, "airplane": 3000, "zigzag": 700}
CLASSES = tuple(DRAWINGS)
STALL_SECS = 0.3
PATIENCE = {"stall_secs": STALL_SECS, "backoff_secs": 0.01}


class QuietHandler(WSGIRequestHandler):
    def log(self, *args):
        pass


class Server:
    """Serves the `.npy` files of a folder and does what `fault` says to a request.

    Attributes:
      fault: Of a request's number, from 0: what goes wrong with it, or None.
      ranges: The (name, start, stop) of each request so far.
    """

    def __init__(self, folder):
        self.folder, self.fault, self.ranges = folder, lambda number: None, []
        self._lock = threading.Lock()
        self._server = make_server(
            "127.0.0.1", 0, self._serve, threaded=True, request_handler=QuietHandler
        )
        # Without the polite end of a connection, a test can have an impolite one.
        self._server.shutdown_request = self._server.close_request
        self.url = f"http://127.0.0.1:{self._server.server_port}/bitmaps"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, environ, start_response):
        request = Request(environ)
        name = request.path.rpartition("/")[2]
        [(start, stop)] = request.range.ranges
        with self._lock:
            number = len(self.ranges)
            self.ranges.append((name.removesuffix(".npy"), start, stop))
        if not (self.folder / name).exists():
            return Response(status=404)(environ, start_response)
        response = send_file(
            self.folder / name, environ, mimetype="application/octet-stream", conditional=True
        )
        fault = self.fault(number)
        if fault is not None:
            response = fault(request, response) or response
        return response(environ, start_response)


def _half(response):
    body = b"".join(response.response)
    response.direct_passthrough = False
    return body[: len(body) // 2]


def reset(request, response):
    half = _half(response)

    def body():
        yield half
        # With no time to linger, the end of the connection is a reset.
        no_time = struct.pack("ii", 1, 0)
        request.environ["werkzeug.socket"].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_time)
        raise ConnectionResetError

    response.response = body()


def stall(request, response):
    half = _half(response)

    def body():
        yield half
        time.sleep(3 * STALL_SECS)
        raise ConnectionResetError

    response.response = body()


def truncate(request, response):
    response.response = iter([_half(response)])


def unavailable(request, response):
    return Response("later", status=503)


def too_many(request, response):
    return Response("later", status=429, headers={"Retry-After": "1"})


def shifted_range(request, response):
    start, stop = response.content_range.start, response.content_range.stop
    response.content_range.set(start + 784, stop + 784, response.content_range.length)


def no_range(request, response):
    del response.headers["Content-Range"]


def fewer_bytes(request, response):
    start, stop = response.content_range.start, response.content_range.stop
    response.response = iter([_half(response)])
    response.content_length = (stop - start) // 2
    response.content_range.set(start, start + (stop - start) // 2, response.content_range.length)


FAULTS = (reset, stall, truncate, unavailable, too_many, shifted_range, no_range, fewer_bytes)
WAITING_FAULTS = (stall, too_many)


@pytest.fixture(scope="module")
def drawings():
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (n, 784), np.uint8) for name, n in DRAWINGS.items()}


@pytest.fixture
def server(tmp_path, drawings):
    folder = tmp_path / "served"
    folder.mkdir()
    for name, rows in drawings.items():
        np.save(folder / f"{name}.npy", rows)
    server = Server(folder)
    yield server
    server.close()


def fetch(server, out_dir, classes=CLASSES, **options):
    options = {"per_class": 500, "connections": 4, "base_url": server.url} | options
    download(out_dir, classes, **PATIENCE, **options)


def assert_true_to(drawings, out_dir, *, per_class=500):
    """Each file holds, and says that it holds, `per_class` different rows of its class."""
    source = DownloadSource.open(out_dir)
    assert source.class_names == tuple(c for c in quickdraw_class_names() if c in drawings)
    for label, name in enumerate(source.class_names):
        rows = source.source_rows(label, np.arange(source.counts[label]))
        assert len(rows) == source.counts[label] == min(per_class, DRAWINGS[name])
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(np.load(out_dir / f"{name}.npy"), drawings[name][rows])


# Which rows.


@given(
    drawings=st.integers(1, 400_000),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    selection=st.sampled_from(bucket.SELECTIONS),
)
def test_rows_are_ascending_distinct_and_as_many_as_asked(drawings, share, seed, selection):
    take = max(1, int(drawings * share))
    runs = bucket.choose_rows("cat", drawings, per_class=take, selection=selection, seed=seed)
    borders = list(itertools.chain(*runs))
    assert borders == sorted(borders)
    assert all(start < stop for start, stop in runs)
    assert 0 <= borders[0] <= borders[-1] <= drawings
    assert sum(stop - start for start, stop in runs) == take


def test_spread_reaches_every_part_of_the_file_and_first_only_the_first():
    options = {"per_class": 6450, "seed": 1}
    spread = bucket.choose_rows("cat", 123_202, selection="spread", **options)
    rows = np.concatenate([np.arange(*run) for run in spread])
    by_part, _ = np.histogram(rows, bins=8, range=(0, 123_202))
    assert by_part.min() > 0.5 * by_part.mean()
    assert bucket.choose_rows("cat", 123_202, selection="first", **options) == ((0, 6450),)


def test_choice_depends_on_seed_and_class_and_never_changes():
    def choose(name="cat", seed=0):
        return bucket.choose_rows(name, 1000, per_class=40, selection="spread", seed=seed)[:3]

    # Folders fetched by an older version are only known again if this stays as it is.
    assert choose() == ((56, 61), (150, 155), (298, 303))
    assert len({choose(), choose(name="dog"), choose(seed=1)}) == 3


# What arrives.


@pytest.mark.parametrize("selection", bucket.SELECTIONS)
@pytest.mark.parametrize("connections", [1, 8])
def test_rows_equal_the_same_rows_of_the_whole_file(
    server, tmp_path, drawings, selection, connections
):
    fetch(server, tmp_path / "out", selection=selection, connections=connections)
    assert_true_to(drawings, tmp_path / "out")
    if selection == "first":
        np.testing.assert_array_equal(
            np.load(tmp_path / "out/zigzag.npy"), drawings["zigzag"][:500]
        )


def test_numpy_bitmap_reads_the_folder(server, tmp_path, drawings):
    fetch(server, tmp_path / "out", selection="first")
    source = NumpyBitmapSource.open(tmp_path / "out", ["airplane"])
    rows = np.array([0, 17, 499])
    np.testing.assert_array_equal(source.read(0, rows), drawings["airplane"][rows])


def test_numpy_bitmap_knows_the_rows_in_googles_file(server, tmp_path, drawings):
    fetch(server, tmp_path / "out")
    source = NumpyBitmapSource.open(tmp_path / "out", ["airplane"])
    rows = np.array([0, 17, 499])
    in_google = source.source_rows(0, rows)
    assert in_google[-1] > 499
    np.testing.assert_array_equal(source.read(0, rows), drawings["airplane"][in_google])
    description = source.describe()
    (tmp_path / "out/airplane.rows.jsonl").unlink()
    source = NumpyBitmapSource.open(tmp_path / "out", ["airplane"])
    np.testing.assert_array_equal(source.source_rows(0, rows), rows)
    assert source.describe() != description  # so no conversion resumes with other numbers


def test_whole_files_are_byte_equal_and_checked(server, tmp_path, caplog):
    sha256 = {
        name: hashlib.sha256((server.folder / f"{name}.npy").read_bytes()).hexdigest()
        for name in CLASSES[:2]
    }
    with caplog.at_level(logging.WARNING):
        fetch(server, tmp_path / "out", per_class=None, sha256=sha256)
    for name in CLASSES:
        assert filecmp.cmp(
            server.folder / f"{name}.npy", tmp_path / f"out/{name}.npy", shallow=False
        )
    assert "zigzag.npy: no SHA-256 is known" in caplog.text
    assert "airplane" not in caplog.text


def test_whole_file_of_another_sha256_is_refused_and_fetched_again(server, tmp_path):
    with pytest.raises(DataError, match=r"SHA-256 is .* run the same command again"):
        fetch(server, tmp_path, ["zigzag"], per_class=None, sha256={"zigzag": "0" * 64})
    assert not (tmp_path / "zigzag.npy").exists()
    fetch(server, tmp_path, ["zigzag"], per_class=None, sha256={})
    assert (tmp_path / "zigzag.npy").stat().st_size == 128 + 700 * 784


def test_more_drawings_than_the_server_has(server, tmp_path):
    with pytest.raises(UsageError, match=r"--per_class=701: 'zigzag' has 700 drawings"):
        fetch(server, tmp_path, ["zigzag"], per_class=701)


# What goes wrong and is made good.


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=pytest.mark.slow if fault in WAITING_FAULTS else ())
        for fault in FAULTS
    ],
    ids=lambda fault: fault.__name__,
)
@pytest.mark.parametrize("per_class", [500, None])
def test_fault_costs_nothing_but_time(server, tmp_path, drawings, fault, per_class):
    server.fault = lambda number: fault if number in (1, 5, 6, 7) else None
    fetch(server, tmp_path / "out", per_class=per_class, sha256={})
    assert len(server.ranges) > 8
    assert_true_to(drawings, tmp_path / "out", per_class=per_class or 10**9)


def test_storm_of_faults_and_the_description_of_calm_weather(server, tmp_path, drawings):
    fetch(server, tmp_path / "calm")
    numbers = random.Random(0)
    faults = [fault for fault in FAULTS if fault not in WAITING_FAULTS]
    server.fault = lambda number: numbers.choice(faults) if numbers.random() < 0.25 else None
    fetch(server, tmp_path / "out")
    assert_true_to(drawings, tmp_path / "out")
    fetch(server, tmp_path / "other", seed=1)
    calm, stormy, other = (
        lasting(DownloadSource.open(tmp_path / name).describe())
        for name in ("calm", "out", "other")
    )
    assert calm == stormy
    assert calm != other


def test_cut_in_mid_body_asks_only_for_what_is_missing(server, tmp_path):
    server.fault = lambda number: truncate if number == 1 else None
    fetch(server, tmp_path, ["The Eiffel Tower"], per_class=4096, selection="first")
    assert server.ranges[1] == ("The Eiffel Tower", 128, 128 + 4096 * 784)
    assert server.ranges[2] == ("The Eiffel Tower", 128 + 2048 * 784, 128 + 4096 * 784)


def test_503_for_ever_is_an_error(server, tmp_path):
    server.fault = lambda number: unavailable
    with pytest.raises(DataError, match=r"zigzag.npy: HTTP status 503 \(8 attempts\)"):
        fetch(server, tmp_path, ["zigzag"])


# What cannot be made good: a line that says what to do.


def test_no_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DataError, match=r"refused \(3 attempts\); check the network and the proxy"):
        download(tmp_path, ["cat"], base_url=f"http://127.0.0.1:{port}", **PATIENCE)


def test_class_that_is_not_there(server, tmp_path):
    with pytest.raises(DataError, match=r"ice%20cream.npy: there is no such file .*--base_url"):
        fetch(server, tmp_path, [*CLASSES, "ice cream"])


def test_server_without_ranges_is_refused_at_the_first_request(server, tmp_path):
    def whole(request, response):
        request.environ.pop("HTTP_RANGE")
        return send_file(
            server.folder / "zigzag.npy", request.environ, mimetype="application/octet-stream"
        )

    server.fault = lambda number: whole
    with pytest.raises(DataError, match=r"whole files only.*--source=numpy_bitmap"):
        fetch(server, tmp_path, ["zigzag"])
    assert len(server.ranges) == 1


def test_changed_etag_is_an_error_and_the_next_run_starts_over(server, tmp_path, drawings):
    def new_etag(request, response):
        response.set_etag("new")

    server.fault = lambda number: new_etag if number > 5 else None
    with pytest.raises(DataError, match=r"changed on the server.*run the same command again"):
        fetch(server, tmp_path, ["zigzag"])
    assert not (tmp_path / "zigzag.npy").exists()
    np.save(server.folder / "zigzag.npy", 255 - drawings["zigzag"])
    fetch(server, tmp_path, ["zigzag"])
    rows = read_provenance(tmp_path / "zigzag.npy").rows()
    np.testing.assert_array_equal(np.load(tmp_path / "zigzag.npy"), 255 - drawings["zigzag"][rows])


def test_changed_size_is_an_error(server, tmp_path):
    def longer(request, response):
        response.content_range.length += 784

    server.fault = lambda number: longer if number > 5 else None
    with pytest.raises(DataError, match="changed on the server"):
        fetch(server, tmp_path, ["zigzag"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((700, 784), np.float32), r"float32\[700, 784\].*must hold uint8"),
        (np.zeros((700, 28, 28), np.uint8), r"uint8\[700, 28, 28\].*must hold uint8"),
        (np.zeros((784, 700), np.uint8).T, "in Fortran order"),
        (np.array([{"a": "pickle"}] * 99), r"object\[99\].*must hold uint8"),
        (b"<html>Log in to the network</html>" * 99, "not a .npy file"),
        (b"\x93NUMPY\x01\x00\xff\xff" + bytes(999), "not a .npy file"),
        (b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': (\n" * 99, "not a .npy file"),
    ],
)
def test_file_of_another_form(server, tmp_path, content, message):
    path = server.folder / "zigzag.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(DataError, match=f"zigzag.npy: .*{message}"):
        fetch(server, tmp_path, ["zigzag"], per_class=10)


def test_file_cut_short_on_the_server(server, tmp_path):
    os.truncate(server.folder / "zigzag.npy", 5000)
    with pytest.raises(DataError, match="5,000 bytes, its header promises 548,928"):
        fetch(server, tmp_path, ["zigzag"], per_class=3)


def test_full_disk_is_found_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1_000_000)
    )
    with pytest.raises(DataError, match=r"needs \d[.\d]* MiB more, [.\d]+ MiB are free; make room"):
        fetch(server, tmp_path)
    assert len(server.ranges) == len(CLASSES)  # The headers.


def test_disk_that_fills_up_loses_nothing(server, tmp_path, drawings, monkeypatch):
    written, write_at = itertools.count(), partial_file._write_at

    def until_full(path, offset, data):
        if next(written) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(path, offset, data)

    monkeypatch.setattr(partial_file, "_write_at", until_full)
    (tmp_path / "out").mkdir()
    paths = [tmp_path / f"out/{name}.npy" for name in CLASSES]
    request = fetcher.DownloadRequest(server.url, 600, "spread", 0, {}, **PATIENCE)
    with pytest.raises(OSError, match=r"No space left on device: .*\.npy\.part"):
        list(fetcher.fetch(request, paths, connections=1))
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join()  # Elsewhere, the process is killed.
    monkeypatch.undo()
    before = len(server.ranges)
    fetch(server, tmp_path / "out", per_class=600)
    assert len(server.ranges) - before < 3 + 3 * 8 - 10  # What had been written was not asked for.
    assert_true_to(drawings, tmp_path / "out", per_class=600)


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "http://", "http://[::1", ""])
def test_base_url_that_is_none(tmp_path, url):
    with pytest.raises(UsageError, match="--base_url="):
        download(tmp_path, ["cat"], base_url=url)


# Again and again.


def test_second_run_makes_no_request(server, tmp_path):
    fetch(server, tmp_path)
    server.fault = lambda number: unavailable
    before = len(server.ranges)
    fetch(server, tmp_path)
    assert len(server.ranges) == before


def test_other_choice_in_the_same_folder_is_refused(server, tmp_path):
    fetch(server, tmp_path)
    for options in ({"seed": 1}, {"per_class": 501}, {"selection": "first"}, {"per_class": None}):
        with pytest.raises(UsageError, match="holds other drawings than --per_class"):
            fetch(server, tmp_path, **options)


def test_file_of_another_origin_is_never_overwritten(server, tmp_path):
    np.save(tmp_path / "zigzag.npy", np.zeros((3, 784), np.uint8))
    with pytest.raises(UsageError, match="was not fetched by this command"):
        fetch(server, tmp_path)
    assert len(np.load(tmp_path / "zigzag.npy")) == 3


def test_damaged_pieces_and_files_are_fetched_again(server, tmp_path, drawings):
    out_dir = tmp_path / "out"
    fetch(server, out_dir)
    os.truncate(out_dir / "airplane.npy", 9999)
    part = out_dir / "zigzag.npy.part"
    os.rename(out_dir / "zigzag.npy", part)
    with open(part, "r+b") as file:
        file.seek(128 + 20 * 784)
        file.write(b"damage")
    with open(out_dir / "zigzag.rows.jsonl", "a") as journal:
        journal.write("\0\0\n[66, 12")  # What a power failure may leave behind.
    before = len(server.ranges)
    fetch(server, out_dir)
    zigzag = [r for r in server.ranges[before:] if r[0] == "zigzag"]
    assert len(zigzag) == 2  # The header and one piece.
    assert_true_to(drawings, out_dir)


def test_two_downloads_into_one_folder(server, tmp_path):
    descriptor = os.open(tmp_path / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another download is writing here"):
        fetch(server, tmp_path)
    os.close(descriptor)


def command(server, out_dir, *flags):
    return [
        *(
            sys.executable,
            "-m",
            "quickdraw_tfrecords.commands.download",
            f"--out_dir={out_dir}",
            "--per_class=640",
        ),
        *(f"--base_url={server.url}", f"--classes={','.join(CLASSES)}", *flags),
    ]


def journaled(out_dir, name):
    """The source rows that the journal of a class holds so far."""
    path = out_dir / f"{name}.rows.jsonl"
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return {json.loads(line)[0] for line in lines if line.endswith("]")}


def test_killed_download_resumes_where_it_stopped(server, tmp_path, drawings):
    out_dir = tmp_path / "out"
    server.fault = lambda number: time.sleep(0.02)
    process = subprocess.Popen(command(server, out_dir), stderr=subprocess.DEVNULL)
    while len(server.ranges) < 15 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for path in out_dir.glob("*.npy"):
        assert path.stat().st_size == 128 + 640 * 784
    done = {(name, row) for name in CLASSES for row in journaled(out_dir, name)}
    before = len(server.ranges)
    subprocess.run(command(server, out_dir), check=True, capture_output=True)
    again = {(name, (start - 128) // 784) for name, start, _ in server.ranges[before:] if start}
    assert done
    assert again
    assert not done & again
    assert_true_to(drawings, out_dir, per_class=640)


def test_command_says_what_to_do_next_and_what_went_wrong(server, tmp_path):
    def run(*flags):
        line = command(server, tmp_path / "out", "--classes=zigzag", *flags)
        result = subprocess.run(line, capture_output=True, text=True, check=False)
        return result.returncode, result.stdout, result.stderr

    code, out, err = run()
    assert (code, out) == (
        0,
        f"1 classes are in {tmp_path}/out\nread them with "
        f"--source=numpy_bitmap --source_dir={tmp_path}/out\n",
    )
    assert "downloading: 100%" in err
    code, _, err = run("--per_class=many")
    assert (code, err) == (2, "error: --per_class=many: must be a whole number, or 'all'\n")
    code, _, err = run("--classes=cat")
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1


# Ways there.


def test_proxy_of_the_environment_is_used_unless_it_is_not_to_be(
    server, tmp_path, drawings, monkeypatch
):
    proxy = server.url.removesuffix("/bitmaps")
    monkeypatch.setenv("http_proxy", proxy.replace("//", "//me:secret%21@"))
    host = "http://bitmaps.invalid/quickdraw"  # Only a proxy can know this host.
    download(tmp_path / "out", CLASSES, per_class=50, base_url=host)
    assert_true_to(drawings, tmp_path / "out", per_class=50)
    monkeypatch.setenv("no_proxy", "bitmaps.invalid")
    with pytest.raises(DataError, match="not known"):
        download(tmp_path / "direct", CLASSES, per_class=50, base_url=host, **PATIENCE)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", "carrier-pigeon://loft")
    with pytest.raises(UsageError, match="http_proxy=carrier-pigeon://loft"):
        download(tmp_path / "other", CLASSES, base_url=host)


def test_https_goes_through_the_tunnel_of_a_proxy(tmp_path, monkeypatch):
    asked = []

    def refuse(listener):
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(4096).decode())
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=refuse, args=(listener,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        port = listener.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{port}")
        with pytest.raises(DataError, match=r"407 Proxy Authentication Required.*https_proxy"):
            download(tmp_path, ["cat"], base_url="https://bitmaps.invalid/x", **PATIENCE)
        for thread in threads:
            thread.join()
    assert all(text.startswith("CONNECT bitmaps.invalid:443 HTTP/1.") for text in asked)
    assert all("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n" in text for text in asked)


def test_fetcher_that_dies_is_an_error_and_nothing_is_lost(server, tmp_path, drawings):
    others = multiprocessing.active_children()  # the pool that the tests share

    def kill(request, response):
        for child in set(multiprocessing.active_children()).difference(others):
            child.kill()

    server.fault = lambda number: kill if number == 9 else None
    with pytest.raises(DataError, match=r"a worker process died.* it resumes where it stopped"):
        fetch(server, tmp_path / "out")
    server.fault = lambda number: None
    fetch(server, tmp_path / "out")
    assert_true_to(drawings, tmp_path / "out")


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_rows_from_nginx_over_connections_kept_alive(server, tmp_path, drawings):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/errors; user root;"
        f"events {{}} http {{ access_log {tmp_path}/log; server {{"
        f"listen 127.0.0.1:{port}; root {server.folder}; }} }}"
    )
    with subprocess.Popen(["nginx", "-c", config], stderr=subprocess.DEVNULL) as nginx:
        try:
            url = f"http://127.0.0.1:{port}"
            download(tmp_path / "out", CLASSES, per_class=500, base_url=url)
        finally:
            nginx.terminate()
    assert_true_to(drawings, tmp_path / "out")


# Google's files.


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_benchmark_fetches_the_same_with_curl(tmp_path):
    sparse = [sys.executable, "-m", "tools.sparse_bitmaps", f"--out_dir={tmp_path}/served"]
    subprocess.run([*sparse, "--classes=yoga"], check=True, capture_output=True)
    server = Server(tmp_path / "served")
    benchmark = [sys.executable, "-m", "tools.benchmark_download", f"--base_url={server.url}"]
    flags = ["--classes=yoga", "--rounds=1", f"--scratch_dir={tmp_path}/scratch"]
    result = subprocess.run([*benchmark, *flags], check=True, capture_output=True, text=True)
    server.close()
    assert "download / curl: " in result.stdout
    times = collections.Counter(server.ranges)
    assert len(times) == 1 + 8  # The header, and the runs of rows.
    assert set(times.values()) == {2, 4}  # Two rounds; curl looks at no header.
    assert not (tmp_path / "scratch").exists()


def test_files_of_google_are_those_of_the_345_classes():
    files = bucket.google_files()
    assert set(files) == set(quickdraw_class_names())
    assert {(file.size_bytes - 80) % 784 for file in files.values()} == {0}
    assert sum((file.size_bytes - 80) // 784 for file in files.values()) == 50_426_266


@pytest.mark.parametrize(("selection", "most"), [("first", 1.02), ("spread", 1.1)])
def test_what_a_file_of_googles_size_costs(tmp_path, selection, most):
    flags = ["--classes=panda,yoga", f"--selection={selection}", "--seed=5"]
    sparse = [sys.executable, "-m", "tools.sparse_bitmaps", f"--out_dir={tmp_path}/served"]
    subprocess.run([*sparse, *flags], check=True, capture_output=True)
    server = Server(tmp_path / "served")
    fetch(server, tmp_path / "out", ["panda", "yoga"], per_class=6450, selection=selection, seed=5)
    server.close()
    wanted = 2 * 6450 * 784
    assert wanted < sum(stop - start for _, start, stop in server.ranges) <= most * wanted
    assert len(server.ranges) <= 2 * 64
    for name in ("panda", "yoga"):
        path = server.folder / f"{name}.npy"
        assert path.stat().st_size == bucket.google_files()[name].size_bytes
        served, provenance = (
            np.load(path, mmap_mode="r"),
            read_provenance(tmp_path / f"out/{name}.npy"),
        )
        rows = np.load(tmp_path / f"out/{name}.npy")
        np.testing.assert_array_equal(rows, served[provenance.rows()])
        assert len(np.unique(rows, axis=0)) == 6450
        assert provenance.drawings == len(served)
