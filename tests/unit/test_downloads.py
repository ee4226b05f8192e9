"""Downloads from a server that interrupts, refuses and sends wrong data."""

import hashlib
import http.server
import json
import os
import re
import shutil
import threading

import pytest
from test_archives import make_tar

from attnseg.errors import UserError
from attnseg.io import space
from attnseg.io.archives import extract
from attnseg.io.downloads import download

CONTENT = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves `content` at every path but /missing; what it is asked is kept in `ranges`."""

    def __init__(self):
        self.content, self.tag = CONTENT, '"one"'
        self.cut_after = None  # bytes of each answer before the connection is closed
        self.failures = []  # statuses of the next answers
        self.honours_ranges = True
        self.ranges = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.ranges.append(asked)
        if self.failures or handler.path == "/missing":
            handler.send_error(self.failures.pop(0) if self.failures else 404)
            return
        start = 0
        fresh = handler.headers.get("If-Range", self.tag) == self.tag
        if asked and self.honours_ranges and fresh:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(self.content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(self.content)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            last = len(self.content) - 1
            handler.send_header("Content-Range", f"bytes {start}-{last}/{len(self.content)}")
        else:
            handler.send_response(200)
        body = self.content[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", self.tag)
        handler.end_headers()
        handler.wfile.write(body[: self.cut_after])


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_a_file_arrives_with_its_checksums_and_leaves_nothing_beside_it(server, tmp_path):
    md5 = hashlib.md5(CONTENT).hexdigest()
    file = download(f"{server.url}/a.tar", tmp_path / "new" / "a.tar", sha256=SHA256, md5=md5)
    assert file.read_bytes() == CONTENT
    assert [entry.name for entry in file.parent.iterdir()] == ["a.tar"]


def test_a_cut_download_goes_on_where_it_stopped(server, tmp_path):
    server.cut_after = 300_000
    download(f"{server.url}/a.tar", tmp_path / "a.tar", sha256=SHA256, wait=0.01)
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_later_run_goes_on_with_what_an_interrupted_one_left(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT[:700_000])
    download(f"{server.url}/a.tar", tmp_path / "a.tar", sha256=SHA256)
    assert server.ranges == ["bytes=700000-"]


def test_a_part_that_is_already_everything_is_not_asked_for_twice(server, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(CONTENT)
    download(f"{server.url}/a.tar", tmp_path / "a.tar", sha256=SHA256)
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_server_without_ranges_sends_it_all_again(server, tmp_path):
    server.honours_ranges = False
    (tmp_path / "a.tar.part").write_bytes(b"x" * 1000)
    download(f"{server.url}/a.tar", tmp_path / "a.tar", sha256=SHA256)


def test_a_file_that_changed_on_the_server_is_not_joined_to_its_old_half(server, tmp_path):
    server.cut_after = 300_000
    with pytest.raises(UserError):
        server.failures = []
        _interrupt_after_one(server, tmp_path)
    server.cut_after, server.tag, server.content = None, '"two"', CONTENT[::-1]
    file = download(f"{server.url}/a.tar", tmp_path / "a.tar")
    assert file.read_bytes() == CONTENT[::-1]


def _interrupt_after_one(server, tmp_path):
    """One cut answer, then nothing but errors."""
    answer = server.answer

    def first_then_fail(handler):
        if server.ranges:
            server.failures = [503]
        answer(handler)

    server.answer = first_then_fail
    try:
        download(f"{server.url}/a.tar", tmp_path / "a.tar", wait=0.01, retries=2)
    finally:
        server.answer = answer
        server.failures = []


def test_a_passing_failure_is_tried_again(server, tmp_path, capsys):
    server.failures = [503, 429]
    download(f"{server.url}/a.tar", tmp_path / "a.tar", sha256=SHA256, wait=0.01)
    assert "503" in capsys.readouterr().err


def test_attempts_that_bring_nothing_end(server, tmp_path):
    server.failures = [503] * 3
    with pytest.raises(UserError, match="503 .*3 times in a row"):
        download(f"{server.url}/a.tar", tmp_path / "a.tar", wait=0.01, retries=3)


def test_no_server_is_one_line(tmp_path):
    with pytest.raises(UserError, match="refused.*run again") as error:
        download("http://127.0.0.1:9/a.tar", tmp_path / "a.tar", wait=0.01, retries=2)
    assert "\n" not in str(error.value)


def test_not_found_is_said_at_once(server, tmp_path):
    with pytest.raises(UserError, match=r"/missing: 404 Not Found; see whether"):
        download(f"{server.url}/missing", tmp_path / "a.tar")
    assert len(server.ranges) == 1


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_a_wrong_checksum_is_refused_and_the_file_kept_aside(server, tmp_path, wrong):
    with pytest.raises(UserError, match="expected 000.*a.tar.bad"):
        download(f"{server.url}/a.tar", tmp_path / "a.tar", **wrong)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tar.bad"]
    assert (tmp_path / "a.tar.bad").read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked_and_not_downloaded(server, tmp_path):
    (tmp_path / "a.tar").write_bytes(CONTENT)
    download(f"{server.url}/a.tar", tmp_path / "a.tar", sha256=SHA256)
    (tmp_path / "a.tar").write_bytes(b"else")
    with pytest.raises(UserError, match="a.tar.bad"):
        download(f"{server.url}/a.tar", tmp_path / "a.tar", sha256=SHA256)
    assert server.ranges == []


def test_the_first_digits_of_a_checksum_are_enough(server, tmp_path):
    download(f"{server.url}/a.tar", tmp_path / "a.tar", sha256=SHA256[:8])


def test_without_a_published_checksum_the_first_download_sets_it(server, tmp_path):
    lock = tmp_path / "downloads.lock.json"
    url = f"{server.url}/a.tar"
    download(url, tmp_path / "a.tar", lock=lock)
    assert json.loads(lock.read_text())[url]["sha256"] == SHA256
    (tmp_path / "a.tar").unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(UserError, match=f"expected {SHA256} in .*lock.json"):
        download(url, tmp_path / "a.tar", lock=lock)
    assert json.loads(lock.read_text())[url]["sha256"] == SHA256


def test_a_file_larger_than_the_free_disk_is_refused_before_it_is_fetched(
    server, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"needs 1\.0 MB and 1\.0 kB are free"):
        download(f"{server.url}/a.tar", tmp_path / "a.tar")
    assert not (tmp_path / "a.tar.part").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_is_one_line(server, tmp_path):
    (tmp_path / "a.tar.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full; what has arrived is kept"):
        download(f"{server.url}/a.tar", tmp_path / "a.tar")


def test_a_tar_from_a_server_that_leads_out_is_refused(server, tmp_path):
    server.content = make_tar(tmp_path / "x", {"../evil.txt": b"evil"}).read_bytes()
    archive = download(f"{server.url}/a.tar", tmp_path / "down" / "a.tar")
    with pytest.raises(UserError, match="leads out"):
        extract(archive, tmp_path / "down" / "out")
    assert not (tmp_path / "down" / "evil.txt").exists()
